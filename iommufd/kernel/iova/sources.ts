import { pageBytes } from '#vmm/base/address';
import { errno } from '#vmm/base/errno';
import type { OpenFile } from '../file.ts';
import type { Dmabuf } from '../memory/dmabuf.ts';
import { Memfd } from '../memory/memfd.ts';
import type { ProcessMemory, RunList } from '../memory/process-memory.ts';
import type { Area } from './area.ts';
import type { PageSource } from './pages.ts';

/** Pages of the process's address space (IOPT_ADDRESS_USER). */
export class UserSource implements PageSource {
  readonly kind = 'user';
  readonly base: bigint;
  readonly address: number;
  readonly #memory: ProcessMemory;

  constructor(memory: ProcessMemory, base: bigint) {
    this.#memory = memory;
    this.base = base;
    this.address = Number(base);
  }
  resolve(first: number, count: number, write: boolean, runs: RunList): number {
    return this.#memory.resolve(this.address + first * pageBytes, count, write, runs);
  }
}

/** Pages of a memfd (IOPT_ADDRESS_FILE). What the file is only matters once pages are wanted. */
export class FileSource implements PageSource {
  readonly kind = 'file';
  readonly base: bigint;
  readonly #file: OpenFile;

  constructor(file: OpenFile, base: bigint) {
    this.#file = file;
    this.base = base;
  }
  resolve(first: number, count: number, write: boolean, runs: RunList): number {
    const file = this.#file;
    if (!(file instanceof Memfd)) return errno.EINVAL;
    return file.resolve(Number(this.base) / pageBytes + first, count, write, runs);
  }
  release(): void {
    this.#file.put();
  }
}

/** Physical memory that an exporter lends (IOPT_ADDRESS_DMABUF), until it revokes it. */
export class DmabufSource implements PageSource {
  readonly kind = 'dmabuf';
  readonly base: bigint;
  /** Once revoked it stays so, even if the exporter changes its mind. */
  revoked = false;
  readonly #dmabuf: Dmabuf;
  readonly #areas = new Set<Area>();

  constructor(dmabuf: Dmabuf, base: bigint) {
    this.#dmabuf = dmabuf;
    this.base = base;
  }

  /** ENODEV when it has been revoked already. */
  attach(): number {
    if (this.#dmabuf.revoked) return errno.ENODEV;
    this.#dmabuf.importers.add(this);
    return 0;
  }
  resolve(first: number, count: number, _write: boolean, runs: RunList): number {
    runs.add(this.#dmabuf.hpa + Number(this.base) + first * pageBytes, count);
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
