import { type StorageBackend, StorageError } from '#vmm/base/ports';

/** Refuses everything that would change the disk below. */
class ReadOnlyStorage implements StorageBackend {
  readonly readOnly = true;
  readonly #below: StorageBackend;

  constructor(below: StorageBackend) {
    this.#below = below;
  }
  get bytes(): number {
    return this.#below.bytes;
  }
  read(offset: number, target: Uint8Array): void {
    this.#below.read(offset, target);
  }
  write(): void {
    throw new StorageError('read-only', 'the disk is read-only');
  }
  flush(): void {}
  discard(): void {
    throw new StorageError('read-only', 'the disk is read-only');
  }
  close(): void {
    this.#below.close();
  }
}

export const readOnlyStorage = (below: StorageBackend): StorageBackend => new ReadOnlyStorage(below);
