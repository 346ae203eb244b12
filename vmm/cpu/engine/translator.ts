/**
 * The second tier: code that jumps often lead to is gathered, and translated a batch at a time into one WebAssembly
 * module of one function a region. An entry is marked in its slot, where the interpreter and other regions find it; so
 * whatever forgets the slot forgets the translation, and a region that also holds instructions of other pages is
 * dropped with any of them. Slots in the table are given out in a ring: the oldest modules make room.
 */
import { pageBytes } from '#vmm/base/address';
import type { HostMemory } from '#vmm/base/memory';
import { CodeBuffer } from './code-buffer.ts';
import { discover } from './discovery.ts';
import { Emission } from './emission.ts';
import { engineHandlers } from './interpreter.ts';
import {
  codePageBytes,
  type EngineLayout,
  firstTranslation,
  slot,
  tlbEntryShift,
  tlbEntries,
  translationSlots,
} from './layout.ts';
import type { EngineState } from './state.ts';
import type { InstructionSet } from './translation.ts';
import { type FunctionReference, type Result, typeByte, type ValueType } from './wasm.ts';

/** A hart as translations see it. */
export interface TranslatedHart {
  /** Address of its state. */
  readonly base: number;
  readonly table: WebAssembly.Table;
  /** Functions of its module by name. */
  readonly functions: Readonly<Record<string, unknown>>;
  /** Address of the instruction-TLB bank in use. */
  fetchBank(): number;
}

interface Region {
  readonly ip: number;
  readonly pages: readonly number[];
}
/** Regions that were made together, by their first slot in the table. */
interface Batch {
  readonly first: number;
  readonly regions: (Region | undefined)[];
}
interface Wanted {
  readonly ip: number;
  readonly hart: TranslatedHart;
  /** Virtual address of the page, by 32-bit halves. */
  readonly low: number;
  readonly high: number;
}

/** Regions that are worth a module of their own: fewer cost more each. */
const batchRegions = 24;
/** Bounds of a module, so that a slice is never long in ending, and of the queue. */
const limits = { regions: 512, instructions: 50_000, wanted: 4096 } as const;

/** What was translated since the machine was made. */
export interface TranslatorStats {
  /** Regions, WebAssembly modules, guest instructions in regions, bytes of modules, and regions given up again. */
  regions: number;
  modules: number;
  instructions: number;
  bytes: number;
  dropped: number;
}

export const nothingTranslated: Readonly<TranslatorStats> = {
  regions: 0,
  modules: 0,
  instructions: 0,
  bytes: 0,
  dropped: 0,
};

export class Translator {
  readonly #memory: HostMemory;
  readonly #layout: EngineLayout;
  readonly #set: InstructionSet;
  readonly #emission: Emission;
  readonly #decode: (ip: number) => void;
  readonly #after: number;
  readonly #busy: ((isBusy: boolean) => void) | undefined;
  readonly #harts: TranslatedHart[] = [];
  #wanted: Wanted[] = [];
  /** Of those wanted, how many were when `work` last looked. */
  #waiting = 0;
  #batches: Batch[] = [];
  #next = 0;
  /** By code page: table slots of the regions that hold instructions of it. */
  readonly #byPage = new Map<number, Set<number>>();
  readonly #regions = new Map<number, Region>();
  readonly stats: TranslatorStats = { ...nothingTranslated };

  constructor(options: {
    readonly memory: HostMemory;
    readonly layout: EngineLayout;
    readonly set: InstructionSet;
    readonly state: EngineState;
    readonly decode: (ip: number) => void;
    readonly after: number;
    readonly busy: ((isBusy: boolean) => void) | undefined;
  }) {
    this.#busy = options.busy;
    this.#after = options.after;
    this.#memory = options.memory;
    this.#layout = options.layout;
    this.#set = options.set;
    this.#emission = new Emission(options.set, options.state);
    this.#decode = options.decode;
  }

  addHart(hart: TranslatedHart): void {
    this.#harts.push(hart);
  }

  /** The interpreter met a slot often; the hart's state has the virtual page. */
  want(hart: TranslatedHart, ip: number, low: number, high: number): void {
    if (this.#wanted.length < limits.wanted) this.#wanted.push({ hart, ip, low, high });
    // Another time, if it stays hot.
    else this.#memory.view.setUint16(ip + slot.heat, 0, true);
  }

  /** Between slices: translates what has gathered once it is much, or no more came. */
  work(): void {
    const { length } = this.#wanted;
    const hasGrown = length > this.#waiting;
    this.#waiting = length;
    if (length === 0 || (length < batchRegions && hasGrown)) return;
    this.#waiting = 0;
    this.#busy?.(true);
    this.#translate(this.#wanted.splice(0, limits.regions));
    this.#busy?.(false);
  }

  #pageOf(ip: number): number {
    return Math.floor((ip - this.#layout.codePool) / codePageBytes);
  }

  #translate(wanted: readonly Wanted[]): void {
    const { view } = this.#memory;
    const bodies = new CodeBuffer();
    const body = new CodeBuffer();
    const imports: FunctionReference[] = [];
    const indexes = new Map<FunctionReference, number>();
    const imported = (callee: FunctionReference): number => {
      let index = indexes.get(callee);
      if (index === undefined) {
        index = imports.push(callee) - 1;
        indexes.set(callee, index);
      }
      return index;
    };
    const regions: Region[] = [];
    const taken = new Set<number>();
    const most = this.stats.instructions + limits.instructions;
    for (const [i, { ip, hart, low, high }] of wanted.entries()) {
      if (this.stats.instructions >= most) {
        this.#wanted.unshift(...wanted.slice(i));
        break;
      }
      const handler = view.getUint16(ip, true);
      // Forgotten since, and perhaps wanted again; or no place to begin.
      if (handler === engineHandlers.undecoded || handler === engineHandlers.translated || taken.has(ip)) continue;
      taken.add(ip);
      const index = this.#pageOf(ip);
      const start = this.#layout.codePool + index * codePageBytes;
      const bank = hart.fetchBank();
      const page = (distance: number): number | undefined => {
        if (distance === 0) return start;
        const at = low + distance * pageBytes;
        const entry = bank + (((at >>> 12) & (tlbEntries - 1)) << tlbEntryShift);
        const carry = Math.floor(at / 0x1_0000_0000);
        const isThere =
          view.getUint32(entry, true) === at >>> 0 && view.getInt32(entry + 4, true) === ((high + carry) | 0);
        return isThere ? view.getInt32(entry + 8, true) : undefined;
      };
      const region = discover(
        view,
        this.#set,
        { page, decode: this.#decode, hot: this.#after },
        (ip - start) / (slot.bytes / 2),
      );
      if (!region) continue;
      body.clear();
      this.#emission.emit(region, body, imported);
      bodies.sized(body);
      const pages = [...region.pages.values()].map((at) => this.#pageOf(at));
      regions.push({ ip, pages });
      this.stats.instructions += region.instructions;
    }
    if (regions.length === 0) return;
    const bytes = this.#module(imports, regions.length, bodies);
    const first = this.#claim(regions.length);
    const module = new WebAssembly.Module(bytes);
    for (const hart of this.#harts) {
      const env: Record<string, unknown> = { memory: this.#memory.wasm, hart: hart.base };
      for (const { name } of imports) env[name] = hart.functions[name];
      const { exports } = new WebAssembly.Instance(module, { env });
      // By hand: an instance that has the table costs as much as the table is long.
      for (let i = 0; i < regions.length; i++) hart.table.set(first + i, exports[String(i)]);
    }
    this.stats.modules++;
    this.stats.bytes += bytes.length;
    this.#batches.push({ first, regions });
    regions.forEach((region, i) => this.#enter(region, first + i));
  }

  /** The next slots of the table; batches that have any of them go. */
  #claim(count: number): number {
    const first = this.#next + count <= translationSlots ? this.#next : 0;
    this.#next = first + count;
    const overlaps = (batch: Batch): boolean =>
      batch.first < first + count && batch.first + batch.regions.length > first;
    for (const batch of this.#batches.filter(overlaps))
      for (let i = 0; i < batch.regions.length; i++) this.#drop(batch.first + i);
    this.#batches = this.#batches.filter((batch) => !overlaps(batch));
    return first;
  }

  #enter(region: Region, index: number): void {
    const { view, bytes } = this.#memory;
    const { ip, pages } = region;
    this.#regions.set(index, region);
    view.setUint16(ip + slot.real, view.getUint16(ip, true), true);
    view.setUint16(ip, engineHandlers.translated, true);
    view.setUint16(ip + slot.heat, firstTranslation + index, true);
    for (const page of pages) {
      bytes[this.#layout.codeTranslated + page] = 1;
      let known = this.#byPage.get(page);
      if (!known) this.#byPage.set(page, (known = new Set()));
      known.add(index);
    }
    this.stats.regions++;
  }

  #drop(index: number): void {
    const region = this.#regions.get(index);
    if (!region) return;
    const { view } = this.#memory;
    this.#regions.delete(index);
    for (const page of region.pages) this.#byPage.get(page)?.delete(index);
    // Else the slot was forgotten, or is another one's by now.
    if (view.getUint16(region.ip + slot.heat, true) !== firstTranslation + index) return;
    view.setUint16(region.ip, view.getUint16(region.ip + slot.real, true), true);
    view.setUint16(region.ip + slot.real, 0, true);
    view.setUint16(region.ip + slot.heat, 0, true);
    this.stats.dropped++;
  }

  /** A code page is about to hold something else. */
  forget(page: number): void {
    this.#memory.bytes[this.#layout.codeTranslated + page] = 0;
    const known = this.#byPage.get(page);
    if (!known) return;
    this.#byPage.delete(page);
    for (const index of known) this.#drop(index);
  }

  #module(imports: readonly FunctionReference[], count: number, bodies: CodeBuffer): Uint8Array<ArrayBuffer> {
    const out = new CodeBuffer();
    const section = new CodeBuffer();
    const write = (id: number, build: (to: CodeBuffer) => void): void => {
      section.clear();
      section.reserve(128 * imports.length + 16 * count + 64);
      build(section);
      out.reserve(1);
      out.byte(id);
      out.sized(section);
    };
    const types: { params: readonly ValueType[]; result: Result }[] = [{ params: ['i64'], result: 'i32' }];
    const typeOf = ({ params, result }: FunctionReference): number => {
      const known = types.findIndex((one) => one.result === result && one.params.join() === params.join());
      return known >= 0 ? known : types.push({ params, result }) - 1;
    };
    const typed = imports.map(typeOf);
    const pages = this.#memory.buffer.byteLength / 65536;
    out.append(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0));
    write(1, (to) => {
      to.unsigned(types.length);
      for (const { params, result } of types) {
        to.byte(0x60);
        to.unsigned(params.length);
        for (const param of params) to.byte(typeByte[param]);
        if (result === 'void') to.byte(0);
        else to.two(1, typeByte[result]);
      }
    });
    write(2, (to) => {
      to.unsigned(imports.length + 2);
      const named = (name: string, kind: number): void => {
        to.text('env');
        to.text(name);
        to.byte(kind);
      };
      imports.forEach(({ name }, i) => {
        named(name, 0);
        to.unsigned(typed[i]!);
      });
      named('memory', 2);
      to.byte(1);
      to.unsigned(pages);
      to.unsigned(pages);
      named('hart', 3);
      to.two(typeByte.i32, 0);
    });
    write(3, (to) => {
      to.unsigned(count);
      for (let i = 0; i < count; i++) to.byte(0);
    });
    write(7, (to) => {
      to.unsigned(count);
      for (let i = 0; i < count; i++) {
        to.text(String(i));
        to.byte(0);
        to.unsigned(imports.length + i);
      }
    });
    out.reserve(1);
    out.byte(10);
    section.clear();
    section.unsigned(count);
    section.append(bodies.bytes);
    out.sized(section);
    return out.bytes.slice();
  }
}
