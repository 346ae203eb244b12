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
  /** What was read before, which others share. */
  readonly #before: Shadow | undefined;
  /** Of each doubleword: its index among 32-bit words, and its two halves. Plain lists, as there are a great many short ones. */
  readonly #at: number[] = [];
  readonly #values: number[] = [];
  /** Told already, or not worth telling until it is filled again. */
  isReported = false;
  constructor(words: Int32Array, reads: readonly TableRead[], before?: Shadow) {
    this.reads = reads;
    this.#before = before;
    for (const { hpa, words: doublewords } of reads) {
      const first = Number(hpa) / 4;
      for (let i = 0; i < (doublewords?.length ?? 0); i++) {
        const at = first + 2 * i;
        this.#at.push(at);
        this.#values.push(words[at]!, words[at + 1]!);
      }
    }
  }

  holds(words: Int32Array): boolean {
    const at = this.#at;
    const values = this.#values;
    for (let i = 0; i < at.length; i++) {
      const first = at[i]!;
      if (words[first] !== values[2 * i] || words[first + 1] !== values[2 * i + 1]) return false;
    }
    return this.#before === undefined || this.#before.holds(words);
  }

  /** The reads of entries that changed, in the order of the walk, each with the first doubleword that did. */
  changed(view: DataView): Change[] {
    const found = this.#before?.changed(view) ?? [];
    let next = 0;
    for (const read of this.reads) {
      const count = read.words?.length ?? 0;
      for (let i = 0; i < count; i++, next++) {
        const is = view.getBigUint64(this.#at[next]! * 4, true);
        const was = (BigInt(this.#values[2 * next + 1]! >>> 0) << 32n) | BigInt(this.#values[2 * next]! >>> 0);
        if (is === was) continue;
        if (found.at(-1)?.read !== read) found.push({ read, index: i, was, is });
      }
    }
    return found;
  }
}
