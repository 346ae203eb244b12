import { pageBytes } from '#vmm/base/address';
import { errno } from '#vmm/base/errno';
import { RangeBacking } from './memory/backing.ts';
import { type ProcessMemory, protection } from './memory/process-memory.ts';
import type { KernelObject } from './objects/object.ts';

interface Slot {
  readonly owner: KernelObject;
  readonly offset: number;
  readonly bytes: number;
  readonly hpa: number;
}

/** Ranges that user space may mmap through the iommufd, by file offset: first fit from the second page on. */
export class MmapTable {
  /** Sorted by offset. */
  readonly #slots: Slot[] = [];

  allocate(owner: KernelObject, hpa: number, bytes: number): { readonly offset: number } | number {
    if (hpa % pageBytes !== 0 || bytes <= 0 || bytes % pageBytes !== 0) return errno.EINVAL;
    let offset = pageBytes;
    let at = 0;
    while (at < this.#slots.length && this.#slots[at]!.offset < offset + bytes) {
      offset = this.#slots[at]!.offset + this.#slots[at]!.bytes;
      at++;
    }
    this.#slots.splice(at, 0, { owner, offset, bytes, hpa });
    return { offset };
  }

  release(offset: number): void {
    const at = this.#slots.findIndex((slot) => slot.offset === offset);
    if (at >= 0) this.#slots.splice(at, 1);
  }

  /** iommufd_fops_mmap: only exactly what was allocated, shared, and never executable. */
  map(memory: ProcessMemory, bytes: number, prot: number, shared: boolean, offset: number): number {
    const length = Math.ceil(bytes / pageBytes) * pageBytes;
    if (length <= 0 || offset % pageBytes !== 0 || !shared) return -errno.EINVAL;
    if (prot & protection.exec) return -errno.EPERM;
    const slot = this.#slots.find((s) => offset >= s.offset && offset < s.offset + s.bytes);
    if (!slot || slot.offset !== offset || slot.bytes !== length) return -errno.ENXIO;
    const { owner } = slot;
    // A mapping keeps both what it shows and the file.
    owner.users++;
    owner.context.get();
    const closed = (): void => {
      owner.users--;
      owner.context.put();
    };
    const pages = length / pageBytes;
    const backing = new RangeBacking(slot.hpa, pages, undefined, false);
    return memory.map({ bytes: length, prot, backing, closed });
  }
}
