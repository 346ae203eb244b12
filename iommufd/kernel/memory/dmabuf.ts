import { OpenFile } from '../file.ts';

/** Whoever mapped a dmabuf and must let go of it. */
export interface DmabufImporter {
  revoke(): void;
}

/** A physically contiguous piece of memory that its exporter lends out as a file. */
export class Dmabuf extends OpenFile {
  readonly hpa: number;
  readonly bytes: number;
  revoked = false;
  readonly importers = new Set<DmabufImporter>();

  constructor(hpa: number, bytes: number) {
    super();
    this.hpa = hpa;
    this.bytes = bytes;
  }

  /** Takes the memory back from all importers, or allows new ones again. */
  revoke(revoked: boolean): void {
    this.revoked = revoked;
    for (const importer of this.importers) importer.revoke();
  }
}
