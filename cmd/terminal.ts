/** The console's input: the terminal in raw mode, or whatever stdin is. */
import { EscapeKeys, escapeHelp } from './escape-keys.ts';
import { stderr } from './output.ts';

/** More input than this is left in the pipe until the guest has read some. */
const heldBytes = 64 << 10;

export class ConsoleInput {
  readonly isTerminal = process.stdin.isTTY === true;
  #held: Uint8Array = new Uint8Array(0);
  #isLeaving = false;
  #wake: (() => void) | undefined;
  readonly #keys = new EscapeKeys((action) => {
    if (action === 'leave') this.#isLeaving = true;
    else for (const line of escapeHelp()) stderr.write(`\r\n${line}`);
    if (action === 'help') stderr.write('\r\n');
  });
  readonly #onData = (bytes: Buffer): void => {
    // A pipe carries bytes for the guest, also those that a person would have to escape.
    const kept = this.isTerminal ? this.#keys.filter(bytes) : bytes;
    this.#held = Buffer.concat([this.#held, kept]);
    if (this.#held.length > heldBytes) process.stdin.pause();
    this.#wake?.();
  };
  /** A pipe whose other end goes away has nothing more to say, which ends nothing. */
  readonly #onError = (): void => {};

  open(): void {
    if (this.isTerminal) process.stdin.setRawMode(true);
    process.stdin.on('data', this.#onData).on('error', this.#onError).resume();
  }

  close(): void {
    process.stdin.off('data', this.#onData).pause();
    if (this.isTerminal) process.stdin.setRawMode(false);
  }

  /** Ctrl-A x was typed. */
  get isLeaving(): boolean {
    return this.#isLeaving;
  }

  /** Offers what was typed to `receive`, which says how much of it was taken. */
  offer(receive: (bytes: Uint8Array) => number): void {
    if (this.#held.length === 0) return;
    this.#held = this.#held.subarray(receive(this.#held));
    if (this.#held.length <= heldBytes) process.stdin.resume();
  }

  /** Waits so long, or until something is typed. */
  wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wake?.(), ms);
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = undefined;
        resolve();
      };
    });
  }
}
