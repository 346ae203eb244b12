/** One line on stderr that changes, for work that takes more than a second; nothing where nobody looks. */
import { stderr } from './output.ts';

const firstMs = 1000;
const everyMs = 100;

export class Progress {
  readonly #what: string;
  readonly #start = performance.now();
  #shownAt = 0;
  #isShown = false;

  constructor(what: string) {
    this.#what = what;
  }

  /** Call as often as is convenient. */
  show(state: string): void {
    const now = performance.now();
    if (!stderr.isTerminal || now - this.#start < firstMs || now - this.#shownAt < everyMs) return;
    this.#shownAt = now;
    this.#isShown = true;
    stderr.write(`\r\u001b[2K${stderr.colors.dim(`${this.#what}: ${state}`)}`);
  }

  /** Leaves no trace of it. */
  end(): void {
    if (this.#isShown) stderr.write('\r\u001b[2K');
    this.#isShown = false;
  }
}
