import { spawnSync } from 'node:child_process';
import {
  closeSync,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  readvSync,
  writeSync,
  writevSync,
} from 'node:fs';
import { type StorageBackend, StorageError, type StorageErrorKind } from '#vmm/base/ports';
import { checkRange } from './memory.ts';

/** What the system says → what the disk says; anything else is an I/O error. */
const kinds: Readonly<Record<string, StorageErrorKind>> = {
  ENOSPC: 'no-space',
  EDQUOT: 'no-space',
  EFBIG: 'no-space',
  EROFS: 'read-only',
  EACCES: 'read-only',
  EPERM: 'read-only',
};
const failed = (what: string, path: string, error: unknown): StorageError => {
  const code = (error as { code?: string }).code ?? 'unknown error';
  return new StorageError(kinds[code] ?? 'io', `${what} ${path}: ${code}`);
};

const lengthOf = (parts: readonly Uint8Array[]): number => {
  let sum = 0;
  for (const part of parts) sum += part.length;
  return sum;
};

const chunkBytes = 1 << 20;
/** Starting a program costs as much as writing this much. */
const leastHoleBytes = 1 << 20;
const zeroes = Buffer.alloc(chunkBytes);

/** A raw disk image. Reads and writes go straight between the file and the memory that the caller hands in. */
class FileStorage implements StorageBackend {
  readonly bytes: number;
  readonly readOnly: boolean;
  readonly #path: string;
  readonly #fd: number;
  #canPunch = true;

  constructor(path: string, fd: number, bytes: number, readOnly: boolean) {
    this.#path = path;
    this.#fd = fd;
    this.bytes = bytes;
    this.readOnly = readOnly;
  }

  read(offset: number, target: Uint8Array): void {
    checkRange(this, offset, target.length);
    let done = 0;
    while (done < target.length) {
      let count: number;
      try {
        count = readSync(this.#fd, target, done, target.length - done, offset + done);
      } catch (error) {
        throw failed('cannot read', this.#path, error);
      }
      // The file became shorter than it was when it was opened.
      if (count === 0)
        throw new StorageError('io', `${this.#path} is shorter than the ${this.bytes} bytes it had when it was opened`);
      done += count;
    }
  }

  write(offset: number, source: Uint8Array): void {
    if (this.readOnly) throw new StorageError('read-only', `${this.#path} is open read-only`);
    checkRange(this, offset, source.length);
    try {
      let done = 0;
      while (done < source.length) done += writeSync(this.#fd, source, done, source.length - done, offset + done);
    } catch (error) {
      throw failed('cannot write', this.#path, error);
    }
  }

  readVector(offset: number, targets: readonly Uint8Array[]): void {
    const length = lengthOf(targets);
    checkRange(this, offset, length);
    try {
      if (readvSync(this.#fd, targets, offset) === length) return;
    } catch (error) {
      throw failed('cannot read', this.#path, error);
    }
    // Cut short; one by one it can be told why.
    for (const target of targets) {
      this.read(offset, target);
      offset += target.length;
    }
  }

  writeVector(offset: number, sources: readonly Uint8Array[]): void {
    if (this.readOnly) throw new StorageError('read-only', `${this.#path} is open read-only`);
    const length = lengthOf(sources);
    checkRange(this, offset, length);
    try {
      if (writevSync(this.#fd, sources, offset) === length) return;
    } catch (error) {
      throw failed('cannot write', this.#path, error);
    }
    for (const source of sources) {
      this.write(offset, source);
      offset += source.length;
    }
  }

  flush(): void {
    if (this.readOnly) return;
    try {
      fdatasyncSync(this.#fd);
    } catch (error) {
      throw failed('cannot flush', this.#path, error);
    }
  }

  /**
   * A range that reaches the end of the file is freed by shortening and lengthening it, a large one elsewhere by
   * `fallocate` (Node has no call for it) where the system has that program and the file system can. What is left is
   * overwritten with zeroes, but only where the file does not read as zeroes already: holes stay holes.
   */
  discard(offset: number, length: number): void {
    if (this.readOnly) throw new StorageError('read-only', `${this.#path} is open read-only`);
    checkRange(this, offset, length);
    if (length === 0) return;
    if (offset + length === this.bytes) {
      try {
        ftruncateSync(this.#fd, offset);
        ftruncateSync(this.#fd, this.bytes);
      } catch (error) {
        throw failed('cannot discard in', this.#path, error);
      }
      return;
    }
    if (length >= leastHoleBytes && this.#punch(offset, length)) return;
    const found = Buffer.allocUnsafe(Math.min(chunkBytes, length));
    for (let at = 0; at < length; at += chunkBytes) {
      const part = found.subarray(0, Math.min(chunkBytes, length - at));
      this.read(offset + at, part);
      const blank = zeroes.subarray(0, part.length);
      if (!part.equals(blank)) this.write(offset + at, blank);
    }
  }

  /** False where no hole can be made; it is not tried again then. */
  #punch(offset: number, length: number): boolean {
    if (!this.#canPunch) return false;
    const range = ['--offset', String(offset), '--length', String(length)];
    // The open file itself, whatever its name has become.
    const { status } = spawnSync('fallocate', ['--punch-hole', ...range, '/dev/fd/3'], {
      stdio: ['ignore', 'ignore', 'ignore', this.#fd],
    });
    this.#canPunch = status === 0;
    return this.#canPunch;
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/**
 * Opens a raw image, a regular file. Throws what node:fs throws where it cannot be opened.
 * @param options.readOnly opens it so that nothing can be written
 */
export const fileStorage = (path: string, options: { readOnly?: boolean } = {}): StorageBackend => {
  const readOnly = options.readOnly ?? false;
  const fd = openSync(path, readOnly ? 'r' : 'r+');
  return new FileStorage(path, fd, fstatSync(fd).size, readOnly);
};
