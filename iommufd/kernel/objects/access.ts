import { errno } from '#vmm/base/errno';
import type { Context } from '../context.ts';
import { prot } from '../iommu-ops.ts';
import type { Area } from '../iova/area.ts';
import { ulongMax } from '../iova/hole.ts';
import type { TableAccess } from '../iova/io-pagetable.ts';
import { RunList } from '../memory/process-memory.ts';
import { Ioas } from './ioas.ts';
import { KernelObject } from './object.ts';

/** iommufd_access_rw and _pin_pages flags (IOMMUFD_ACCESS_RW_*). */
export const accessFlags = { write: 1, slowPath: 4 } as const;

const runs = new RunList();

/** Reaches an IOAS's memory from the CPU: `struct iommufd_access`. */
export class Access extends KernelObject implements TableAccess {
  /** 4096 when it may pin pages. */
  readonly alignment: number;
  ioas: Ioas | undefined;
  readonly #unmap: ((start: bigint, length: bigint) => void) | undefined;
  /** The kernel's own: what it pins cannot be unmapped, and it does not keep the context. */
  readonly #internal: boolean;

  /** Without `unmap` it is the kernel's own. */
  constructor(context: Context, pins: boolean, unmap?: (start: bigint, length: bigint) => void) {
    super(context);
    this.alignment = pins ? 4096 : 1;
    this.#unmap = unmap;
    this.#internal = unmap === undefined;
  }

  /** `iommufd_access_create`: the result's owner is a user of it until `destroyOwned`. */
  static create(context: Context, pins: boolean, unmap?: (start: bigint, length: bigint) => void): Access | number {
    const access = new Access(context, pins, unmap);
    const rc = context.allocate(access);
    if (rc !== 0) return rc;
    access.users++;
    if (unmap) context.get();
    context.objects.finalize(access);
    return access;
  }

  notifyUnmap(start: bigint, length: bigint): void {
    this.#unmap?.(start, length);
  }

  attach(id: number): number {
    if (this.ioas) return errno.EINVAL;
    return this.#changeId(id);
  }
  replace(id: number): number {
    if (!this.ioas) return errno.ENOENT;
    return this.#changeId(id);
  }
  #changeId(id: number): number {
    const ioas = this.context.objects.find(id, Ioas);
    return ioas ? this.change(ioas) : errno.ENOENT;
  }
  change(ioas: Ioas | undefined): number {
    const old = this.ioas;
    if (old === ioas) return 0;
    if (ioas) {
      const rc = ioas.table.addAccess(this);
      if (rc !== 0) return rc;
      ioas.users++;
    }
    if (old) {
      this.#unmap?.(0n, ulongMax);
      old.table.removeAccess(this);
      old.users--;
    }
    this.ioas = ioas;
    return 0;
  }
  destroy(): void {
    this.change(undefined);
    if (!this.#internal) this.context.put();
  }

  /**
   * `iommufd_access_pin_pages`: pins the pages under a range without holes and adds their host-physical addresses to
   * `frames`; on error nothing stays pinned.
   */
  pin(iova: bigint, length: bigint, write: boolean, frames: number[]): number {
    if (this.alignment !== 4096 || length === 0n) return errno.EINVAL;
    const last = iova + length - 1n;
    if (last > ulongMax) return errno.EOVERFLOW;
    if (!this.ioas) return errno.ENOENT;
    const { table } = this.ioas;
    const done: [Area, number, number][] = [];
    let rc = 0;
    let next = iova;
    for (let area = table.areas.firstFrom(iova); ; area = table.areas.next(area)) {
      if (!area || area.start > next) {
        rc = errno.ENOENT;
        break;
      }
      const end = area.last < last ? area.last : last;
      const first = area.index(next);
      const final = area.index(end);
      if (area.preventAccess || !aligned(area, next, last)) rc = errno.EINVAL;
      else if (!(area.prot & (write ? prot.write : prot.read))) rc = errno.EPERM;
      else rc = this.#addAccess(area, first, final, write);
      if (rc !== 0) break;
      done.push([area, first, final]);
      for (let index = first; index <= final; index++) frames.push(area.pages.hpaOf(index));
      if (area.last >= last) return 0;
      next = area.last + 1n;
    }
    for (const [area, first, final] of done) this.#removeAccess(area, first, final);
    return rc;
  }

  /** `iommufd_access_unpin_pages`: exactly a range that was pinned. */
  unpin(iova: bigint, length: bigint): void {
    const { table } = this.ioas!;
    const last = iova + length - 1n;
    let next = iova;
    for (let area = table.areas.firstFrom(iova); area && area.start <= next; area = table.areas.next(area)) {
      this.#removeAccess(area, area.index(next), area.index(area.last < last ? area.last : last));
      if (area.last >= last) return;
      next = area.last + 1n;
    }
  }

  #addAccess(area: Area, first: number, last: number, write: boolean): number {
    const { pages } = area;
    if (write && !pages.writable) return errno.EPERM;
    if (pages.source.kind === 'dmabuf') return errno.EINVAL;
    const key = `${first}:${last}`;
    const users = pages.accesses.get(key) ?? 0;
    if (users === 0) {
      const { allocator } = this.context.kernel;
      if (allocator.fails()) return errno.ENOMEM;
      let rc = pages.hold(first, last);
      if (rc === 0) {
        rc = pages.charge();
        if (rc !== 0) pages.release(first, last);
      }
      if (rc !== 0) return rc;
    }
    pages.accesses.set(key, users + 1);
    area.accesses++;
    if (this.#internal) area.locks++;
    return 0;
  }

  #removeAccess(area: Area, first: number, last: number): void {
    const { pages } = area;
    const key = `${first}:${last}`;
    const users = pages.accesses.get(key)! - 1;
    area.accesses--;
    if (this.#internal) area.locks--;
    if (users > 0) {
      pages.accesses.set(key, users);
      return;
    }
    pages.accesses.delete(key);
    pages.release(first, last);
  }

  /** `iommufd_access_rw`: copies between `data` and the memory under an IOVA. */
  copy(iova: bigint, data: Uint8Array, flags: number): number {
    if (data.length === 0) return errno.EINVAL;
    const last = iova + BigInt(data.length) - 1n;
    if (last > ulongMax) return errno.EOVERFLOW;
    if (!this.ioas) return errno.ENOENT;
    const { table } = this.ioas;
    const write = (flags & accessFlags.write) !== 0;
    let next = iova;
    for (let area = table.areas.firstFrom(iova); ; area = table.areas.next(area)) {
      if (!area || area.start > next) return errno.ENOENT;
      if (area.preventAccess) return errno.EINVAL;
      if (!(area.prot & (write ? prot.write : prot.read))) return errno.EPERM;
      const end = area.last < last ? area.last : last;
      const part = data.subarray(Number(next - iova), Number(end - iova) + 1);
      const rc = this.#copyArea(area, area.startByte(next), part, write, (flags & accessFlags.slowPath) !== 0);
      if (rc !== 0) return rc;
      if (area.last >= last) return 0;
      next = area.last + 1n;
    }
  }

  /** One page of the process, pinned for the moment (`iopt_pages_rw_page`). */
  #copyPage(page: number, offset: number, data: Uint8Array, write: boolean): number {
    const { kernel } = this.context;
    runs.clear();
    const rc = kernel.memory.resolve(page * 4096, 1, write, runs);
    if (rc !== 0) return rc;
    const bytes = kernel.physical.page(runs.hpa[0]!)?.subarray(offset, offset + data.length);
    if (bytes && write) bytes.set(data);
    else if (bytes) data.set(bytes);
    return 0;
  }

  #copyArea(area: Area, startByte: bigint, data: Uint8Array, write: boolean, slow: boolean): number {
    const { pages } = area;
    const { source } = pages;
    if (write && !pages.writable) return errno.EPERM;
    if (source.kind === 'dmabuf') return errno.EINVAL;
    if (source.kind === 'user' && !slow) {
      // Through the process's own mapping, as copy_to_user would.
      const { memory } = this.context.kernel;
      const address = pages.basePage * 4096 + Number(startByte);
      const left = write ? memory.write(address, data) : memory.read(address, data);
      return left > 0 ? errno.EFAULT : 0;
    }
    const first = Number(startByte / 4096n);
    let offset = Number(startByte % 4096n);
    const last = first + Math.floor((offset + data.length - 1) / 4096);
    if (source.kind === 'user' && first === last) return this.#copyPage(pages.basePage + first, offset, data, write);
    const rc = pages.hold(first, last);
    if (rc !== 0) return rc;
    let at = 0;
    for (let index = first; index <= last; index++) {
      const count = Math.min(4096 - offset, data.length - at);
      const bytes = pages.bytes(index)?.subarray(offset, offset + count);
      const part = data.subarray(at, at + count);
      if (bytes && write) bytes.set(part);
      else if (bytes) part.set(bytes);
      at += count;
      offset = 0;
    }
    pages.release(first, last);
    return 0;
  }
}

/** Pages can only be handed out where the memory's pages and the IOVA's meet. */
function aligned(area: Area, from: bigint, last: bigint): boolean {
  if (area.startByte(from) % 4096n !== 0n) return false;
  return last <= area.last || area.startByte(area.last) % 4096n === 4095n;
}
