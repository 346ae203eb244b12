import { field, parts } from '#vmm/base/saved';
import type { Interrupts } from './interrupts.ts';
import type { RegisterFile } from './register-file.ts';
import { hpmCounters, hpmEvent, iohpmctrOffset, iohpmcycles, iohpmevt, iohpmevtOffset, offsets } from './registers.ts';

/** Who caused an event; -1 where a transaction has no such id. */
export interface Requester {
  readonly deviceId: number;
  readonly processId: number;
  readonly gscid: number;
  readonly pscid: number;
}

const overflowed = iohpmevt.mask('OF');
const standardEvents = BigInt(Math.max(...Object.values(hpmEvent)));
/** Events that know of GSCID and PSCID (§5.23 list of events, column IDT). */
const filtersByAddressSpace: ReadonlySet<bigint> = new Set(
  [hpmEvent.tlbMiss, hpmEvent.firstStageWalk, hpmEvent.secondStageWalk].map(BigInt),
);

/** Hardware performance monitor (§5.19–5.23). */
export class PerformanceMonitor {
  readonly #registers: RegisterFile;
  readonly #interrupts: Interrupts;
  readonly #counterMask: bigint;
  readonly #cyclesMask: bigint;
  readonly #cycles: () => number;
  /** Programmable counters there are. */
  readonly counters: number;
  /** True while some counter has an event to count: test it before building a Requester. */
  active = false;
  #lastCycles = 0;
  readonly saved = parts({
    active: field(
      () => this.active,
      (value) => (this.active = value),
    ),
    lastCycles: field(
      () => this.#lastCycles,
      (value) => (this.#lastCycles = value),
    ),
  });

  constructor(registers: RegisterFile, interrupts: Interrupts, counters: number, bits: number, cycles: () => number) {
    this.#registers = registers;
    this.#interrupts = interrupts;
    this.counters = Math.min(counters, hpmCounters);
    this.#counterMask = (1n << BigInt(bits)) - 1n;
    this.#cyclesMask = (1n << BigInt(Math.min(bits, 63))) - 1n;
    this.#cycles = cycles;
  }

  reset(): void {
    this.active = false;
    this.#lastCycles = this.#cycles();
  }

  /** Bits of iocountinh that exist. */
  get inhibitMask(): bigint {
    return (1n << BigInt(this.counters + 1)) - 1n;
  }

  legalCounter(next: bigint, index: number): bigint {
    return index < this.counters ? next & this.#counterMask : 0n;
  }

  legalCycles(next: bigint): bigint {
    return (next & this.#cyclesMask) | (next & iohpmcycles.mask('OF'));
  }

  legalSelector(next: bigint, old: bigint, index: number): bigint {
    if (index >= this.counters) return 0n;
    return iohpmevt.get(next, 'eventID') > standardEvents
      ? iohpmevt.set(next, 'eventID', iohpmevt.get(old, 'eventID'))
      : next;
  }

  /** A selector changed. */
  refresh(): void {
    this.active = false;
    for (let n = 1; n <= this.counters; n++) {
      const selector = this.#registers.get64(iohpmevtOffset(n));
      if (iohpmevt.get(selector, 'eventID') !== 0n) this.active = true;
    }
    this.#shadow();
  }

  /** Brings iohpmcycles up to date; its overflow is noticed here. */
  sample(): void {
    const now = this.#cycles();
    const passed = BigInt(Math.max(0, Math.floor(now - this.#lastCycles)));
    this.#lastCycles = now;
    if (this.#registers.words[offsets.iocountinh >>> 2]! & 1 || passed === 0n) return;
    const old = this.#registers.get64(offsets.iohpmcycles);
    const sum = (old & this.#cyclesMask) + passed;
    let next = (old & iohpmcycles.mask('OF')) | (sum & this.#cyclesMask);
    const overflow = sum > this.#cyclesMask && !(old & iohpmcycles.mask('OF'));
    if (overflow) next |= iohpmcycles.mask('OF');
    this.#registers.set64(offsets.iohpmcycles, next);
    if (overflow) this.#overflow();
  }

  count(event: number, who: Requester): void {
    const inhibited = this.#registers.words[offsets.iocountinh >>> 2]!;
    for (let n = 1; n <= this.counters; n++) {
      if ((inhibited >>> n) & 1) continue;
      const selector = this.#registers.get64(iohpmevtOffset(n));
      if (iohpmevt.get(selector, 'eventID') !== BigInt(event) || !matches(selector, who)) continue;
      const next = (this.#registers.get64(iohpmctrOffset(n)) + 1n) & this.#counterMask;
      this.#registers.set64(iohpmctrOffset(n), next);
      if (next === 0n && !(selector & overflowed)) {
        this.#registers.set64(iohpmevtOffset(n), selector | overflowed);
        this.#overflow();
      }
    }
  }

  #overflow(): void {
    this.#shadow();
    this.#interrupts.pend('pmip');
  }

  #shadow(): void {
    let bits = this.#registers.get64(offsets.iohpmcycles) & iohpmcycles.mask('OF') ? 1 : 0;
    for (let n = 1; n <= this.counters; n++) if (this.#registers.get64(iohpmevtOffset(n)) & overflowed) bits |= 1 << n;
    this.#registers.words[offsets.iocountovf >>> 2] = bits;
  }
}

/** The filter of §5.23: an unsupported IDT counts nothing; DMASK masks up to and including the lowest 0 bit. */
const matches = (selector: bigint, who: Requester): boolean => {
  const f = iohpmevt.decode(selector);
  const byAddressSpace = f.IDT === 1n;
  if (byAddressSpace && !filtersByAddressSpace.has(f.eventID)) return false;
  if (f.PV_PSCV) {
    const id = byAddressSpace ? who.pscid : who.processId;
    if (id < 0 || BigInt(id) !== f.PID_PSCID) return false;
  }
  if (f.DV_GSCV) {
    const id = byAddressSpace ? who.gscid : who.deviceId;
    if (id < 0) return false;
    const masked = f.DMASK ? f.DID_GSCID ^ (f.DID_GSCID + 1n) : 0n;
    if ((BigInt(id) & ~masked) !== (f.DID_GSCID & ~masked)) return false;
  }
  return true;
};
