import type { StorageBackend } from '#vmm/base/ports';
import { field, parts } from '#vmm/base/saved';

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
  format = 0;
  blockBytes = 512;
  /** Whole blocks; a tail that does not fill a block is not part of the namespace. */
  blocks = 0;
  readonly saved = parts({
    format: field(
      () => this.format,
      (format) => this.setFormat(format),
    ),
  });

  constructor(nsid: number, options: NamespaceOptions) {
    this.nsid = nsid;
    this.backend = options.backend;
    this.setFormat(options.blockBytes === 4096 ? 1 : 0);
  }
  setFormat(format: number): void {
    this.format = format;
    this.blockBytes = 2 ** blockShifts[format]!;
    this.blocks = Math.floor(this.backend.bytes / this.blockBytes);
  }
}
