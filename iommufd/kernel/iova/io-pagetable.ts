import { hiHalf, loHalf, pageBytes } from '#vmm/base/address';
import { errno } from '#vmm/base/errno';
import { invariant } from '#vmm/base/invariant';
import type { PagingDomain } from '../iommu-ops.ts';
import { prot } from '../iommu-ops.ts';
import { Area } from './area.ts';
import { AreaTree } from './area-tree.ts';
import { type IovaRange, findHole, ulongMax } from './hole.ts';
import { PackedAreas } from './packed-areas.ts';
import type { Pages } from './pages.ts';
import { ReservedRanges, anyTouches } from './reserved.ts';

/** One element of what is mapped in a row: a slice of a pages object. */
export interface PagesSlice {
  readonly pages: Pages;
  readonly startByte: bigint;
  readonly length: bigint;
}

/** Someone who reads the table's memory from the CPU (`struct iommufd_access`). */
export interface TableAccess {
  /** Byte alignment it needs of every area: 1, or 4096 when it pins pages. */
  readonly alignment: number;
  /** Asks it to let go of a range; absent for the kernel's own accesses, which lock what they pinned instead. */
  notifyUnmap?(start: bigint, length: bigint): void;
}

/** Lets the tests fail each allocation in turn; true means "no memory". */
export interface Allocator {
  fails(): boolean;
}

const huge2M = 2n << 20n;
const noRange: readonly IovaRange[] = [{ first: 4096n, last: ulongMax - 4096n }];

export const minimumPage = (domain: PagingDomain): number => Number(domain.pgsizeBitmap & -domain.pgsizeBitmap);

/**
 * `struct io_pagetable`: the IOVA space of one IOAS. Areas say which IOVA shows which slice of which pages object; the
 * domains attached hold copies of that in the hardware's format.
 */
export class IoPageTable {
  readonly areas = new AreaTree(new PackedAreas(this));
  readonly #reserved = new ReservedRanges();
  /** Where automatic allocation may go (empty: anywhere). Sorted, disjoint. */
  #allowed: readonly IovaRange[] = [];
  /** Where the last automatic IOVA was found, and what was asked for. */
  #lastChoice: { readonly iova: bigint; readonly length: bigint; readonly alignment: bigint } | undefined;
  readonly domains: PagingDomain[] = [];
  readonly accessors = new Set<TableAccess>();
  disableLargePages = false;
  /** Bytes; power of two, 1 … 4096. */
  alignment = 1;
  /** Bytes (modulo 2^64) that the last `unmap` removed, also when it failed. */
  unmappedHi = 0;
  unmappedLo = 0;
  /** IOVA that the last successful `map` used. */
  mapped = 0n;
  readonly allocator: Allocator;

  constructor(allocator: Allocator) {
    this.allocator = allocator;
  }

  #misaligned(value: bigint): boolean {
    return this.alignment > 1 && (value & BigInt(this.alignment - 1)) !== 0n;
  }

  // ── Ranges ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The valid IOVAs, in order. */
  validRanges(): IovaRange[] {
    return this.#reserved.holes();
  }

  /** Forbids a range on behalf of `owner`; EADDRINUSE where something is mapped or allowed in it. */
  reserve(first: bigint, last: bigint, owner: unknown): number {
    if (this.areas.first(first, last) || anyTouches(this.#allowed, first, last)) return errno.EADDRINUSE;
    if (this.allocator.fails()) return errno.ENOMEM;
    this.#reserved.add(first, last, owner);
    return 0;
  }

  unreserve(owner: unknown): void {
    this.#reserved.remove(owner);
    this.#lastChoice = undefined;
  }

  /** Replaces the ranges for automatic allocation (sorted, disjoint); EADDRINUSE, and no change, if one is reserved. */
  allow(ranges: readonly IovaRange[]): number {
    const reserved = this.#reserved.ranges;
    if (ranges.some((range) => anyTouches(reserved, range.first, range.last))) return errno.EADDRINUSE;
    this.#allowed = ranges;
    this.#lastChoice = undefined;
    return 0;
  }

  /** `iopt_alloc_iova`: first fit; the alignment follows length and source address so that large pages can be used. */
  #allocate(address: bigint, length: bigint): bigint | number {
    if (length === 0n || length >= ulongMax / 2n) return errno.EOVERFLOW;
    let alignment = 1n;
    while (alignment < length) alignment <<= 1n;
    if (address !== 0n) {
      const low = address & -address;
      if (low < alignment) alignment = low;
    }
    if (alignment > huge2M) alignment = huge2M;
    if (alignment < BigInt(this.alignment)) return errno.EINVAL;
    const ranges = this.#allowed.length > 0 ? this.#allowed : noRange;
    const offset = address & 0xfffn;
    // Below the last choice nothing had room for as much, as long as nothing was given back there.
    const last = this.#lastChoice;
    const known = last && offset === 0n && length >= last.length && alignment >= last.alignment ? last.iova : 0n;
    const found = findHole(ranges, this.#reserved.ranges, this.areas, length, alignment, offset, known);
    if (found === undefined) return errno.ENOSPC;
    if (offset === 0n && ranges === noRange) this.#lastChoice = { iova: found, length, alignment };
    return found;
  }

  #check(iova: bigint, length: bigint): number {
    if (this.#misaligned(iova)) return errno.EINVAL;
    const last = iova + length - 1n;
    if (last > ulongMax) return errno.EOVERFLOW;
    return this.#checkFree(hiHalf(iova), loHalf(iova), hiHalf(last), loHalf(last));
  }
  #checkFree(hi: number, lo: number, lastHi: number, lastLo: number): number {
    if (this.#reserved.touch(hi, lo, lastHi, lastLo)) return errno.EINVAL;
    return this.areas.touches(hi, lo, lastHi, lastLo) ? errno.EEXIST : 0;
  }

  // ── Map and unmap ───────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * `iopt_map_pages`: maps slices one after the other, at `fixed` or where there is room, into every domain. The table
   * takes over one reference of each slice's pages on success only.
   */
  map(slices: readonly PagesSlice[], length: bigint, fixed: bigint | undefined, flags: number): number {
    for (let i = 0; i < slices.length; i++) if (this.allocator.fails()) return errno.ENOMEM;
    if (length === 0n || this.#misaligned(length)) return errno.EINVAL;
    let iova: bigint;
    if (fixed === undefined) {
      const { pages, startByte } = slices[0]!;
      const found = this.#allocate(startByte + BigInt(pages.basePage) * 4096n, length);
      if (typeof found === 'number') return found;
      iova = found;
    } else {
      const rc = this.#check(fixed, length);
      if (rc !== 0) return rc;
      iova = fixed;
    }
    const areas: Area[] = [];
    let at = iova;
    for (const slice of slices) {
      if (flags & prot.write && !slice.pages.writable) return errno.EPERM;
      if (this.#misaligned(slice.startByte & 0xfffn)) return errno.EINVAL;
      areas.push(Area.of(this, slice.pages, at, slice.startByte, slice.length, flags));
      at += slice.length;
    }
    for (let i = 0; i < areas.length; i++) {
      const rc = this.#fill(areas[i]!);
      if (rc !== 0) {
        for (let undo = 0; undo < i; undo++) this.#unfill(areas[undo]!);
        return rc;
      }
    }
    for (const area of areas) this.areas.insert(area);
    this.mapped = iova;
    return 0;
  }

  /**
   * `map` of one slice at a fixed IOVA, below 2^52 bytes and beginning in the slice's first page: the common call, in
   * plain numbers.
   */
  mapOne(pages: Pages, offset: number, bytes: number, hi: number, lo: number, flags: number): number {
    if (this.allocator.fails()) return errno.ENOMEM;
    const mask = this.alignment - 1;
    if (bytes % this.alignment !== 0 || lo & mask) return errno.EINVAL;
    const end = lo + bytes - 1;
    const lastHi = hi + Math.floor(end / 0x1_0000_0000);
    const lastLo = end % 0x1_0000_0000;
    if (lastHi > 0xffff_ffff) return errno.EOVERFLOW;
    let rc = this.#checkFree(hi, lo, lastHi, lastLo);
    if (rc !== 0) return rc;
    if (flags & prot.write && !pages.writable) return errno.EPERM;
    if (offset & mask) return errno.EINVAL;
    const lastIndex = Math.floor((offset + bytes - 1) / pageBytes);
    const area = new Area(this, pages, hi, lo, lastHi, lastLo, 0, lastIndex, offset, flags);
    rc = this.#fill(area);
    if (rc !== 0) return rc;
    this.areas.insert(area);
    return 0;
  }

  /** `iopt_area_fill_domains`: pins the area's pages and puts them into every domain. */
  #fill(area: Area): number {
    const { domains } = this;
    if (domains.length === 0) return 0;
    const { pages, firstIndex, lastIndex } = area;
    // Room for the list of pages.
    let rc = this.allocator.fails() ? errno.ENOMEM : pages.hold(firstIndex, lastIndex);
    if (rc !== 0) return rc;
    let mapped = 0;
    if (!pages.source.revoked)
      while (rc === 0 && mapped < domains.length) {
        rc = area.mapInto(domains[mapped]!);
        if (rc === 0) mapped++;
      }
    if (rc === 0) {
      if (pages.uncharged > 0 && this.allocator.fails()) rc = errno.ENOMEM;
      else rc = pages.charge();
    }
    if (rc !== 0) {
      while (mapped > 0) area.unmapFrom(domains[--mapped]!);
      pages.release(firstIndex, lastIndex);
      return rc;
    }
    area.filled = true;
    pages.source.track?.(area);
    return 0;
  }

  /** `iopt_area_unfill_domains`: takes the area out of every domain, then lets go of its pages. */
  #unfill(area: Area): void {
    if (!area.filled) return;
    const { pages } = area;
    if (!pages.source.revoked) for (const domain of this.domains) area.unmapFrom(domain);
    pages.source.untrack?.(area);
    area.filled = false;
    pages.release(area.firstIndex, area.lastIndex);
  }

  /** `iopt_unmap_iova_range`: areas must lie in the range as a whole. `unmapped` counts what went, errors included. */
  unmap(first: bigint, last: bigint): number {
    return this.unmapRange(hiHalf(first), loHalf(first), hiHalf(last), loHalf(last));
  }
  unmapRange(hi: number, lo: number, lastHi: number, lastLo: number): number {
    this.unmappedHi = 0;
    this.unmappedLo = 0;
    let tries = 0;
    for (;;) {
      const area = this.areas.peek(hi, lo, lastHi, lastLo);
      if (!area) return 0;
      const { startHi, startLo, lastHi: endHi, lastLo: endLo } = area;
      if (area.locks > 0) return errno.EBUSY;
      if (startHi < hi || (startHi === hi && startLo < lo)) return errno.ENOENT;
      if (endHi > lastHi || (endHi === lastHi && endLo > lastLo)) return errno.ENOENT;
      if (startHi !== hi || startLo !== lo) tries = 0;
      if (area.accesses > 0) {
        hi = startHi;
        lo = startLo;
        area.stopAccesses();
        for (const access of this.accessors) access.notifyUnmap?.(area.start, area.length);
        invariant(tries++ < 100, 'an access does not let go of an area');
        continue;
      }
      this.areas.remove(area);
      if (this.#lastChoice && area.start < this.#lastChoice.iova) this.#lastChoice = undefined;
      this.#unfill(area);
      area.pages.put();
      const low = this.unmappedLo + endLo - startLo + 1;
      const carry = Math.floor(low / 0x1_0000_0000);
      this.unmappedLo = low - carry * 0x1_0000_0000;
      this.unmappedHi = (this.unmappedHi + endHi - startHi + carry) % 0x1_0000_0000;
      if (endHi === lastHi && endLo === lastLo) return 0;
      lo = endLo === 0xffff_ffff ? 0 : endLo + 1;
      hi = endLo === 0xffff_ffff ? endHi + 1 : endHi;
    }
  }

  /**
   * `iopt_get_pages`: the slices behind a range without holes, each with a reference taken; an errno when there is a
   * hole (ENOENT).
   */
  slices(iova: bigint, length: bigint): PagesSlice[] | number {
    if (length === 0n) return errno.EINVAL;
    const last = iova + length - 1n;
    if (last > ulongMax) return errno.EOVERFLOW;
    const out: PagesSlice[] = [];
    let next = iova;
    let rc = 0;
    for (let area = this.areas.firstFrom(iova); ; area = this.areas.next(area)) {
      if (!area || area.start > next) {
        rc = errno.ENOENT;
        break;
      }
      if (this.allocator.fails()) {
        rc = errno.ENOMEM;
        break;
      }
      const end = area.last < last ? area.last : last;
      area.pages.users++;
      out.push({ pages: area.pages, startByte: area.startByte(next), length: end - next + 1n });
      if (area.last >= last) return out;
      next = area.last + 1n;
    }
    for (const slice of out) slice.pages.put();
    return rc;
  }

  /** `iopt_cut_iova`: splits areas so that one ends at each of `cuts` (VFIO type1 v1). */
  cut(cuts: readonly bigint[]): number {
    for (const iova of cuts) {
      const area = this.areas.first(iova, iova);
      const rc = area ? this.#split(area, iova) : 0;
      if (rc !== 0) return rc;
    }
    return 0;
  }

  #split(area: Area, iova: bigint): number {
    if (iova === area.start || iova === area.last) return 0;
    if (area.preventAccess) return errno.EBUSY;
    if (area.pages.source.kind === 'dmabuf') return errno.EOPNOTSUPP;
    const next = iova + 1n;
    if (this.#misaligned(next) || this.#misaligned(area.startByte(next))) return errno.EINVAL;
    if (this.allocator.fails() || this.allocator.fails()) return errno.ENOMEM;
    if (area.accesses > 0) return errno.EINVAL;
    // It may be mapped with large pages, which cannot be taken apart.
    if (area.filled && !this.disableLargePages) return errno.EINVAL;
    const { pages } = area;
    const left = Area.of(this, pages, area.start, area.startByte(area.start), next - area.start, area.prot);
    const right = Area.of(this, pages, next, area.startByte(next), area.last - iova, area.prot);
    this.areas.remove(area);
    this.areas.insert(left);
    this.areas.insert(right);
    pages.users++;
    if (area.filled) {
      // The halves hold what the whole held; cuts are at page boundaries, so no page is held twice.
      for (const half of [left, right]) {
        half.filled = true;
        const rc = pages.hold(half.firstIndex, half.lastIndex);
        invariant(rc === 0, 'held pages could not be held again');
      }
      pages.release(area.firstIndex, area.lastIndex);
    }
    return 0;
  }

  // ── Domains and accesses ────────────────────────────────────────────────────────────────────────────────────────

  /** `iopt_table_add_domain`: fills a new domain with everything mapped; on error it is empty again. */
  addDomain(domain: PagingDomain): number {
    const alignment = Math.max(minimumPage(domain), this.alignment);
    if (alignment > pageBytes) return errno.EINVAL;
    let rc = alignment === this.alignment ? 0 : this.#checkAlignment(alignment);
    if (rc !== 0) return rc;
    const { first, last } = domain.aperture;
    if (first !== 0n) rc = this.reserve(0n, first - 1n, domain);
    if (rc === 0 && last !== ulongMax) rc = this.reserve(last + 1n, ulongMax, domain);
    if (rc === 0) rc = this.#fillDomain(domain);
    if (rc !== 0) {
      this.unreserve(domain);
      return rc;
    }
    this.alignment = alignment;
    this.domains.push(domain);
    return 0;
  }

  #fillDomain(domain: PagingDomain): number {
    const storage = this.domains.length === 0;
    for (const area of this.areas) {
      const { pages, firstIndex, lastIndex } = area;
      let rc = this.allocator.fails() ? errno.ENOMEM : pages.hold(firstIndex, lastIndex);
      if (rc === 0) {
        rc = pages.source.revoked ? 0 : area.mapInto(domain);
        const mapped = rc === 0;
        if (mapped) {
          if (pages.uncharged > 0 && this.allocator.fails()) rc = errno.ENOMEM;
          else rc = pages.charge();
        }
        // One domain's hold is enough: it is kept for the first.
        if (rc === 0 && !storage) pages.release(firstIndex, lastIndex);
        if (rc !== 0) {
          if (mapped && !pages.source.revoked) area.unmapFrom(domain);
          pages.release(firstIndex, lastIndex);
        }
      }
      if (rc !== 0) {
        for (const undo of this.areas) {
          if (undo === area) break;
          this.#emptyArea(undo, domain, storage);
        }
        return rc;
      }
      if (storage) {
        area.filled = true;
        pages.source.track?.(area);
      }
    }
    return 0;
  }

  #emptyArea(area: Area, domain: PagingDomain, lastDomain: boolean): void {
    if (!area.pages.source.revoked) area.unmapFrom(domain);
    if (!lastDomain) return;
    area.pages.source.untrack?.(area);
    area.filled = false;
    area.pages.release(area.firstIndex, area.lastIndex);
  }

  /** `iopt_table_remove_domain`. */
  removeDomain(domain: PagingDomain): void {
    const at = this.domains.indexOf(domain);
    if (at < 0) return;
    // The last takes the place of the one that goes.
    const tail = this.domains.pop()!;
    if (at < this.domains.length) this.domains[at] = tail;
    const lastDomain = this.domains.length === 0;
    for (const area of this.areas) this.#emptyArea(area, domain, lastDomain);
    this.unreserve(domain);
    this.#recalculateAlignment();
  }

  #checkAlignment(alignment: number): number {
    const mask = BigInt(alignment - 1);
    for (const area of this.areas)
      if (((area.start | area.length | BigInt(area.pageOffset)) & mask) !== 0n) return errno.EADDRINUSE;
    return 0;
  }

  #recalculateAlignment(): number {
    let alignment = this.disableLargePages ? pageBytes : 1;
    for (const domain of this.domains) alignment = Math.max(alignment, minimumPage(domain));
    for (const access of this.accessors) alignment = Math.max(alignment, access.alignment);
    const rc = alignment > this.alignment ? this.#checkAlignment(alignment) : 0;
    if (rc === 0) this.alignment = alignment;
    return rc;
  }

  addAccess(access: TableAccess): number {
    if (this.allocator.fails()) return errno.ENOMEM;
    this.accessors.add(access);
    const rc = this.#recalculateAlignment();
    if (rc !== 0) this.accessors.delete(access);
    return rc;
  }
  removeAccess(access: TableAccess): void {
    this.accessors.delete(access);
    this.#recalculateAlignment();
  }

  enableLargePages(): void {
    this.disableLargePages = false;
    this.#recalculateAlignment();
  }
  /** EINVAL once pages are mapped in a domain. */
  turnOffLargePages(): number {
    if (this.disableLargePages) return 0;
    if (this.domains.length > 0 && this.areas.size > 0) return errno.EINVAL;
    this.disableLargePages = true;
    const rc = this.#recalculateAlignment();
    if (rc !== 0) this.disableLargePages = false;
    return rc;
  }

  /** Clears the dirty state of everything mapped in a domain. */
  clearDirty(domain: PagingDomain): number {
    for (const area of this.areas) {
      const { startHi, startLo, bytes } = area;
      const rc = domain.readAndClearDirty!(startHi, startLo, bytes, false, nobody);
      domain.sync(startHi, startLo, bytes);
      if (rc !== 0) return rc;
    }
    return 0;
  }

  /** The IOAS's end: everything goes. */
  destroy(): void {
    this.unmap(0n, ulongMax);
  }
}

const nobody = { record(): void {} };
