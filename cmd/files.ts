/** Files by their paths: every failure becomes one sentence that names the file. */
import { closeSync, fstatSync, openSync, readFileSync, readSync, statSync, writeSync } from 'node:fs';
import { CommandError } from './exit.ts';

/** errno → what to say, and whether the fault is the person's (usage) or the host's (resource). */
const reasons: Readonly<Record<string, readonly [string, 'usage' | 'resource']>> = {
  ENOENT: ['does not exist', 'usage'],
  ENOTDIR: ['does not exist', 'usage'],
  EISDIR: ['is a directory', 'usage'],
  EACCES: ['may not be opened', 'resource'],
  EPERM: ['may not be opened', 'resource'],
  EROFS: ['is on a read-only file system', 'resource'],
  ENOSPC: ['does not fit on its file system', 'resource'],
  EMFILE: ['cannot be opened: too many open files', 'resource'],
};

/** The sentence for a failed file operation; errors that are not the file system's pass through. */
export function fileError(error: unknown, path: string, what: string): unknown {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  if (error instanceof CommandError || code === undefined) return error;
  const [reason, ending] = reasons[code] ?? [`cannot be used (${code})`, 'resource'];
  return new CommandError(ending, `${path}: expected ${what}, but it ${reason}`);
}

/** The same for a file that is to be written. */
export const outputError = (error: unknown, path: string, what: string): unknown =>
  ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')
    ? new CommandError('usage', `${path}: expected a place for ${what}, but its folder does not exist`)
    : fileError(error, path, what);

export function readFile(path: string, what: string, maxBytes: number): Uint8Array {
  try {
    const bytes = statSync(path).size;
    if (bytes > maxBytes)
      throw new CommandError('usage', `${path}: expected ${what} of at most ${maxBytes} bytes, found ${bytes}`);
    return readFileSync(path);
  } catch (error) {
    throw fileError(error, path, what);
  }
}

/** Node reads and writes fewer than 2³¹ bytes at once. */
const pieceBytes = 1 << 30;

/** `readFile` for files of any size that memory has room for. `piece`: bytes that are read at once. */
export function readLargeFile(path: string, what: string, piece = pieceBytes): Uint8Array {
  try {
    const fd = openSync(path, 'r');
    try {
      const bytes = new Uint8Array(fstatSync(fd).size);
      let at = 0;
      for (;;) {
        const count = at < bytes.length ? readSync(fd, bytes, at, Math.min(piece, bytes.length - at), null) : 0;
        if (count === 0) return bytes.subarray(0, at);
        at += count;
      }
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (error instanceof RangeError)
      throw new CommandError('resource', `${path}: the host has no memory for ${what} of this size`);
    throw fileError(error, path, what);
  }
}

/** Writes all of it where the file is. `piece`: bytes that are written at once. */
export function writeAll(fd: number, bytes: Uint8Array, piece = pieceBytes): void {
  for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at, Math.min(piece, bytes.length - at));
}

/** A file that is written from its beginning, piece by piece. */
export class OutputFile {
  readonly path: string;
  readonly #fd: number;
  readonly #what: string;

  constructor(path: string, what: string) {
    this.path = path;
    this.#what = what;
    try {
      this.#fd = openSync(path, 'w');
    } catch (error) {
      throw outputError(error, path, what);
    }
  }

  readonly write = (content: string | Uint8Array): void => {
    const bytes = typeof content === 'string' ? Buffer.from(content) : content;
    try {
      writeAll(this.#fd, bytes);
    } catch (error) {
      throw fileError(error, this.path, this.#what);
    }
  };

  close(): void {
    closeSync(this.#fd);
  }
}
