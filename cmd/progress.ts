/** One line on stderr that changes, for work that takes more than a second; nothing where nobody looks. */
import { showStatus } from './output.ts';

const firstMs = 1000;
const everyMs = 100;

export class Progress {
  readonly #what: string;
  readonly #start = performance.now();
  #shownAt = 0;

  constructor(what: string) {
    this.#what = what;
  }

  /** Call as often as is convenient. */
  show(state: string | (() => string)): void {
    const now = performance.now();
    if (now - this.#start < firstMs || now - this.#shownAt < everyMs) return;
    this.#shownAt = now;
    showStatus(`${this.#what}: ${typeof state === 'string' ? state : state()}`);
  }

  /** Shows it now: for a piece of work that is known to take long and has no end of its own to look at. */
  announce(state: string): void {
    showStatus(`${this.#what}: ${state}`);
  }

  /** Leaves no trace of it. */
  end(): void {
    showStatus('');
  }
}
