import { type StorageBackend, StorageError } from '#vmm/base/ports';
import { parts, sparseBytes } from '#vmm/base/saved';

/** Throws where a range leaves the disk. */
export const checkRange = (backend: StorageBackend, offset: number, length: number): void => {
  if (!Number.isSafeInteger(offset) || offset < 0 || length < 0 || offset + length > backend.bytes)
    throw new StorageError('range', `bytes ${offset} + ${length} of a disk of ${backend.bytes}`);
};

/** A disk in memory; gone with the process. */
export class MemoryStorage implements StorageBackend {
  readonly content: Uint8Array;
  readonly readOnly = false;
  readonly saved = parts({ content: sparseBytes(() => this.content) });

  constructor(content: Uint8Array) {
    this.content = content;
  }
  get bytes(): number {
    return this.content.length;
  }
  read(offset: number, target: Uint8Array): void {
    checkRange(this, offset, target.length);
    target.set(this.content.subarray(offset, offset + target.length));
  }
  write(offset: number, source: Uint8Array): void {
    checkRange(this, offset, source.length);
    this.content.set(source, offset);
  }
  flush(): void {}
  discard(offset: number, length: number): void {
    checkRange(this, offset, length);
    this.content.fill(0, offset, offset + length);
  }
  close(): void {}
}

/** @param content the disk's size in bytes (zeroes), or its bytes, which are then written in place */
export const memoryStorage = (content: number | Uint8Array): MemoryStorage =>
  new MemoryStorage(typeof content === 'number' ? new Uint8Array(content) : content);
