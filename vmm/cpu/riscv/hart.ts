import { pageBytes } from '#vmm/base/address';
import { invariant } from '#vmm/base/invariant';
import { allExtensions, type Extensions } from '#vmm/base/isa-extensions';
import type { HostMemory } from '#vmm/base/memory';
import { array, type Data, parts, recordOf, type Saved, SavedError } from '#vmm/base/saved';
import { Arena, Cell } from '../engine/cells.ts';
import { CodeCache } from '../engine/code-cache.ts';
import { type EngineLayout, engineLayout, translationSlots } from '../engine/layout.ts';
import { restoreTlb, saveTlb } from '../engine/saved-tlb.ts';
import { nothingTranslated, type TranslatedHart, type Translator, type TranslatorStats } from '../engine/translator.ts';
import { csrs } from './csr.ts';
import { decoder } from './decoder.ts';
import { environmentMask } from './environment.ts';
import { buildHart } from './hart-module.ts';
import type { ImsicPort } from './imsic-port.ts';
import { answerEcall, sbiErrors, type SbiHandler } from './sbi.ts';
import {
  type HartState,
  hartState,
  status,
  stopCode,
  type StopReason,
  stopReasons,
  superBits,
  unsavedCells,
} from './state.ts';

/** Physical addresses that are not RAM. Called only with naturally aligned accesses. */
export interface PhysicalBus {
  /** 1, 2 and 4 bytes: a number, 8: a bigint (a number is taken too); undefined → access fault. */
  read(address: number, bytes: 1 | 2 | 4 | 8): number | bigint | undefined;
  /** False → access fault. */
  write(address: number, bytes: 1 | 2 | 4 | 8, value: number | bigint): boolean;
}

/** What all harts of a machine have in common: memory and predecoded code. */
export class HartGroup {
  readonly memory: HostMemory;
  readonly ramBase: number;
  readonly layout: EngineLayout;
  readonly code: CodeCache;
  readonly extensions: Extensions;
  /** How often a jump leads somewhere before the code there is translated; 0 = never. */
  readonly translateAfter: number;
  /** Told when translation begins and ends, for who measures it. */
  readonly onTranslating: ((isBusy: boolean) => void) | undefined;
  /** Made with the first hart. */
  translator: Translator | undefined;

  /** `harts` as it was given to `engineBytes` when the memory was made; all extensions unless told. */
  constructor(options: {
    memory: HostMemory;
    ramBase: number;
    harts: number;
    extensions?: Extensions;
    translateAfter?: number;
    onTranslating?: ((isBusy: boolean) => void) | undefined;
  }) {
    this.extensions = options.extensions ?? allExtensions;
    this.translateAfter = options.translateAfter ?? 0;
    this.onTranslating = options.onTranslating;
    this.memory = options.memory;
    this.ramBase = options.ramBase;
    this.layout = engineLayout({ harts: options.harts, guestBytes: options.memory.guestBytes });
    invariant(this.layout.bytes <= this.memory.engineBytes, 'host memory has too little room for the engine');
    const forget = (page: number): void => this.translator?.forget(page);
    this.code = new CodeCache(this.memory, this.layout, decoder(this.memory.view, this.extensions), forget);
  }

  get translations(): Readonly<TranslatorStats> {
    return this.translator?.stats ?? nothingTranslated;
  }

  /** From now on every hart's `onStore` is told of stores to the page of a physical address of RAM. */
  watchStores(address: number): void {
    const page = Math.floor((address - this.ramBase) / pageBytes);
    const { layout, memory } = this;
    if (page < 0 || page * pageBytes >= layout.guestBytes || memory.bytes[layout.watchMap + page] === 1) return;
    memory.bytes[layout.watchMap + page] = 1;
    this.code.forgetWriteTranslations();
  }
}

export interface HartOptions {
  readonly group: HartGroup;
  /** Position in the group, and mhartid. */
  readonly id: number;
  readonly bus: PhysicalBus;
  /** 's': starts in S-mode, and `sbi` answers its environment calls. 'm': starts in M-mode, raw. */
  readonly entryMode: 's' | 'm';
  /** Virtual time that an instruction takes; an integer. */
  readonly nsPerInstruction?: number;
  readonly imsic?: ImsicPort;
  /** Answers environment calls from S-mode with entry mode 's'. */
  readonly sbi?: SbiHandler;
  /** A store was done to the page of `watchStore`. */
  readonly onWatchedStore?: () => void;
  /** A store to a page of `HartGroup.watchStores` is about to be done: its physical address and the instruction's pc. */
  readonly onStore?: (physical: number, pc: bigint) => void;
}

/** Why a hart cannot go on: the first of the traps that led nowhere. */
export interface Crash {
  readonly cause: bigint;
  readonly tval: bigint;
  readonly pc: bigint;
}

type Exported = Readonly<{
  run(budget: number): number;
  csrRead(index: number, writes: number): bigint;
  csrWrite(index: number, value: bigint): void;
  updateModes(): void;
  fenceCode(): void;
}>;

/** mie.STIE. */
const timerEnable = 1 << 5;
const countersOfInstructions = new Set(['cycle', 'instret', 'mcycle', 'minstret']);

export class Hart {
  readonly id: number;
  readonly #group: HartGroup;
  readonly #state: HartState;
  readonly #view: DataView;
  readonly #options: HartOptions;
  readonly #stored = new Map<string, Cell<'i64'>>();
  readonly #wasm: Exported;
  readonly #translated: TranslatedHart;
  readonly #place: { readonly hart: number; readonly ramBase: number; readonly guestBase: number };
  /** Predecoded code is not in it, nor what a debugger asked for. */
  readonly saved: Saved = {
    save: () => this.#registers.save(),
    restore: (data) => {
      this.reset(0, 0, 0);
      this.#registers.restore(data);
      this.#wasm.updateModes();
    },
  };
  readonly #registers = parts({
    x: array(() => this.#bytesAt(this.#state.x, 32 * 8)),
    f: array(() => this.#bytesAt(this.#state.f, 32 * 8)),
    pmpcfg: array(() => this.#bytesAt(this.#state.pmpcfg, 16)),
    pmpaddr: array(() => this.#bytesAt(this.#state.pmpaddr, 16 * 8)),
    superMap: array(() => this.#bytesAt(this.#state.superMap, superBits / 8)),
    cells: {
      save: () => this.#saveCells(this.#savedCells()),
      restore: (data) => this.#restoreCells(this.#savedCells(), data),
    },
    csrs: { save: () => this.#saveCells(this.#stored), restore: (data) => this.#restoreCells(this.#stored, data) },
    reservation: {
      save: () => this.#moved(this.#get(this.#state.reservation), -this.#place.guestBase),
      restore: (data) => this.#set(this.#state.reservation, this.#moved(BigInt(Number(data)), this.#place.guestBase)),
    },
    tlb: { save: () => saveTlb(this.#tlb), restore: (data) => restoreTlb(this.#tlb, data) },
  });

  constructor(options: HartOptions) {
    const { group, id } = options;
    invariant(id < group.layout.harts, `hart ${id} of ${group.layout.harts}`);
    this.id = id;
    this.#options = options;
    this.#group = group;
    this.#view = group.memory.view;
    this.#place = {
      hart: group.layout.firstHart + id * group.layout.hartStride,
      ramBase: group.ramBase,
      guestBase: group.memory.guestBase,
    };
    this.#state = hartState(new Arena(this.#place.hart));
    for (const row of csrs) if (!row.read) this.#stored.set(row.name, this.#state.storage.i64());
    invariant(
      this.#state.storage.next <= this.#place.hart + group.layout.dataTlb,
      'the state of a hart outgrew its room',
    );
    const table = new WebAssembly.Table({ initial: translationSlots, element: 'anyfunc' });
    const made = buildHart({
      group,
      id,
      state: this.#state,
      place: this.#place,
      stored: this.#stored,
      supervisorOnly: options.entryMode === 's',
    });
    const instance = new WebAssembly.Instance(made.module, { env: { ...this.#imports(), table } });
    this.#wasm = instance.exports as unknown as Exported;
    this.#translated = {
      base: this.#place.hart,
      table,
      functions: instance.exports,
      fetchBank: () => this.#view.getInt32(this.#state.fetchBank.address, true),
    };
    group.translator ??= made.translator;
    group.translator?.addHart(this.#translated);
    this.#set(this.#state.watchPage, -1);
    this.reset(0, 0, 0);
  }

  #imports(): Record<string, unknown> {
    const { bus, imsic, sbi, onWatchedStore, onStore } = this.#options;
    const { code, memory } = this.#group;
    const { view } = memory;
    const value = this.#state.busValue.address;
    return {
      memory: memory.wasm,
      busRead: (lo: number, hi: number, bytes: 1 | 2 | 4 | 8): number => {
        const read = bus.read((hi >>> 0) * 0x1_0000_0000 + (lo >>> 0), bytes);
        if (read === undefined) return 0;
        if (typeof read === 'bigint') view.setBigUint64(value, read, true);
        else {
          view.setUint32(value, read >>> 0, true);
          view.setUint32(value + 4, Math.floor(read / 0x1_0000_0000) >>> 0, true);
        }
        return 1;
      },
      busWrite: (lo: number, hi: number, bytes: 1 | 2 | 4 | 8): number => {
        const written =
          bytes === 8
            ? view.getBigUint64(value, true)
            : bytes === 4
              ? view.getUint32(value, true)
              : bytes === 2
                ? view.getUint16(value, true)
                : view.getUint8(value);
        return bus.write((hi >>> 0) * 0x1_0000_0000 + (lo >>> 0), bytes, written) ? 1 : 0;
      },
      codePage: (page: number): number => code.page(page),
      decode: (ip: number): void => code.decode(ip),
      decodeCrossing: (ip: number, upper: number): void => code.decodeCrossing(ip, upper),
      hot: (ip: number): void => {
        const { address } = this.#state.pcPage;
        const [low, high] = [view.getUint32(address, true), view.getInt32(address + 4, true)];
        this.#group.translator?.want(this.#translated, ip, low, high);
      },
      dropTranslations: (page: number): void => this.#group.translator?.forget(page),
      watched: (): void => onWatchedStore?.(),
      storing: (): void => onStore?.(Number(this.#get(this.#state.physical)), this.pc),
      sbi: (): void => {
        if (sbi) answerEcall(this, sbi);
        else this.setX(10, sbiErrors.SBI_ERR_NOT_SUPPORTED);
      },
      imsicRead: (select: number): number => {
        // AIA §5.2.1: 0x30 … 0x3f is the array of major interrupts' priorities, of which RV64 has the even ones;
        // none is configurable.
        const read = select >= 0x30 && select < 0x40 && !(select & 1) ? 0 : select >= 0x70 && select <= 0xff ? imsic?.readIndirect(select) : undefined; // prettier-ignore
        if (read === undefined) return 0;
        view.setBigUint64(value, BigInt.asUintN(64, BigInt(read)), true);
        return 1;
      },
      imsicWrite: (select: number): number => {
        if (select < 0x70) return 1;
        return imsic?.writeIndirect(select, view.getBigUint64(value, true)) ? 1 : 0;
      },
      imsicTop: (): number => imsic?.topei() ?? 0,
      imsicClaim: (): void => imsic?.claim(),
    };
  }

  #get(cell: Cell<'i32' | 'i64'>): bigint {
    return cell.type === 'i32'
      ? BigInt(this.#view.getUint32(cell.address, true))
      : this.#view.getBigUint64(cell.address, true);
  }
  /** A count that a double holds, and that is looked at every slice: no bigint. */
  #count({ address }: Cell<'i64'>): number {
    return this.#view.getUint32(address, true) + this.#view.getInt32(address + 4, true) * 0x1_0000_0000;
  }
  #setCount({ address }: Cell<'i64'>, value: number): void {
    this.#view.setUint32(address, value, true);
    this.#view.setInt32(address + 4, Math.floor(value / 0x1_0000_0000), true);
  }
  #set(cell: Cell<'i32' | 'i64'>, value: bigint | number): void {
    if (cell.type === 'i32') this.#view.setInt32(cell.address, Number(value), true);
    else this.#view.setBigUint64(cell.address, BigInt.asUintN(64, BigInt(value)), true);
  }

  #bytesAt(address: number, count: number): Uint8Array {
    return this.#group.memory.bytes.subarray(address, address + count);
  }
  /** Of the state what is a cell and saved as it is; a reservation is an address of host memory. */
  #savedCells(): Map<string, Cell<'i32' | 'i64'>> {
    const cells = new Map<string, Cell<'i32' | 'i64'>>();
    for (const [name, cell] of Object.entries(this.#state) as [string, unknown][])
      if (cell instanceof Cell && !unsavedCells.has(name) && name !== 'reservation') cells.set(name, cell);
    return cells;
  }
  #saveCells(cells: ReadonlyMap<string, Cell<'i32' | 'i64'>>): Data {
    return Object.fromEntries([...cells].map(([name, cell]) => [name, this.#get(cell)]));
  }
  #restoreCells(cells: ReadonlyMap<string, Cell<'i32' | 'i64'>>, data: Data): void {
    const record = recordOf(data);
    for (const [name, cell] of cells) {
      const value = record[name];
      if (typeof value !== 'bigint') throw new SavedError(`${name} is missing`);
      this.#set(cell, value);
    }
  }
  #moved(address: bigint, by: number): number {
    return address === 0n ? 0 : Number(address) + by;
  }
  get #tlb(): Parameters<typeof saveTlb>[0] {
    return { memory: this.#group.memory, layout: this.#group.layout, hart: this.#place.hart };
  }

  /** Power-on state: at `pc`, with a0 and a1 set. Virtual time, the watched page and what a debugger asked for stay. */
  reset(pc: number | bigint, a0: number | bigint, a1: number | bigint): void {
    const state = this.#state;
    const { hart } = this.#place;
    const kept = [state.timeBase, state.catchesBreakpoints, state.watchPage].map(
      (cell) => [cell, this.#get(cell)] as const,
    );
    this.#group.memory.bytes.fill(0, hart, hart + this.#group.layout.dataTlb);
    this.#group.memory.bytes.fill(0xff, hart + this.#group.layout.dataTlb, hart + this.#group.layout.hartStride);
    const supervisor = this.#options.entryMode === 's';
    for (const row of csrs) {
      const cell = this.#stored.get(row.name);
      if (cell && row.reset) this.#set(cell, row.reset[this.#options.entryMode]);
    }
    for (const [cell, value] of kept) this.#set(cell, value);
    this.#set(state.nsPerInstruction, this.#options.nsPerInstruction ?? 1);
    this.#set(state.priv, supervisor ? 1 : 3);
    this.#set(state.mstatus, status.UXL | status.SXL);
    this.#set(state.menvcfg, supervisor ? (1n << 63n) | environmentMask(this.#group.extensions) : 0n);
    this.#set(state.stimecmp, -1n);
    this.#set(state.superFirst, (1n << 63n) - 1n);
    this.#set(state.trapRetired, -1n);
    this.pc = BigInt(pc);
    this.setX(10, a0);
    this.setX(11, a1);
    this.fenceCode();
    this.#wasm.updateModes();
  }

  /** Runs at most that many instructions. */
  run(maxInstructions: number): StopReason {
    const budget = Math.min(Math.max(Math.floor(maxInstructions), 0), 0x7fff_ffff);
    if (this.#group.code.lastHart !== this.id) {
      // Another hart ran since, and may have stored to what was reserved.
      this.#group.code.lastHart = this.id;
      this.#set(this.#state.reservation, 0);
    }
    const reason = stopReasons[this.#wasm.run(budget)]!;
    invariant(reason !== 'running', 'a hart stopped without a reason');
    this.#group.translator?.work();
    return reason;
  }

  /** Instructions retired since reset. */
  get instret(): number {
    return this.#count(this.#state.sliceEnd) - this.#view.getInt32(this.#state.left.address, true);
  }
  /** Ticks of the timebase at which the supervisor's timer interrupt comes, while it is enabled; else Infinity. */
  get timerTicks(): number {
    const { mie, stimecmp } = this.#state;
    return this.#view.getUint32(mie.address, true) & timerEnable
      ? this.#view.getUint32(stimecmp.address, true) + this.#view.getUint32(stimecmp.address + 4, true) * 0x1_0000_0000
      : Infinity;
  }
  /** Those of them since reset that translations retired. */
  get translated(): number {
    return Number(this.#get(this.#state.translated));
  }
  /** x0 … x31, unsigned 64 bits. */
  x(index: number): bigint {
    return this.#view.getBigUint64(this.#state.x + 8 * index, true);
  }
  setX(index: number, value: bigint | number): void {
    if (index !== 0) this.#view.setBigUint64(this.#state.x + 8 * index, BigInt.asUintN(64, BigInt(value)), true);
  }
  /** Raw bits of f0 … f31. */
  f(index: number): bigint {
    return this.#view.getBigUint64(this.#state.f + 8 * index, true);
  }
  setF(index: number, value: bigint): void {
    this.#view.setBigUint64(this.#state.f + 8 * index, BigInt.asUintN(64, value), true);
  }
  get pc(): bigint {
    return this.#get(this.#state.pc);
  }
  set pc(value: bigint) {
    this.#set(this.#state.pc, value);
  }
  /** 0 = U, 1 = S, 3 = M. */
  get privilege(): number {
    return Number(this.#get(this.#state.priv));
  }

  /** A CSR by name as M-mode sees it; undefined where there is none. */
  csr(name: string): bigint | undefined {
    // Counters leave out the instruction that reads them, and here there is none.
    const extra = countersOfInstructions.has(name) ? 1n : 0n;
    return this.#asMachine(name, (index) => BigInt.asUintN(64, this.#wasm.csrRead(index, 0) + extra));
  }
  /** Writes as M-mode would; false where there is no such CSR. */
  setCsr(name: string, value: bigint): boolean {
    return this.#asMachine(name, (index) => (this.#wasm.csrWrite(index, BigInt.asIntN(64, value)), true)) ?? false;
  }
  #asMachine<R>(name: string, access: (index: number) => R): R | undefined {
    const index = csrs.findIndex((row) => row.name === name);
    if (index < 0) return undefined;
    const priv = this.privilege;
    this.#set(this.#state.priv, 3);
    const result = access(index);
    this.#set(this.#state.priv, priv);
    const failed = this.#get(this.#state.fault) !== 0n;
    this.#set(this.#state.fault, 0);
    this.#wasm.updateModes();
    return failed ? undefined : result;
  }

  /** For a debugger: `run` returns 'breakpoint' at an ebreak, which is not executed. */
  catchBreakpoints(on: boolean): void {
    this.#set(this.#state.catchesBreakpoints, on ? 1 : 0);
  }

  /** Interrupt lines by their bit of mip: 3 MSI, 7 MTI, 9 SEI, 11 MEI; 1 SSI sets the bit that software clears. */
  setInterrupt(bit: number, on: boolean): void {
    const cell = bit === 1 ? this.#state.softPending : this.#state.wiredPending;
    const mask = 1n << BigInt(bit);
    const old = this.#get(cell);
    this.#set(cell, on ? old | mask : old & ~mask);
    this.#lookUp();
  }
  /** `run` returns 'event' behind the present instruction. */
  requestStop(): void {
    this.#stop('event');
  }
  /** The hart stops ('halted'), as by SBI. */
  halt(): void {
    this.#stop('halted');
  }
  #stop(reason: StopReason): void {
    this.#set(this.#state.stop, stopCode(reason));
    this.#lookUp();
  }
  #lookUp(): void {
    const { sliceEnd, left } = this.#state;
    this.#setCount(sliceEnd, this.#count(sliceEnd) - this.#view.getInt32(left.address, true));
    this.#view.setInt32(left.address, 0, true);
  }

  /** Virtual time now, ns. */
  setTimeBase(ns: number): void {
    this.#setCount(this.#state.timeBase, ns);
    this.#setCount(this.#state.timeFrom, this.instret);
    this.#lookUp();
  }
  skipTime(ns: number): void {
    this.#set(this.#state.timeBase, this.#get(this.#state.timeBase) + BigInt(ns));
    this.#lookUp();
  }

  /** Reports stores to the page of a physical address (HTIF's tohost); undefined = no longer. */
  watchStore(address: number | undefined): void {
    const page = address === undefined ? -1 : Math.floor((address - this.#place.ramBase) / pageBytes);
    this.#set(this.#state.watchPage, page);
    this.flushTranslations();
  }
  /** Forgets cached translations, as sfence.vma does. */
  flushTranslations(): void {
    const { hart } = this.#place;
    this.#group.memory.bytes.fill(0xff, hart + this.#group.layout.dataTlb, hart + this.#group.layout.hartStride);
    this.#lookUp();
  }
  /** What fence.i does. */
  fenceCode(): void {
    this.#set(this.#state.foreignWrites, 1);
    this.#wasm.fenceCode();
  }
  /** Bytes of guest RAM at a physical address, or undefined where a part is not RAM. */
  guestBytes(physical: bigint, length: bigint): Uint8Array | undefined {
    const { guestBase, guestBytes, bytes } = this.#group.memory;
    const offset = physical - BigInt(this.#place.ramBase);
    if (offset < 0n || length < 0n || offset + length > BigInt(guestBytes)) return undefined;
    const first = guestBase + Number(offset);
    return bytes.subarray(first, first + Number(length));
  }
  /** After 'crash'. */
  get crash(): Crash {
    const { crashCause, crashValue, crashPc } = this.#state;
    return { cause: this.#get(crashCause), tval: this.#get(crashValue), pc: this.#get(crashPc) };
  }
}
