import { hiHalf, loHalf, pageBytes } from '#vmm/base/address';
import type { PagingDomain } from '../iommu-ops.ts';
import type { IoPageTable } from './io-pagetable.ts';
import type { Pages } from './pages.ts';

/** `struct iopt_area`: one mapped IOVA interval, a slice of a pages object. */
export class Area {
  readonly table: IoPageTable;
  readonly start: bigint;
  /** Inclusive. */
  readonly last: bigint;
  readonly pages: Pages;
  /** First and last page of the slice, and the byte in the first page at which it begins. */
  readonly firstIndex: number;
  readonly lastIndex: number;
  readonly pageOffset: number;
  /** `prot` of iommu-ops. */
  readonly prot: number;
  /** The pages are held (pinned) for the domains of the table. */
  filled = false;
  /** Accesses that pinned pages of it, and how many of them forbid unmapping. */
  accesses = 0;
  locks = 0;
  preventAccess = false;

  constructor(table: IoPageTable, pages: Pages, start: bigint, startByte: bigint, length: bigint, prot: number) {
    this.table = table;
    this.pages = pages;
    this.start = start;
    this.last = start + length - 1n;
    this.firstIndex = Number(startByte >> 12n);
    this.lastIndex = Number((startByte + length - 1n) >> 12n);
    this.pageOffset = Number(startByte & 0xfffn);
    this.prot = prot;
  }

  get length(): bigint {
    return this.last - this.start + 1n;
  }
  /** Byte of the pages object at an IOVA of the area. */
  startByte(iova: bigint): bigint {
    return BigInt(this.firstIndex) * 4096n + BigInt(this.pageOffset) + (iova - this.start);
  }
  /** Page of the pages object at an IOVA of the area. */
  index(iova: bigint): number {
    return Number(this.startByte(iova) >> 12n);
  }

  /**
   * Puts the area's (pinned) pages into a domain, a run of contiguous pages at a time, or page by page where the table
   * has large pages turned off (so that the area can be split later). On error nothing of it stays mapped.
   */
  mapInto(domain: PagingDomain): number {
    const { pages } = this;
    const small = this.table.disableLargePages;
    const prot = pages.prot(this.prot);
    const first = this.start;
    const bytes = Number(this.length);
    const baseHi = hiHalf(first);
    const baseLo = loHalf(first);
    let done = 0;
    let index = this.firstIndex;
    let offset = this.pageOffset;
    while (done < bytes) {
      const count = pages.run(index, this.lastIndex);
      const step = small ? 1 : count;
      for (let left = count; left > 0; left -= step) {
        const length = Math.min(step * pageBytes - offset, bytes - done);
        const low = baseLo + done;
        const rc = domain.map(
          baseHi + Math.floor(low / 0x1_0000_0000),
          low % 0x1_0000_0000,
          pages.hpaOf(index) + offset,
          length,
          prot,
        );
        if (rc !== 0) {
          if (done > 0) this.#drop(domain, done);
          return rc;
        }
        index += step;
        done += length;
        offset = 0;
      }
    }
    return 0;
  }

  /** Takes the area out of a domain; the hardware has forgotten it when this returns. */
  unmapFrom(domain: PagingDomain): void {
    this.#drop(domain, Number(this.length));
  }

  #drop(domain: PagingDomain, bytes: number): void {
    const hi = hiHalf(this.start);
    const lo = loHalf(this.start);
    domain.unmap(hi, lo, bytes);
    domain.sync(hi, lo, bytes);
  }
}
