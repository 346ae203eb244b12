/** A Linux guest in a process of its own, driven over its serial console as a person would. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { threadId } from 'node:worker_threads';
import { bundle } from '../../build.ts';

const file = join('.cache', `iommulab-linux-${threadId}.js`);
let built: Promise<void> | undefined;
const prompt = 'guest# ';

export interface GuestOptions {
  /** On a terminal of its own, which `script` makes. */
  readonly terminal?: boolean;
}

export class Guest {
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;
  /** Everything said so far, without carriage returns. */
  text = '';
  errors = '';
  #heard = 0;
  #onText: () => void = () => {};

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.text += text.replaceAll('\r', '').replaceAll('\u001b[6n', '');
      this.#onText();
    });
    child.stderr!.setEncoding('utf8').on('data', (text: string) => (this.errors += text));
    this.#ended = new Promise((resolve) => child.on('close', (code) => { this.#onText(); resolve(code); })); // prettier-ignore
  }

  static async start(args: readonly string[], { terminal = false }: GuestOptions = {}): Promise<Guest> {
    mkdirSync('.cache', { recursive: true });
    await (built ??= bundle('cmd/main.ts', file));
    const command = [process.execPath, file, 'run', ...args];
    const env = { ...process.env, NO_COLOR: '1' };
    if (!terminal) return new Guest(spawn(command[0]!, command.slice(1), { env }));
    const quoted = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
    return new Guest(spawn('script', ['--quiet', '--return', '--command', quoted, '/dev/null'], { env }));
  }

  /** Types on the console. */
  type(text: string): void {
    this.#child.stdin!.write(text);
  }

  /** What comes up to this text, and the text. */
  async until(text: string): Promise<string> {
    for (;;) {
      const at = this.text.indexOf(text, this.#heard);
      if (at >= 0) {
        const said = this.text.slice(this.#heard, at + text.length);
        this.#heard = at + text.length;
        return said;
      }
      if (this.#child.exitCode !== null)
        throw new Error(`ended before ${JSON.stringify(text)}: ${this.text.slice(-2000)}${this.errors.slice(-2000)}`);
      await new Promise<void>((resolve) => (this.#onText = resolve));
    }
  }

  /** The shell is ready. */
  ready(): Promise<string> {
    return this.until(prompt);
  }

  /** Runs a command in the guest's shell; its output. */
  async run(command: string): Promise<string> {
    const mark = `end ${this.#heard}`;
    // The echo of what is typed must not look like the mark itself.
    this.#child.stdin!.write(`${command}; echo "end" ${this.#heard}\n`);
    const said = await this.until(`\n${mark}\n`);
    await this.ready();
    return said.slice(said.indexOf('\n') + 1, -mark.length - 1);
  }

  /** Leaves the shell, which powers the guest off; the exit code. */
  leave(): Promise<number | null> {
    this.#child.stdin!.write('exit\n');
    return this.#ended;
  }

  get ended(): Promise<number | null> {
    return this.#ended;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}
