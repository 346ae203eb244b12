/** What was cached, as the table entries it was made from. */
import type { TableRead } from './probe.ts';

/** An entry that changed, and its first doubleword that did. */
export interface Change {
  readonly read: TableRead;
  readonly index: number;
  readonly was: bigint;
  readonly is: bigint;
}

/** Entries of tables that something cached was made from: where, and what they held. */
export class Shadow {
  readonly reads: readonly TableRead[];
  readonly #at: Int32Array;
  readonly #values: Int32Array;
  /** Told already, or not worth telling until it is filled again. */
  isReported = false;
  constructor(words: Int32Array, reads: readonly TableRead[]) {
    this.reads = reads;
    let count = 0;
    for (const read of reads) count += 2 * (read.words?.length ?? 0);
    this.#at = new Int32Array(count);
    this.#values = new Int32Array(count);
    let next = 0;
    for (const { hpa, words: doublewords } of reads) {
      const first = Number(hpa) / 4;
      for (let i = 0; i < 2 * (doublewords?.length ?? 0); i++) this.#at[next++] = first + i;
    }
    this.renew(words);
  }

  renew(words: Int32Array): void {
    for (let i = 0; i < this.#at.length; i++) this.#values[i] = words[this.#at[i]!]!;
  }

  holds(words: Int32Array): boolean {
    const at = this.#at;
    const values = this.#values;
    for (let i = 0; i < at.length; i++) if (words[at[i]!] !== values[i]) return false;
    return true;
  }

  /** The reads of entries that changed, each with the first doubleword that did. */
  changed(view: DataView): Change[] {
    const found: Change[] = [];
    let next = 0;
    for (const read of this.reads) {
      const count = read.words?.length ?? 0;
      for (let i = 0; i < count; i++, next += 2) {
        const is = view.getBigUint64(this.#at[next]! * 4, true);
        const was = (BigInt(this.#values[next + 1]! >>> 0) << 32n) | BigInt(this.#values[next]! >>> 0);
        if (is === was) continue;
        if (found.at(-1)?.read !== read) found.push({ read, index: i, was, is });
      }
    }
    return found;
  }
}
