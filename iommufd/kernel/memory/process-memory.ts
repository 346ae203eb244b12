import { pageBytes } from '#vmm/base/address';
import { errno } from '#vmm/base/errno';
import { field, parts } from '#vmm/base/saved';
import { type Backing, RangeBacking, ScatteredBacking } from './backing.ts';
import type { PhysicalMemory } from './physical.ts';

/** mmap protection (PROT_READ, PROT_WRITE, PROT_EXEC). */
export const protection = { read: 1, write: 2, exec: 4 } as const;

interface Region {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  readonly backing: Backing;
  /** Page of the backing at `start`. */
  readonly page: number;
  readonly prot: number;
  /** Called when the last piece goes. */
  readonly closed: (() => void) | undefined;
}

/** What to map. Exactly one of the sources. */
export interface MapRequest {
  readonly bytes: number;
  /** Default read and write. */
  readonly prot?: number;
  /** Address to map at (page-aligned, free); default: the kernel chooses. */
  readonly at?: number;
  /** Wanted address modulo 2 MiB, where the kernel chooses. */
  readonly residue?: number;
  /** A range of host memory: guest RAM, physically contiguous. */
  readonly hpa?: number;
  /** Device registers at this host-physical address. */
  readonly mmio?: number;
  /**
   * Deviation: get_user_pages refuses device memory on Linux; registers mapped with `pinnable` can be mapped into an
   * IOAS like memory (a guest's interrupt file), as MAP_FILE of a VFIO dmabuf could.
   */
  readonly pinnable?: boolean;
  /** Pages of something that exists (a file, kernel pages), from page `page`. */
  readonly backing?: Backing;
  readonly page?: number;
  /** Huge pages: contiguous in blocks of 2 MiB. */
  readonly huge?: boolean;
  /** Called when nothing of the mapping is left. */
  readonly closed?: () => void;
}

/** Physically contiguous runs, in order; reused from call to call. */
export class RunList {
  readonly hpa: number[] = [];
  readonly pages: number[] = [];
  clear(): void {
    this.hpa.length = 0;
    this.pages.length = 0;
  }
  add(hpa: number, pages: number): void {
    const last = this.hpa.length - 1;
    if (last >= 0 && this.hpa[last]! + this.pages[last]! * pageBytes === hpa) this.pages[last]! += pages;
    else {
      this.hpa.push(hpa);
      this.pages.push(pages);
    }
  }
}

const hugeBytes = 2 << 20;
const smallCopy = 128;
/** First address that user space cannot have. */
const taskSize = 2 ** 47;

/**
 * The address space of the VMM's process: what mmap made, and the copies between user and kernel memory that fail with
 * EFAULT. Addresses are numbers; anything at or above 2^47 is not mapped.
 */
export class ProcessMemory {
  readonly physical: PhysicalMemory;
  /** Sorted by start, disjoint. */
  #regions: Region[] = [];
  #last: Region | undefined;
  #next = 0x7f00_0000_0000;
  readonly saved = parts({
    next: field(
      () => this.#next,
      (value) => (this.#next = value),
    ),
  });

  constructor(physical: PhysicalMemory) {
    this.physical = physical;
  }

  /** mmap. The address, or -1 when `at` is misaligned or taken. */
  map(request: MapRequest): number {
    const pages = Math.ceil(request.bytes / pageBytes);
    const { physical } = this;
    const host = physical.host;
    let backing = request.backing;
    if (request.hpa !== undefined)
      backing = new RangeBacking(
        request.hpa,
        pages,
        host?.bytes.subarray(request.hpa, request.hpa + pages * pageBytes),
      );
    else if (request.mmio !== undefined)
      backing = new RangeBacking(request.mmio, pages, undefined, request.pinnable ?? false);
    backing ??= new ScatteredBacking(physical, pages, request.huge ? hugeBytes / pageBytes : 1);
    let start = request.at;
    if (start === undefined) {
      const residue = request.residue ?? (request.huge ? 0 : undefined);
      start = residue === undefined ? this.#next : Math.ceil((this.#next - residue) / hugeBytes) * hugeBytes + residue;
      // A hole after each mapping: running over the end faults.
      this.#next = start + (pages + 1) * pageBytes;
    }
    const end = start + pages * pageBytes;
    if (start % pageBytes !== 0 || end > taskSize || this.#overlaps(start, end)) return -1;
    const region: Region = {
      start,
      end,
      backing,
      page: request.page ?? 0,
      prot: request.prot ?? 3,
      closed: request.closed,
    };
    this.#regions.splice(this.#search(start), 0, region);
    return start;
  }

  /** Linear memory that belongs to the caller as well: for arguments of system calls. */
  scratch(bytes: number, at?: number): { address: number; bytes: Uint8Array } {
    const pages = Math.ceil(bytes / pageBytes);
    const linear = new Uint8Array(pages * pageBytes);
    const backing = new RangeBacking(this.physical.reserve(pages), pages, linear, false);
    return { address: this.map({ bytes, backing, ...(at === undefined ? {} : { at }) }), bytes: linear };
  }

  /** munmap of any range; what was not mapped is left alone. */
  unmap(address: number, bytes: number): void {
    const end = address + Math.ceil(bytes / pageBytes) * pageBytes;
    const kept: Region[] = [];
    const touched = new Set<Region['closed']>();
    for (const region of this.#regions) {
      if (region.end <= address || region.start >= end) {
        kept.push(region);
        continue;
      }
      touched.add(region.closed);
      if (region.start < address) kept.push({ ...region, end: address });
      if (region.end > end) kept.push({ ...region, start: end, page: region.page + (end - region.start) / pageBytes });
    }
    this.#regions = kept;
    this.#last = undefined;
    for (const closed of touched) if (closed && !kept.some((r) => r.closed === closed)) closed();
  }

  /** mprotect of a whole mapping's range. */
  protect(address: number, bytes: number, prot: number): void {
    const end = address + bytes;
    this.#regions = this.#regions.map((r) => (r.start >= address && r.end <= end ? { ...r, prot } : r));
    this.#last = undefined;
  }

  /** Index of the first region that ends after `address`. */
  #search(address: number): number {
    let low = 0;
    let high = this.#regions.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#regions[middle]!.end > address) high = middle;
      else low = middle + 1;
    }
    return low;
  }
  #overlaps(start: number, end: number): boolean {
    const region = this.#regions[this.#search(start)];
    return region !== undefined && region.start < end;
  }
  #find(address: number): Region | undefined {
    const last = this.#last;
    if (last && address >= last.start && address < last.end) return last;
    const region = this.#regions[this.#search(address)];
    if (!region || region.start > address) return undefined;
    this.#last = region;
    return region;
  }

  /** copy_from_user: bytes that could not be read (0 = all there); what could be read is in `target`. */
  read(address: number, target: Uint8Array, length = target.length): number {
    return this.#copy(address, target, length, 0);
  }
  /** copy_to_user: bytes that could not be written. */
  write(address: number, source: Uint8Array, length = source.length): number {
    return this.#copy(address, source, length, 1);
  }

  #copy(address: number, buffer: Uint8Array, length: number, write: 0 | 1): number {
    let done = 0;
    const linear = length <= smallCopy ? this.#linear(address, length, write) : undefined;
    if (linear) {
      // Structures of a few words, without making views.
      let at = this.#offset;
      if (write) for (; done < length; done++, at++) linear[at] = buffer[done]!;
      else for (; done < length; done++, at++) buffer[done] = linear[at]!;
      return 0;
    }
    while (done < length) {
      const at = address + done;
      const region = this.#find(at);
      if (!region || !(region.prot & (write ? protection.write : protection.read))) break;
      const { backing } = region;
      const offset = at - region.start + region.page * pageBytes;
      let part: Uint8Array | undefined;
      if (backing.linear) {
        const count = Math.min(length - done, region.end - at, backing.linear.length - offset);
        if (count <= 0) break;
        part = backing.linear.subarray(offset, offset + count);
      } else {
        const page = Math.floor(offset / pageBytes);
        if (page >= backing.pages) break;
        const within = offset - page * pageBytes;
        part = this.physical
          .page(backing.hpa(page))
          ?.subarray(within, within + Math.min(length - done, pageBytes - within));
        if (!part) break;
      }
      if (write) part.set(buffer.subarray(done, done + part.length));
      else buffer.set(part, done);
      done += part.length;
    }
    return length - done;
  }

  /** The linear memory that holds all of a small range, `#offset` bytes into it. */
  #linear(address: number, length: number, write: 0 | 1): Uint8Array | undefined {
    const region = this.#find(address);
    const linear = region?.backing.linear;
    if (!linear || !(region.prot & (write ? protection.write : protection.read))) return undefined;
    this.#offset = address - region.start + region.page * pageBytes;
    return address + length <= region.end && this.#offset + length <= linear.length ? linear : undefined;
  }
  #offset = 0;

  /** The little-endian u32 at `address`, or -1 (get_user's EFAULT). */
  readU32(address: number): number {
    const linear = this.#linear(address, 4, 0);
    if (linear) {
      const at = this.#offset;
      return (linear[at]! | (linear[at + 1]! << 8) | (linear[at + 2]! << 16) | (linear[at + 3]! << 24)) >>> 0;
    }
    const bytes = new Uint8Array(4);
    if (this.#copy(address, bytes, 4, 0)) return -1;
    return (bytes[0]! | (bytes[1]! << 8) | (bytes[2]! << 16) | (bytes[3]! << 24)) >>> 0;
  }

  /** True where the mapping consists of huge pages. */
  isHuge(address: number): boolean {
    const backing = this.#find(address)?.backing;
    return backing instanceof ScatteredBacking && backing.blockPages > 1;
  }

  /**
   * get_user_pages: the pages under `count` pages from `address` as runs added to `runs`; EFAULT where nothing is
   * mapped, the protection forbids it, or the memory is a device's.
   */
  resolve(address: number, count: number, write: boolean, runs: RunList): number {
    const need = write ? protection.write : protection.read;
    let page = Math.floor(address / pageBytes);
    for (let left = count; left > 0;) {
      const region = this.#find(page * pageBytes);
      if (!region || !(region.prot & need) || !region.backing.pinnable) return errno.EFAULT;
      const index = page - region.start / pageBytes + region.page;
      const limit = Math.min(left, region.end / pageBytes - page, region.backing.pages - index);
      if (limit <= 0) return errno.EFAULT;
      const run = region.backing.contiguous(index, limit);
      runs.add(region.backing.hpa(index), run);
      left -= run;
      page += run;
    }
    return 0;
  }
}
