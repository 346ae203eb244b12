/** A Linux guest in a process of its own, ours or QEMU's, driven over its serial console and watched from outside. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** Of a second: what /proc counts CPU time in (sysconf _SC_CLK_TCK, 100 on every Linux that Node runs on). */
const ticks = 100;
const prompt = 'guest# ';

/** What a stretch of a process's life took, in seconds. */
export interface Spent {
  readonly wall: number;
  /** Of all its threads. */
  readonly cpu: number;
}

export class WatchedGuest {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  readonly #started = performance.now();
  #text = '';
  #heard = 0;
  #commands = 0;
  #onText: () => void = () => {};

  constructor(command: string, args: readonly string[]) {
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'ignore'] });
    this.#child.stdout!.setEncoding('latin1').on('data', (text: string) => {
      this.#text += text.replaceAll('\r', '');
      this.#onText();
    });
    this.#ended = new Promise((resolve) => {
      const end = (): void => {
        this.#onText();
        resolve();
      };
      this.#child.on('close', end).on('error', end);
    });
  }

  /** Since it was started. */
  spent(): Spent {
    const stat = readFileSync(`/proc/${this.#child.pid}/stat`, 'latin1');
    // The name in parentheses may hold anything; utime and stime are the 12th and 13th fields behind it.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return {
      wall: (performance.now() - this.#started) / 1000,
      cpu: (Number(fields[11]) + Number(fields[12])) / ticks,
    };
  }

  /** The most memory that it had resident, bytes. */
  peakBytes(): number {
    const status = readFileSync(`/proc/${this.#child.pid}/status`, 'latin1');
    return Number(/^VmHWM:\s*(\d+) kB/m.exec(status)?.[1] ?? NaN) * 1024;
  }

  /** Waits for a text. @throws Error when the process ends, or `seconds` pass, before it comes. */
  async until(text: string, seconds = 300): Promise<string> {
    const deadline = performance.now() + seconds * 1000;
    for (;;) {
      const at = this.#text.indexOf(text, this.#heard);
      if (at >= 0) {
        const said = this.#text.slice(this.#heard, at);
        this.#heard = at + text.length;
        return said;
      }
      const left = deadline - performance.now();
      if (this.#child.exitCode !== null || this.#child.pid === undefined || left <= 0)
        throw new Error(`no ${JSON.stringify(text)} from ${this.#child.spawnfile}: ${this.#text.slice(-300)}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#onText = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** Runs a command in the guest's shell, which shows its prompt: what it said, and what it took from outside. */
  async run(command: string): Promise<Spent & { readonly said: string }> {
    await this.until(prompt);
    const number = ++this.#commands;
    const before = this.spent();
    // The echo of what is typed must not look like the mark itself.
    this.#child.stdin!.write(`${command}; echo "end" ${number}\n`);
    const said = await this.until(`end ${number}\n`);
    const after = this.spent();
    return { wall: after.wall - before.wall, cpu: after.cpu - before.cpu, said };
  }

  /** As Ctrl-C does, so that Node still writes its profile; or at once. */
  async end(signal: 'SIGINT' | 'SIGKILL' = 'SIGKILL'): Promise<void> {
    this.#child.kill(signal);
    await this.#ended;
  }
}
