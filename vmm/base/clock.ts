import { invariant } from './invariant.ts';

export interface Scheduled {
  cancel(): void;
}
class Entry implements Scheduled {
  readonly at: number;
  readonly order: number;
  run: (() => void) | undefined;

  constructor(at: number, order: number, run: () => void) {
    this.at = at;
    this.order = order;
    this.run = run;
  }
  cancel(): void {
    this.run = undefined;
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
  readonly #heap: Entry[] = [];

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
    invariant(delayNs >= 0, `an event ${delayNs} ns in the past`);
    const entry = new Entry(this.now + delayNs, this.#order++, run);
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
      next.run?.();
    }
    this.#now = end;
  }

  #dropCancelled(): void {
    while (this.#heap.length > 0 && this.#heap[0]!.run === undefined) this.#pop();
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
