import { invariant } from '#vmm/base/invariant';
import type { Field, FieldSpec, Register } from '#vmm/base/bits';
import { array, parts } from '#vmm/base/saved';

/** What the configuration space needs of a register declaration, whatever its fields. */
export interface ConfigLayout {
  readonly width: 8 | 16 | 32 | 64;
  readonly writeOneToClear: bigint;
  readonly fields: ReadonlyMap<string, Field>;
  read(raw: bigint): bigint;
  write(old: bigint, value: bigint): bigint;
  describe(raw: bigint): string;
}

/** One register: a row of a header's or a capability's table. */
export interface ConfigRow {
  /** Unique within its function. */
  readonly name: string;
  /** From the start of the header or of the capability. */
  readonly offset: number;
  readonly layout: ConfigLayout;
}

/** Lets a table of rows be written with the layouts' own field types. */
export const row = <const F extends Record<string, FieldSpec>>(
  name: string,
  offset: number,
  layout: Register<F>,
): ConfigRow => ({ name, offset, layout });

/** What a register holds now, for `inspect pci`. */
export interface ConfigValue {
  readonly name: string;
  readonly offset: number;
  readonly bytes: number;
  readonly value: number;
  /** The non-zero fields by name. */
  readonly meaning: string;
}

export type ConfigHook = (now: number, old: number) => void;

interface Placed {
  readonly row: ConfigRow;
  readonly at: number;
  readonly bytes: number;
  reset: number;
  hook: ConfigHook | undefined;
}

const spaceBytes = 4096;

/** One function's 4 KiB of configuration registers: only what a row declares exists, everything else reads 0. */
export class ConfigSpace {
  readonly #bytes = new Uint8Array(spaceBytes);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #placed: Placed[] = [];
  readonly #byName = new Map<string, Placed>();
  /** Index into #placed + 1 of the row that owns each byte; 0 = none. */
  readonly #owner = new Uint16Array(spaceBytes);
  /** Where registers are and what they reset to follows from the function. */
  readonly saved = parts({ bytes: array(() => this.#bytes) });

  /** Adds a row at `base + row.offset`, with what it holds after a reset. */
  place(row: ConfigRow, base: number, reset = 0): void {
    const at = base + row.offset;
    const bytes = row.layout.width / 8;
    invariant(bytes <= 4 && at % bytes === 0 && at + bytes <= spaceBytes, `${row.name} does not fit at ${at}`);
    invariant(!this.#byName.has(row.name), `two configuration registers called ${row.name}`);
    const placed: Placed = { row, at, bytes, reset, hook: undefined };
    for (let i = 0; i < bytes; i++) {
      invariant(this.#owner[at + i] === 0, `${row.name} overlaps another register at ${at + i}`);
      this.#owner[at + i] = this.#placed.length + 1;
    }
    this.#placed.push(placed);
    this.#byName.set(row.name, placed);
    this.#store(placed, reset);
  }

  /** Runs `hook` after each guest store to a register, with what it holds after and held before; behind earlier ones. */
  onWrite(name: string, hook: ConfigHook): void {
    const placed = this.#find(name);
    const first = placed.hook;
    placed.hook = first
      ? (now, old) => {
          first(now, old);
          hook(now, old);
        }
      : hook;
  }

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  /** A register by name. */
  get(name: string): number {
    return this.#load(this.#find(name));
  }

  /** Sets a register from the device's side, past its access rules. */
  set(name: string, value: number): void {
    this.#store(this.#find(name), value);
  }

  /** Changes what a register holds after a reset, and now. */
  setReset(name: string, value: number): void {
    const placed = this.#find(name);
    placed.reset = value;
    this.#store(placed, value);
  }

  /** Every register back to its reset value. No hook runs. */
  reset(): void {
    for (const placed of this.#placed) this.#store(placed, placed.reset);
  }

  /** A guest's load of 1, 2 or 4 bytes within one double word. */
  read(offset: number, bytes: 1 | 2 | 4): number {
    if (bytes === 4) return this.#view.getUint32(offset, true);
    return bytes === 2 ? this.#view.getUint16(offset, true) : this.#bytes[offset]!;
  }

  /**
   * A guest's store of 1, 2 or 4 bytes within one double word. Several small registers may share it, each sees only
   * the byte lanes that were written. All bytes change before the first hook runs.
   */
  write(offset: number, bytes: 1 | 2 | 4, value: number, onRow?: (row: ConfigValue) => void): void {
    const touched: { placed: Placed; old: number; now: number }[] = [];
    for (let i = 0; i < bytes;) {
      const index = this.#owner[offset + i]!;
      if (index === 0) {
        i++;
        continue;
      }
      const placed = this.#placed[index - 1]!;
      const first = offset + i - placed.at;
      const count = Math.min(placed.bytes - first, bytes - i);
      const lanes = (2n ** BigInt(8 * count) - 1n) << BigInt(8 * first);
      const stored = (BigInt(value >>> 0) >> BigInt(8 * i)) << BigInt(8 * first);
      const old = this.#load(placed);
      // Lanes that were not written keep what is writable and clear nothing.
      const unwritten = BigInt(old) & ~lanes & ~placed.row.layout.writeOneToClear;
      const now = placed.row.layout.write(BigInt(old), unwritten | (stored & lanes));
      this.#store(placed, Number(placed.row.layout.read(now)));
      touched.push({ placed, old, now: Number(now) });
      i += count;
    }
    for (const { placed, old, now } of touched) {
      onRow?.(this.#value(placed));
      placed.hook?.(now, old);
    }
  }

  /** All registers by ascending offset. */
  values(): ConfigValue[] {
    return this.#placed.toSorted((a, b) => a.at - b.at).map((placed) => this.#value(placed));
  }

  #value(placed: Placed): ConfigValue {
    const value = this.#load(placed);
    const { name, layout } = placed.row;
    return { name, offset: placed.at, bytes: placed.bytes, value, meaning: layout.describe(BigInt(value)) };
  }

  #find(name: string): Placed {
    const placed = this.#byName.get(name);
    invariant(placed, `no configuration register ${name}`);
    return placed;
  }

  #load({ at, bytes }: Placed): number {
    return this.read(at, bytes as 1 | 2 | 4);
  }

  #store({ at, bytes }: Placed, value: number): void {
    if (bytes === 4) this.#view.setUint32(at, value, true);
    else if (bytes === 2) this.#view.setUint16(at, value, true);
    else this.#bytes[at] = value;
  }
}
