/**
 * Storage and access rules of the register region, derived from the table: write semantics, read-to-clear, aliases,
 * unknown offsets, widths and misalignment live here and nowhere else.
 */
import type { AccessBytes, MmioDevice } from '#vmm/base/ports';
import type { EventKind, EventParts, Trace } from '#vmm/base/events';
import { hex, hiHalf, loHalf, wide } from '#vmm/base/address';
import { array, parts } from '#vmm/base/saved';
import {
  type RegisterName,
  type RegisterRow,
  registerBytes,
  registerNames,
  registers,
  userPageBytes,
  userPages,
} from './registers.ts';

/** Returns what the guest reads; `index` is the word index. */
export type ReadHook = (index: number) => number;
/** Runs after the store of `words[index]`; `value` is what the guest wrote, `old` what was there. */
export type WriteHook = (index: number, value: number, old: number) => void;
export interface Hooks {
  readonly read?: ReadHook;
  readonly afterWrite?: WriteHook;
}
export type HookTable = Readonly<Partial<Record<RegisterName, Hooks>>>;

const words = registerBytes >>> 2;
/** Row number + 1 of the register at a word, or 0. */
const rowAt = new Uint16Array(words);
/** Canonical word index of a word (itself but for aliases). */
const canonical = new Uint32Array(words);
const resetImage = new Uint32Array(words);
const writable = new Uint32Array(registerNames.length + 1);
const oneToClear = new Uint32Array(registerNames.length + 1);
const readable = new Uint32Array(registerNames.length + 1);
const clears = new Uint8Array(registerNames.length + 1);

for (let i = 0; i < words; i++) canonical[i] = i;
for (const [position, name] of registerNames.entries()) {
  const row: RegisterRow = registers[name];
  const number = position + 1;
  writable[number] = Number(row.layout.writable);
  oneToClear[number] = Number(row.layout.writeOneToClear);
  readable[number] = Number(row.layout.read(0xffff_ffffn));
  clears[number] = row.clears ? 1 : 0;
  for (let i = 0; i < (row.count ?? 1); i++) {
    const index = (row.offset + i * (row.stride ?? 4)) >>> 2;
    if (rowAt[index] !== 0) throw new RangeError(`${name} lies on ${registerNames[rowAt[index]! - 1]}`);
    rowAt[index] = number;
    resetImage[index] = row.reset ?? 0;
  }
}
for (const name of registerNames) {
  const row: RegisterRow = registers[name];
  // Only queue 0 of the rings has an alias; tables have one for every entry.
  const count = row.stride === 0x100 ? 1 : (row.count ?? 1);
  for (let i = 0; row.alias !== undefined && i < count; i++) {
    const from = (row.alias + i * (row.stride ?? 4)) >>> 2;
    if (rowAt[from] === 0) canonical[from] = (row.offset + i * (row.stride ?? 4)) >>> 2;
  }
  for (let q = 0; row.userPage !== undefined && q < row.count!; q++)
    canonical[(userPages + q * userPageBytes + row.userPage) >>> 2] = (row.offset + q * row.stride!) >>> 2;
}

const nameAt = (index: number): string => {
  const name = registerNames[rowAt[index]! - 1]!;
  const row: RegisterRow = registers[name];
  return row.count ? `${name}[${((index << 2) - row.offset) / (row.stride ?? 4)}]` : name;
};

const fields = ({ subject, value, a }: EventParts) => ({ device: subject, register: nameAt(a), value: hex(value, 8) });
const readEvent: EventKind = { name: 'nic.register-read', fields };
const writeEvent: EventKind = { name: 'nic.register-write', fields };

export class RegisterFile implements MmioDevice {
  /** The registers' values by word index. */
  readonly words = new Uint32Array(resetImage);
  readonly saved = parts({ words: array(() => this.words) });
  readonly #readHooks: (ReadHook | undefined)[] = [];
  readonly #writeHooks: (WriteHook | undefined)[] = [];
  readonly #trace: Trace;
  readonly #device: string;

  constructor(device: string, trace: Trace) {
    this.#device = device;
    this.#trace = trace;
    for (let i = 0; i <= registerNames.length; i++) {
      this.#readHooks.push(undefined);
      this.#writeHooks.push(undefined);
    }
  }

  attach(hooks: HookTable): void {
    for (const [position, name] of registerNames.entries()) {
      this.#readHooks[position + 1] = hooks[name]?.read ?? this.#readHooks[position + 1];
      this.#writeHooks[position + 1] = hooks[name]?.afterWrite ?? this.#writeHooks[position + 1];
    }
  }

  /** Power-on values, with no side effects. */
  reset(): void {
    this.words.set(resetImage);
  }

  /**
   * Registers are 32 bits wide and accessed as such (§10.1.1). Deviation from nothing stated: a narrower read returns
   * the bytes of the 32-bit read, a 64-bit access is two, a narrower or misaligned write is ignored.
   */
  read(offset: number, bytes: AccessBytes): number | bigint {
    if (bytes === 4 && (offset & 3) === 0) return this.#load(offset >>> 2);
    if (bytes === 8) {
      if (offset & 3) return 0n;
      const lo = this.#load(offset >>> 2);
      return wide(this.#load((offset >>> 2) + 1), lo);
    }
    const shift = (offset & 3) * 8;
    if (shift + bytes * 8 > 32) return 0;
    const value = this.#load(offset >>> 2) >>> shift;
    return bytes === 1 ? value & 0xff : value & 0xffff;
  }

  write(offset: number, bytes: AccessBytes, value: number | bigint): void {
    if ((offset & 3) === 0 && bytes === 4) return this.#store(offset >>> 2, Number(value) >>> 0);
    if ((offset & 3) === 0 && bytes === 8) {
      const both = BigInt(value);
      this.#store(offset >>> 2, loHalf(both));
      this.#store((offset >>> 2) + 1, hiHalf(both));
      return;
    }
    this.#unknown(offset, 'write', `${bytes} bytes`);
  }

  #load(word: number): number {
    const index = word < words ? canonical[word]! : word;
    const row = index < words ? rowAt[index]! : 0;
    if (row === 0) {
      this.#unknown(word << 2, 'read', '');
      return 0;
    }
    const hook = this.#readHooks[row];
    const value = hook ? hook(index) >>> 0 : (this.words[index]! & readable[row]!) >>> 0;
    if (clears[row] === 1) this.words[index] = 0;
    if (this.#trace.on) this.#trace.tell(readEvent, this.#device, '', value, index);
    return value;
  }

  #store(word: number, value: number): void {
    const index = word < words ? canonical[word]! : word;
    const row = index < words ? rowAt[index]! : 0;
    if (row === 0) return this.#unknown(word << 2, 'write', hex(value, 8));
    const old = this.words[index]!;
    const mask = writable[row]!;
    this.words[index] = ((old & ~mask) | (value & mask)) & ~(value & oneToClear[row]!);
    if (this.#trace.on) this.#trace.tell(writeEvent, this.#device, '', value, index);
    this.#writeHooks[row]?.(index, value, old);
  }

  #unknown(offset: number, access: string, detail: string): void {
    if (this.#trace.on) this.#trace.emit('nic.register-unknown', { device: this.#device, access, offset, detail });
  }
}
