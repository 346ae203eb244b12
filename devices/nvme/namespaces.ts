import type { StorageBackend } from '#vmm/base/ports';

export interface NamespaceOptions {
  readonly backend: StorageBackend;
  /** Logical block size; default 512. */
  readonly blockBytes?: 512 | 4096;
}

/** The logical block formats on offer, as log2 bytes; the index is the LBA format number (§5.15.2.1). */
export const blockShifts = [9, 12] as const;

/** A disk: blocks of a fixed size over a backend. */
export class Namespace {
  readonly nsid: number;
  readonly backend: StorageBackend;
  /** Index in `blockShifts`. */
  format: number;

  constructor(nsid: number, options: NamespaceOptions) {
    this.nsid = nsid;
    this.backend = options.backend;
    this.format = options.blockBytes === 4096 ? 1 : 0;
  }
  get blockShift(): number {
    return blockShifts[this.format]!;
  }
  /** Whole blocks; a tail that does not fill a block is not part of the namespace. */
  get blocks(): number {
    return Math.floor(this.backend.bytes / 2 ** this.blockShift);
  }
}
