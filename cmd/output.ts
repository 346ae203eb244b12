/** Data goes to stdout, talk to stderr; colour where a person looks, unless the environment says otherwise. */
import { writeSync } from 'node:fs';
import pc from 'picocolors';

type Colors = ReturnType<typeof pc.createColors>;

interface Environment {
  readonly [name: string]: string | undefined;
}

/** no-color.org and FORCE_COLOR; a dumb terminal has none. */
export function wantsColor(isTerminal: boolean, env: Environment, argv: readonly string[]): boolean {
  if (argv.includes('--no-color')) return false;
  if (argv.includes('--color')) return true;
  if (env['NO_COLOR']) return false;
  if (env['FORCE_COLOR']) return env['FORCE_COLOR'] !== '0';
  return isTerminal && env['TERM'] !== 'dumb';
}

/** Writes all of it before returning, also to a pipe that is full. False when nobody reads any more. */
function writeAll(fd: number, bytes: Uint8Array): boolean {
  let at = 0;
  while (at < bytes.length) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'EPIPE') return false;
      if (code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
  return true;
}

/** Erases the line that the cursor is in. */
const eraseLine = '\r\u001b[2K';
/** A line about work under way stands at the end of the terminal: whatever comes next takes its place. */
let hasStatus = false;

class Stream {
  readonly colors: Colors;
  readonly isTerminal: boolean;
  readonly #fd: 1 | 2;
  #open = true;

  constructor(fd: 1 | 2) {
    this.#fd = fd;
    this.isTerminal = (fd === 1 ? process.stdout : process.stderr).isTTY === true;
    this.colors = pc.createColors(wantsColor(this.isTerminal, process.env, process.argv));
  }

  write(text: string | Uint8Array): void {
    if (hasStatus) showStatus('');
    if (this.#open) this.#open = writeAll(this.#fd, typeof text === 'string' ? Buffer.from(text) : text);
  }

  line(text = ''): void {
    this.write(`${text}\n`);
  }
}

/** What was asked for. */
export const stdout = new Stream(1);
/** Everything else. */
export const stderr = new Stream(2);

/**
 * What is being done, on stderr where that is a terminal; anything that is written afterwards, there or on stdout, comes
 * in its place. Empty: nothing any more.
 */
export function showStatus(text: string): void {
  if (!stderr.isTerminal || (text === '' && !hasStatus)) return;
  hasStatus = false;
  stderr.write(text === '' ? eraseLine : `${eraseLine}${stderr.colors.dim(text.slice(0, statusColumns()))}`);
  hasStatus = text !== '';
}
const statusColumns = (): number => Math.max(20, (process.stderr.columns || 80) - 1);

/** One JSON document on stdout; 64-bit values are strings "0x…". */
export function printJson(value: unknown): void {
  const text = JSON.stringify(
    value,
    (_, item: unknown) => (typeof item === 'bigint' ? `0x${item.toString(16)}` : item),
    2,
  );
  stdout.line(text);
}

/** Columns padded to their widest cell; numbers (cells that begin with a digit) to the right when `right` names them. */
export function table(rows: readonly (readonly string[])[], right: readonly number[] = []): string {
  const widths: number[] = [];
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  return rows
    .map((row) =>
      row
        .map((cell, i) => (right.includes(i) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
