/** Keeps virtual time from running ahead of the wall clock. */
export class Pace {
  /** performance.now() at which virtual time was zero. */
  #zeroMs: number;

  constructor(nowMs: number) {
    this.#zeroMs = nowMs;
  }

  /** Milliseconds to wait. A guest that has fallen behind does not catch up: its clock is late from then on. */
  ahead(virtualNs: number, nowMs: number): number {
    const ahead = virtualNs / 1e6 - (nowMs - this.#zeroMs);
    if (ahead < 0) this.#zeroMs -= ahead;
    return Math.max(0, ahead);
  }
}
