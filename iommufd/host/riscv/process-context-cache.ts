import { array, field, parts } from '#vmm/base/saved';
import type { ProcessContext } from './contexts.ts';

const ways = 4;
/** log2 of the words of an entry: device and valid; process and PPN's upper half; PSCID, mode and flags; PPN's lower half. */
const entryShift = 2;
const valid = 1 << 31;
const processMask = 0xf_ffff;
const processBits = 20;
/** Of the third word: PSCID below, then ENS, SUM and iosatp.MODE. */
const flag = { ens: 1 << 20, sum: 1 << 21 } as const;
const modeShift = 24;

/**
 * Process contexts as silicon keeps them (§2.8): bounded, set-associative, numbers only. What is in it stays until a
 * command invalidates it or another takes its place. An entry is named by the number `lookup` gives; use it at once.
 */
export class ProcessContextCache {
  readonly #words: Int32Array;
  readonly #sets: number;
  readonly #next: Uint8Array;
  #used = 0;
  readonly saved = parts({
    words: array(() => this.#words),
    next: array(() => this.#next),
    used: field(
      () => this.#used,
      (value) => (this.#used = value),
    ),
  });

  /** `entries` a power of two, at least 4. */
  constructor(entries: number) {
    this.#sets = entries / ways;
    this.#words = new Int32Array(entries << entryShift);
    this.#next = new Uint8Array(this.#sets);
  }

  get size(): number {
    return this.#used;
  }

  /** Processes in a row lie in sets of their own. */
  #set(deviceId: number, processId: number): number {
    return (
      (((processId ^ Math.imul(deviceId, 0x9e3779b1) ^ (processId >>> 10)) & (this.#sets - 1)) << entryShift) * ways
    );
  }

  /** The entry of a process, or -1. */
  lookup(deviceId: number, processId: number): number {
    const words = this.#words;
    const first = this.#set(deviceId, processId);
    for (let at = first; at < first + (ways << entryShift); at += 1 << entryShift)
      if (words[at] === (deviceId | valid) && (words[at + 1]! & processMask) === processId) return at;
    return -1;
  }

  pscid(at: number): number {
    return this.#words[at + 2]! & processMask;
  }

  /** iosatp.MODE of the first stage. */
  mode(at: number): number {
    return (this.#words[at + 2]! >>> modeShift) & 15;
  }

  /** Page number of the first stage's root, up to 2^44. */
  ppn(at: number): number {
    return (this.#words[at + 1]! >>> processBits) * 2 ** 32 + (this.#words[at + 3]! >>> 0);
  }

  get(deviceId: number, processId: number): ProcessContext | undefined {
    const at = this.lookup(deviceId, processId);
    if (at < 0) return undefined;
    const flags = this.#words[at + 2]!;
    return {
      ens: (flags & flag.ens) !== 0,
      sum: (flags & flag.sum) !== 0,
      pscid: this.pscid(at),
      mode: this.mode(at),
      ppn: BigInt(this.ppn(at)),
    };
  }

  /** Adds or replaces a context; `ppn` up to 2^44. Returns its entry. */
  put(
    deviceId: number,
    processId: number,
    pscid: number,
    mode: number,
    ppn: number,
    ens: boolean,
    sum: boolean,
  ): number {
    const words = this.#words;
    const set = this.#set(deviceId, processId);
    let at = this.lookup(deviceId, processId);
    for (let way = set; at < 0 && way < set + (ways << entryShift); way += 1 << entryShift)
      if (!(words[way]! & valid)) at = way;
    if (at < 0) {
      const index = set / (ways << entryShift);
      const turn = this.#next[index]!;
      this.#next[index] = (turn + 1) % ways;
      at = set + (turn << entryShift);
    }
    if (!(words[at]! & valid)) this.#used++;
    words[at] = deviceId | valid;
    words[at + 1] = processId | (Math.floor(ppn / 2 ** 32) << processBits);
    words[at + 2] = pscid | (ens ? flag.ens : 0) | (sum ? flag.sum : 0) | (mode << modeShift);
    words[at + 3] = ppn | 0;
    return at;
  }

  clear(): void {
    this.#words.fill(0);
    this.#used = 0;
  }

  #drop(at: number): void {
    this.#words[at] = 0;
    this.#used--;
  }

  delete(deviceId: number, processId: number): void {
    const at = this.lookup(deviceId, processId);
    if (at >= 0) this.#drop(at);
  }

  /** Forgets every process of one device. */
  deleteDevice(deviceId: number): void {
    const words = this.#words;
    for (let at = 0; at < words.length; at += 1 << entryShift) if (words[at] === (deviceId | valid)) this.#drop(at);
  }
}
