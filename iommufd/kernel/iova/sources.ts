import { pageBytes } from '#vmm/base/address';
import { errno } from '#vmm/base/errno';
import type { OpenFile } from '../file.ts';
import type { Dmabuf } from '../memory/dmabuf.ts';
import { Memfd } from '../memory/memfd.ts';
import type { ProcessMemory, RunList } from '../memory/process-memory.ts';
import type { Area } from './area.ts';
import type { PageSource } from './pages.ts';

/** Pages of the process's address space (IOPT_ADDRESS_USER); one for all pages objects. */
export class UserSource implements PageSource {
  readonly kind = 'user';
  readonly #memory: ProcessMemory;

  constructor(memory: ProcessMemory) {
    this.#memory = memory;
  }
  resolve(page: number, count: number, write: boolean, runs: RunList): number {
    return this.#memory.resolve(page * pageBytes, count, write, runs);
  }
}

/** Pages of a memfd (IOPT_ADDRESS_FILE). What the file is only matters once pages are wanted. */
export class FileSource implements PageSource {
  readonly kind = 'file';
  readonly #file: OpenFile;

  constructor(file: OpenFile) {
    this.#file = file;
  }
  resolve(page: number, count: number, write: boolean, runs: RunList): number {
    const file = this.#file;
    return file instanceof Memfd ? file.resolve(page, count, write, runs) : errno.EINVAL;
  }
  release(): void {
    this.#file.put();
  }
}

/** Physical memory that an exporter lends (IOPT_ADDRESS_DMABUF), until it revokes it. */
export class DmabufSource implements PageSource {
  readonly kind = 'dmabuf';
  /** Once revoked it stays so, even if the exporter changes its mind. */
  revoked = false;
  readonly #dmabuf: Dmabuf;
  readonly #areas = new Set<Area>();

  constructor(dmabuf: Dmabuf) {
    this.#dmabuf = dmabuf;
  }

  /** ENODEV when it has been revoked already. */
  attach(): number {
    if (this.#dmabuf.revoked) return errno.ENODEV;
    this.#dmabuf.importers.add(this);
    return 0;
  }
  resolve(page: number, count: number, _write: boolean, runs: RunList): number {
    runs.add(this.#dmabuf.hpa + page * pageBytes, count);
    return 0;
  }
  track(area: Area): void {
    this.#areas.add(area);
  }
  untrack(area: Area): void {
    this.#areas.delete(area);
  }
  /** The exporter takes the memory back: no device may reach it when this returns. */
  revoke(): void {
    if (this.revoked) return;
    for (const area of this.#areas) for (const domain of area.table.domains) area.unmapFrom(domain);
    this.revoked = true;
  }
  release(): void {
    this.#dmabuf.importers.delete(this);
    this.#dmabuf.put();
  }
}
