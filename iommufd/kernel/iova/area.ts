import { pageBytes, wide } from '#vmm/base/address';
import { errno } from '#vmm/base/errno';
import type { PagingDomain } from '../iommu-ops.ts';
import type { IoPageTable } from './io-pagetable.ts';
import type { Pages } from './pages.ts';

const word = 0x1_0000_0000;
const offsetMask = 0xfff;
const protShift = 12;
const filledBit = 1 << 20;
const preventBit = 1 << 21;

/**
 * `struct iopt_area`: one mapped IOVA interval, a slice of a pages object. There can be millions: bounds are kept as
 * signed 32-bit halves (V8 stores those without a box), small things in one word.
 */
export class Area {
  readonly table: IoPageTable;
  readonly pages: Pages;
  readonly #startHi: number;
  readonly #startLo: number;
  readonly #lastHi: number;
  readonly #lastLo: number;
  /** First and last page of the slice. */
  readonly firstIndex: number;
  readonly lastIndex: number;
  /** Offset in the page, prot, and states, in one word. */
  bits: number;
  /** Accesses that pinned pages of it, and how many of them forbid unmapping. */
  accesses = 0;
  locks = 0;

  /**
   * Shows `bytes` (the bounds say the same) of `pages` from page `firstIndex`, byte `pageOffset` of it. `lastIndex` is
   * the page of the last byte.
   */
  constructor(
    table: IoPageTable,
    pages: Pages,
    startHi: number,
    startLo: number,
    lastHi: number,
    lastLo: number,
    firstIndex: number,
    lastIndex: number,
    pageOffset: number,
    prot: number,
  ) {
    this.table = table;
    this.pages = pages;
    this.#startHi = startHi | 0;
    this.#startLo = startLo | 0;
    this.#lastHi = lastHi | 0;
    this.#lastLo = lastLo | 0;
    this.firstIndex = firstIndex;
    this.lastIndex = lastIndex;
    this.bits = pageOffset | (prot << protShift);
  }

  /** The slice of `pages` that begins at byte `startByte`, at IOVA `start`. */
  static of(table: IoPageTable, pages: Pages, start: bigint, startByte: bigint, length: bigint, prot: number): Area {
    const last = start + length - 1n;
    return new Area(
      table,
      pages,
      Number(start >> 32n),
      Number(start & 0xffff_ffffn),
      Number(last >> 32n),
      Number(last & 0xffff_ffffn),
      Number(startByte >> 12n),
      Number((startByte + length - 1n) >> 12n),
      Number(startByte & 0xfffn),
      prot,
    );
  }

  get startHi(): number {
    return this.#startHi >>> 0;
  }
  get startLo(): number {
    return this.#startLo >>> 0;
  }
  get lastHi(): number {
    return this.#lastHi >>> 0;
  }
  get lastLo(): number {
    return this.#lastLo >>> 0;
  }
  get start(): bigint {
    return wide(this.#startHi, this.#startLo);
  }
  /** Inclusive. */
  get last(): bigint {
    return wide(this.#lastHi, this.#lastLo);
  }
  get length(): bigint {
    return this.last - this.start + 1n;
  }
  /** Length as a number: exact below 2^53, which everything is that lies in a domain. */
  get bytes(): number {
    return (this.lastHi - this.startHi) * word + (this.lastLo - this.startLo) + 1;
  }
  /** Byte of the first page at which the slice begins. */
  get pageOffset(): number {
    return this.bits & offsetMask;
  }
  /** `prot` of iommu-ops. */
  get prot(): number {
    return (this.bits >> protShift) & 0xff;
  }
  /** The pages are held (pinned) for the domains of the table. */
  get filled(): boolean {
    return (this.bits & filledBit) !== 0;
  }
  set filled(filled: boolean) {
    this.bits = filled ? this.bits | filledBit : this.bits & ~filledBit;
  }
  /** It is about to be unmapped: no new access. */
  get preventAccess(): boolean {
    return (this.bits & preventBit) !== 0;
  }
  stopAccesses(): void {
    this.bits |= preventBit;
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
    const { pages, bytes, startHi, startLo } = this;
    const small = this.table.disableLargePages;
    const prot = pages.prot(this.prot);
    let done = 0;
    let index = this.firstIndex;
    let offset = this.pageOffset;
    while (done < bytes) {
      const count = pages.run(index, this.lastIndex);
      const step = small ? 1 : count;
      for (let left = count; left > 0; left -= step) {
        const length = Math.min(step * pageBytes - offset, bytes - done);
        const low = startLo + done;
        // Tables of the domain.
        const rc = this.table.allocator.fails()
          ? errno.ENOMEM
          : domain.map(startHi + Math.floor(low / word), low % word, pages.hpaOf(index) + offset, length, prot);
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
    this.#drop(domain, this.bytes);
  }

  #drop(domain: PagingDomain, bytes: number): void {
    const { startHi, startLo } = this;
    domain.unmap(startHi, startLo, bytes);
    domain.sync(startHi, startLo, bytes);
  }
}
