import type { Arena, Cell } from '../engine/cells.ts';
import { engineState, type EngineState } from '../engine/state.ts';

/** Why `run` returned. */
export const stopReasons = ['running', 'budget', 'wfi', 'crash', 'halted', 'event', 'breakpoint'] as const;
export type StopReason = Exclude<(typeof stopReasons)[number], 'running'>;
export const stopCode = (reason: StopReason): number => stopReasons.indexOf(reason);

/** Bits of mstatus (privileged ISA §3.1.6). */
// prettier-ignore
export const status = {
  SIE: 1n << 1n, MIE: 1n << 3n, SPIE: 1n << 5n, MPIE: 1n << 7n, SPP: 1n << 8n, MPP: 3n << 11n, FS: 3n << 13n,
  MPRV: 1n << 17n, SUM: 1n << 18n, MXR: 1n << 19n, TVM: 1n << 20n, TW: 1n << 21n, TSR: 1n << 22n,
  UXL: 2n << 32n, SXL: 2n << 34n, SD: 1n << 63n,
} as const;

/** Exception causes (privileged ISA §3.1.15). */
// prettier-ignore
export const causes = {
  fetchAccess: 1, illegal: 2, breakpoint: 3, loadMisaligned: 4, loadAccess: 5, storeMisaligned: 6, storeAccess: 7,
  ecall: 8, fetchPage: 12, loadPage: 13, storePage: 15,
} as const;

/**
 * Cells that a snapshot leaves out: they follow from others, belong to a debugger or to the machine's configuration, or
 * mean something only while an instruction or a page of predecoded code is at hand.
 */
export const unsavedCells: ReadonlySet<string> = new Set([
  'bank', 'fetchBank', 'pageIp', 'pcPage', 'fault', 'physical', 'busValue', 'foreignWrites', 'watchPage',
  'nsPerInstruction', 'catchesBreakpoints', 'translated',
]); // prettier-ignore

export const superBits = 1024;

/** All that a hart is, at fixed addresses of linear memory. */
export interface HartState extends EngineState {
  /** x0 … x31, and a 33rd that takes what is written to x0. */
  readonly x: number;
  readonly f: number;
  readonly priv: Cell<'i32'>;
  readonly fflags: Cell<'i32'>;
  readonly frm: Cell<'i32'>;
  /** Host address of the reservation + 1 for a doubleword, or 0. */
  readonly reservation: Cell<'i32'>;
  readonly cause: Cell<'i64'>;
  readonly tval: Cell<'i64'>;
  readonly mstatus: Cell<'i64'>;
  readonly mie: Cell<'i64'>;
  /** Interrupt bits that software sets, and those that wires set. */
  readonly softPending: Cell<'i64'>;
  readonly wiredPending: Cell<'i64'>;
  readonly satp: Cell<'i64'>;
  readonly menvcfg: Cell<'i64'>;
  readonly stimecmp: Cell<'i64'>;
  /** Virtual time is timeBase + (retired - timeFrom) * nsPerInstruction, ns. */
  readonly timeBase: Cell<'i64'>;
  readonly timeFrom: Cell<'i64'>;
  readonly nsPerInstruction: Cell<'i64'>;
  /** minstret and mcycle minus instructions retired. */
  readonly instretOffset: Cell<'i64'>;
  readonly cycleOffset: Cell<'i64'>;
  /** 16 bytes of pmpcfg, then 16 pmpaddr. */
  readonly pmpcfg: number;
  readonly pmpaddr: number;
  /** A bit for each 2 MiB, by its number modulo `superBits`: a larger page there was cached since the last flush. */
  readonly superMap: number;
  /** Bounds of all pages beyond 2 MiB that were. */
  readonly superFirst: Cell<'i64'>;
  readonly superLast: Cell<'i64'>;
  /** Traps since an instruction last retired, the count retired then, and the first of those traps. */
  readonly trapCount: Cell<'i32'>;
  readonly trapRetired: Cell<'i64'>;
  readonly crashCause: Cell<'i64'>;
  readonly crashValue: Cell<'i64'>;
  readonly crashPc: Cell<'i64'>;
  /** 1: an ebreak stops the hart at it instead of trapping. */
  readonly catchesBreakpoints: Cell<'i32'>;
  /** Where CSRs live that are storage and nothing else. */
  readonly storage: Arena;
}

/** @param arena begins where the hart's block does */
// prettier-ignore
export const hartState = (arena: Arena): HartState => {
  const x = arena.bytes(33 * 8, 64);
  const f = arena.bytes(32 * 8);
  return {
    x, f, ...engineState(arena),
    priv: arena.i32(), fflags: arena.i32(), frm: arena.i32(), reservation: arena.i32(), cause: arena.i64(), tval: arena.i64(),
    mstatus: arena.i64(), mie: arena.i64(), softPending: arena.i64(), wiredPending: arena.i64(), satp: arena.i64(),
    menvcfg: arena.i64(), stimecmp: arena.i64(), timeBase: arena.i64(), timeFrom: arena.i64(), nsPerInstruction: arena.i64(),
    instretOffset: arena.i64(), cycleOffset: arena.i64(), pmpcfg: arena.bytes(16), pmpaddr: arena.bytes(16 * 8),
    superMap: arena.bytes(superBits / 8), superFirst: arena.i64(), superLast: arena.i64(), trapCount: arena.i32(), trapRetired: arena.i64(),
    crashCause: arena.i64(), crashValue: arena.i64(), crashPc: arena.i64(), catchesBreakpoints: arena.i32(),
    storage: arena,
  };
};
