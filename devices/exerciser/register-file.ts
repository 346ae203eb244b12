/** Storage and access rules of BAR 0, derived from the table of registers. */
import { hiHalf, loHalf, wide } from '#vmm/base/address';
import type { Trace } from '#vmm/base/events';
import type { AccessBytes, MmioDevice } from '#vmm/base/ports';
import { array, parts } from '#vmm/base/saved';
import { type RegisterName, type RegisterRow, registerBytes, registerNames, registers } from './registers.ts';

export interface Hooks {
  /** `item` is the place in an array of registers (the queue), `word` in a register of several words. */
  readonly read?: (item: number, word: number) => number;
  /** Runs after the store; `value` is what the guest wrote, `old` what was there. */
  readonly afterWrite?: (item: number, value: number, old: number) => void;
}
export type HookTable = Readonly<Partial<Record<RegisterName, Hooks>>>;

interface Place {
  readonly name: RegisterName;
  readonly item: number;
  readonly word: number;
  /** Bits that reads show, and that software can set to either value. */
  readonly readable: number;
  readonly writable: number;
}

const words = registerBytes >>> 2;
const resetImage = new Uint32Array(words);
const places = new Map<number, Place>();
for (const name of registerNames) {
  const row: RegisterRow = registers[name];
  const readable = Number(row.layout.read(0xffff_ffffn));
  const writable = Number(row.layout.writable);
  for (let item = 0; item < (row.count ?? 1); item++)
    for (let word = 0; word < (row.words ?? 1); word++) {
      const index = ((row.offset + item * (row.stride ?? 0)) >>> 2) + word;
      if (places.has(index)) throw new RangeError(`${name} lies on ${places.get(index)!.name}`);
      places.set(index, { name, item, word, readable, writable });
      resetImage[index] = row.reset ?? 0;
    }
}

export class RegisterFile implements MmioDevice {
  /** The registers' values by word index. */
  readonly words = new Uint32Array(resetImage);
  readonly saved = parts({ words: array(() => this.words) });
  #hooks: HookTable = {};
  readonly #device: string;
  readonly #trace: Trace;

  constructor(device: string, trace: Trace) {
    this.#device = device;
    this.#trace = trace;
  }

  attach(hooks: HookTable): void {
    this.#hooks = hooks;
  }

  /** Power-on values, with no side effects. */
  reset(): void {
    this.words.set(resetImage);
  }

  /** Registers are words. A narrower read returns bytes of the word, a 64-bit access is two; other writes are ignored. */
  read(offset: number, bytes: AccessBytes): number | bigint {
    if (bytes === 8) {
      if ((offset & 3) !== 0) return (this.#unknown('read', offset, 8), 0n);
      const lo = this.#load(offset);
      return wide(this.#load(offset + 4), lo);
    }
    if (offset % bytes !== 0) return (this.#unknown('read', offset, bytes), 0);
    const word = this.#load(offset & ~3);
    if (bytes === 4) return word;
    return (word >>> ((offset & 3) * 8)) & (bytes === 1 ? 0xff : 0xffff);
  }

  write(offset: number, bytes: AccessBytes, value: number | bigint): void {
    if ((offset & 3) === 0 && bytes === 4) this.#store(offset, Number(value) >>> 0);
    else if ((offset & 3) === 0 && bytes === 8) {
      const both = BigInt(value);
      this.#store(offset, loHalf(both));
      this.#store(offset + 4, hiHalf(both));
    } else this.#unknown('write', offset, bytes);
  }

  #load(offset: number): number {
    const index = offset >>> 2;
    const place = places.get(index);
    if (!place) return (this.#unknown('read', offset, 4), 0);
    const hook = this.#hooks[place.name]?.read;
    const raw = hook ? hook(place.item, place.word) >>> 0 : this.words[index]!;
    return (raw & place.readable) >>> 0;
  }

  #store(offset: number, value: number): void {
    const index = offset >>> 2;
    const place = places.get(index);
    if (!place) return this.#unknown('write', offset, 4);
    const old = this.words[index]!;
    this.words[index] = (old & ~place.writable) | (value & place.writable);
    if (this.#trace.on)
      this.#trace.emit('exerciser.register-write', {
        device: this.#device,
        register: registers[place.name].count ? `${place.name}[${place.item}]` : place.name,
        value,
      });
    this.#hooks[place.name]?.afterWrite?.(place.item, value, old);
  }

  #unknown(access: string, offset: number, bytes: number): void {
    if (this.#trace.on) this.#trace.emit('exerciser.register-unknown', { device: this.#device, access, offset, bytes });
  }
}
