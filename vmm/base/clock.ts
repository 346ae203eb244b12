import { invariant } from './invariant.ts';

/** When an event happens, and before or behind which others of that instant. */
// A type, not an interface: it is data, too.
export type Due = { readonly at: number; readonly order: number };

export interface Scheduled {
  cancel(): void;
  /** For a snapshot; undefined when it has happened or was cancelled. */
  due?(): Due | undefined;
  /** Moves it, as `due` told. */
  place?(due: Due): void;
}
/** What an entry tells the queue that holds it. */
interface EntryQueue {
  moved(): void;
  cancelled(): void;
}
/** Cancelled entries below which nobody minds them. */
const fewCancelled = 64;

class Entry implements Scheduled {
  at: number;
  order: number;
  run: (() => void) | undefined;
  /** Somebody told a snapshot of it. */
  isTold = false;
  readonly #queue: EntryQueue;

  constructor(at: number, order: number, run: () => void, queue: EntryQueue) {
    this.at = at;
    this.order = order;
    this.run = run;
    this.#queue = queue;
  }
  cancel(): void {
    if (this.run === undefined) return;
    this.run = undefined;
    this.#queue.cancelled();
  }
  due(): Due | undefined {
    if (this.run === undefined) return undefined;
    this.isTold = true;
    return { at: this.at, order: this.order };
  }
  place({ at, order }: Due): void {
    this.at = at;
    this.order = order;
    this.#queue.moved();
  }
}

/**
 * Virtual time in nanoseconds since reset, and the one event queue on which devices complete.
 * Events due at the same instant run in the order in which they were scheduled, so a run is a pure function of its inputs.
 */
export class Clock {
  #now = 0;
  #lag: (() => number) | undefined;
  #order = 0;
  #heap: Entry[] = [];
  /** Of those in the heap: most time limits are cancelled long before their time. */
  #cancelled = 0;
  readonly #queue: EntryQueue = {
    moved: () => this.#sort(),
    cancelled: () => {
      this.#cancelled++;
      if (this.#cancelled > fewCancelled && 2 * this.#cancelled > this.#heap.length) this.#sweep();
    },
  };

  /** Nanoseconds of virtual time. */
  get now(): number {
    return this.#lag ? this.#now + this.#lag() : this.#now;
  }

  /**
   * While a hart runs ahead of the queue, what it does to devices happens later than the last `advance`: `lag` tells
   * by how many ns. Undefined when it has stopped and its time is about to be advanced over.
   */
  runAhead(lag: (() => number) | undefined): void {
    this.#lag = lag;
  }

  /** Runs `run` once, `delayNs` from now (0 = at the next advance, never synchronously). */
  schedule(delayNs: number, run: () => void): Scheduled {
    if (!(delayNs >= 0)) invariant(false, `an event ${delayNs} ns in the past`);
    const entry = new Entry(this.now + delayNs, this.#order++, run, this.#queue);
    this.#push(entry);
    return entry;
  }

  /** Nanoseconds until the next event (0 when one is due), or Infinity. */
  untilNext(): number {
    this.#dropCancelled();
    const next = this.#heap[0];
    return next ? Math.max(0, next.at - this.now) : Infinity;
  }

  /** Moves time forward and runs what became due, each event at its own instant. */
  advance(ns: number): void {
    const end = this.#now + ns;
    for (;;) {
      this.#dropCancelled();
      const next = this.#heap[0];
      if (!next || next.at > end) break;
      this.#pop();
      this.#now = Math.max(this.#now, next.at);
      const { run } = next;
      next.run = undefined;
      run?.();
    }
    this.#now = end;
  }

  /** A snapshot begins; `forgotten` tells at its end whether anybody's event is not in it. */
  beginSave(): { readonly now: number; readonly order: number; readonly pending: number } {
    const pending = this.#heap.filter((entry) => entry.run !== undefined);
    for (const entry of pending) entry.isTold = false;
    return { now: this.now, order: this.#order, pending: pending.length };
  }

  /** Events of which nobody told since `beginSave`. */
  get forgotten(): number {
    return this.#heap.filter((entry) => entry.run !== undefined && !entry.isTold).length;
  }

  /** Empties the queue: who has events puts them there again. */
  beginRestore(now: number): void {
    this.#heap.length = 0;
    this.#cancelled = 0;
    this.#now = now;
  }

  /** They are all there again; how many. What is scheduled from now on comes behind them. */
  endRestore(order: number): number {
    this.#order = order;
    return this.#heap.length;
  }

  #dropCancelled(): void {
    while (this.#heap.length > 0 && this.#heap[0]!.run === undefined) {
      this.#pop();
      this.#cancelled--;
    }
  }

  #sweep(): void {
    this.#heap = this.#heap.filter((entry) => entry.run !== undefined);
    this.#cancelled = 0;
    this.#sort();
  }

  /** Entries were moved: a sorted list is a heap. */
  #sort(): void {
    this.#heap.sort((a, b) => a.at - b.at || a.order - b.order);
  }

  #before(a: Entry, b: Entry): boolean {
    return a.at < b.at || (a.at === b.at && a.order < b.order);
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let i = heap.push(entry) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!this.#before(entry, heap[parent]!)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.#before(heap[child + 1]!, heap[child]!)) child++;
      if (!this.#before(heap[child]!, last)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
  }
}
