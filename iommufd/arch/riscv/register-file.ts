import { hex } from '#vmm/base/address';
import type { Trace } from '#vmm/base/events';
import type { AccessBytes } from '#vmm/base/ports';
import { array, parts } from '#vmm/base/saved';
import { type Capabilities, registerFile, registerPageBytes, type RegisterRow } from './registers.ts';

/** Which part of a register a store reached. */
type WrittenPart = 'all' | 'low' | 'high';

/** What a register's owner does with a write, beyond the declared access of its fields. */
export interface WriteHook {
  /** Turns the value that the fields' access rules give into a legal one; undefined drops the write. */
  legalise?(next: bigint, old: bigint, row: RegisterRow, written: bigint, part: WrittenPart): bigint | undefined;
  afterWrite?(next: bigint, old: bigint, row: RegisterRow, written: bigint): void;
  /** Instead of both, of a 32-bit register that every command or record goes by: no bigint. */
  readonly word?: WordHook;
}
interface WordHook {
  legalise(next: number, old: number): number;
  afterWrite?(written: number): void;
}

/** The 4 KiB page's storage; dispatches accesses by the register table, and is the one place that knows bad ones. */
export class RegisterFile {
  /** The page as 32-bit words: index = offset / 4. */
  readonly words = new Uint32Array(registerPageBytes / 4);
  readonly #wide = new BigUint64Array(this.words.buffer);
  readonly #rows: (RegisterRow | undefined)[] = [];
  readonly #hooks: ReadonlyMap<string, WriteHook>;
  readonly #trace: Trace;
  readonly #unit: string;
  /** Called before a read, for registers whose value depends on the time. */
  beforeRead: ((row: RegisterRow) => void) | undefined;
  readonly saved = parts({ words: array(() => this.words) });

  constructor(features: Capabilities, hooks: ReadonlyMap<string, WriteHook>, trace: Trace, unit: string) {
    this.#hooks = hooks;
    this.#trace = trace;
    this.#unit = unit;
    for (const row of registerFile)
      if (!row.when || row.when(features))
        for (let word = 0; word < row.register.width / 32; word++) this.#rows[row.offset / 4 + word] = row;
  }

  get64(offset: number): bigint {
    return this.#wide[offset >>> 3]!;
  }

  set64(offset: number, value: bigint): void {
    this.#wide[offset >>> 3] = value;
  }

  /** §5: misaligned, spanning, too narrow or too wide is UNSPECIFIED: it reads 0 and writes nothing here. */
  #row(offset: number, bytes: number): RegisterRow | undefined {
    if ((bytes !== 4 && bytes !== 8) || offset % bytes !== 0) return undefined;
    const row = this.#rows[offset >>> 2];
    return row && bytes * 8 <= row.register.width ? row : undefined;
  }

  #bad(offset: number, bytes: number, write: number): void {
    if (this.#trace.on) this.#trace.emit('iommu.bad-access', { unit: this.#unit, offset, bytes, write });
  }

  read(offset: number, bytes: AccessBytes): number | bigint {
    const row = this.#row(offset, bytes);
    if (!row) {
      this.#bad(offset, bytes, 0);
      return bytes === 8 ? 0n : 0;
    }
    this.beforeRead?.(row);
    return bytes === 8 ? this.get64(offset) : this.words[offset >>> 2]!;
  }

  write(offset: number, bytes: AccessBytes, value: number | bigint): void {
    const row = this.#row(offset, bytes);
    if (!row) {
      this.#bad(offset, bytes, 1);
      return;
    }
    const wide = row.register.width === 64;
    const hook = this.#hooks.get(row.name);
    if (hook?.word) {
      this.#writeWord(row, hook.word, Number(value) >>> 0);
      return;
    }
    const old = wide ? this.get64(row.offset) : BigInt(this.words[row.offset >>> 2]!);
    let written = BigInt.asUintN(bytes * 8, BigInt(value));
    // A 4-byte access to an 8-byte register replaces one half; no 8-byte register has bits that writing 1 clears.
    if (wide && bytes === 4)
      written = offset & 4 ? (old & 0xffff_ffffn) | (written << 32n) : (old & ~0xffff_ffffn) | written;
    let next: bigint | undefined = row.register.write(old, written);
    const part = !wide || bytes === 8 ? 'all' : offset & 4 ? 'high' : 'low';
    if (hook?.legalise) next = hook.legalise(next, old, row, written, part);
    if (next === undefined) return;
    this.#put(row, next);
    if (this.#trace.on) this.#tell(row, written, next);
    hook?.afterWrite?.(next, old, row, written);
  }

  #writeWord(row: RegisterRow, hook: WordHook, written: number): void {
    const at = row.offset >>> 2;
    const old = this.words[at]!;
    const { writableWord, writeOneToClearWord } = row.register;
    const kept = ((old & ~writableWord) | (written & writableWord)) & ~(written & writeOneToClearWord);
    this.words[at] = hook.legalise(kept >>> 0, old);
    if (this.#trace.on) this.#tell(row, BigInt(written), BigInt(this.words[at]!));
    hook.afterWrite?.(written);
  }

  #tell(row: RegisterRow, written: bigint, next: bigint): void {
    this.#trace.tellLater('iommu.register', () => ({
      unit: this.#unit,
      register: row.name,
      value: hex(written),
      fields: row.register.describe(next),
    }));
  }

  #put(row: RegisterRow, value: bigint): void {
    if (row.register.width === 64) this.set64(row.offset, value);
    else this.words[row.offset >>> 2] = Number(value);
  }
}
