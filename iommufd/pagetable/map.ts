import { invariant } from '#vmm/base/invariant';
import { addressBits, entryKind, type PageTableFormat } from './format.ts';

/** Where table pages come from: page-aligned, zeroed, `count` pages aligned to `count` rounded up to a power of two. */
export interface TableAllocator {
  allocatePages(count?: number): number | undefined;
  freePages(first: number, count?: number): void;
}

export interface PageTableOptions {
  readonly format: PageTableFormat;
  readonly allocator: TableAllocator;
  /** The memory table pages lie in, as 32-bit words; a physical address is its byte offset. */
  readonly words: Int32Array;
  /** Map writable pages clean, so that hardware's D bits tell what was written. Default false. */
  readonly dirtyTracking?: boolean;
}

/** Receives runs of `dirty`. */
export type DirtyRun = (iovaPfn: number, pages: number) => void;

const entries = 512;
const pageBytes = 4096;
/** Pages that one entry of each level spans. */
const spans = [0, 1, 2, 3, 4].map((level) => entries ** level);

/**
 * One page table in physical memory, and the one loop that maps and unmaps: the largest pages that alignment and
 * contiguity allow, tables on demand, empty tables set aside until hardware has forgotten them (`reclaim`).
 * Addresses are page-frame numbers; nothing here is a bigint.
 */
export class PageTable {
  readonly format: PageTableFormat;
  /** Physical address of the root table. */
  readonly root: number;
  readonly #allocator: TableAllocator;
  readonly #words: Int32Array;
  readonly #dirtyTracking: boolean;
  readonly #top: number;
  /** Pages one past the last that can be mapped. */
  readonly endPfn: number;
  /** Used entries of each table but the root. */
  readonly #used = new Map<number, number>();
  #retired: number[] = [];
  /** The last table of 4 KiB entries, and the first page it maps; -1 none. */
  #lastTable = -1;
  #lastBase = -1;

  /** Undefined when there is no page for the root. */
  static create(options: PageTableOptions): PageTable | undefined {
    const pages = options.format.rootBytes / pageBytes;
    const root = options.allocator.allocatePages(pages);
    return root === undefined ? undefined : new PageTable(options, root);
  }

  private constructor(options: PageTableOptions, root: number) {
    this.format = options.format;
    this.root = root;
    this.#allocator = options.allocator;
    this.#words = options.words;
    this.#dirtyTracking = options.dirtyTracking ?? false;
    this.#top = options.format.levels.length - 1;
    // A sign-extended format's upper half is not for I/O addresses: drivers stay in the lower.
    const sign = options.format.upperBits === 'sign-extended' ? 1 : 0;
    this.endPfn = 2 ** (addressBits(options.format) - sign - 12);
  }

  /** Table pages in use, the root's and those not yet reclaimed included. */
  get tablePages(): number {
    return this.format.rootBytes / pageBytes + this.#used.size + this.#retired.length;
  }

  #index(pfn: number, level: number): number {
    const quotient = level === 0 ? pfn : Math.floor(pfn / spans[level]!);
    return level === this.#top ? quotient : quotient % entries;
  }

  /** Physical address of the entry's table page, or of the page a leaf starts at. */
  #target(at: number): number {
    const word = at >>> 2;
    const { ppnLow } = this.format;
    const ppn = (this.#words[word]! >>> ppnLow) + (this.#words[word + 1]! & 0xfffff) * 2 ** (32 - ppnLow);
    return ppn * pageBytes;
  }

  #store(at: number, ppn: number, lo: number, hi: number): void {
    const word = at >>> 2;
    const { ppnLow } = this.format;
    this.#words[word + 1] = hi | Math.floor(ppn / 2 ** (32 - ppnLow));
    this.#words[word] = lo | (ppn << ppnLow);
  }

  #kind(at: number): number {
    const word = at >>> 2;
    return this.format.kind(this.#words[word]!, this.#words[word + 1]!);
  }

  /** The table of `level` on the way to `pfn`, made where it is missing; -1 without a page, -2 under a leaf. */
  #tableFor(pfn: number, level: number): number {
    if (level === 0 && pfn >= this.#lastBase && pfn < this.#lastBase + entries && this.#lastBase >= 0)
      return this.#lastTable;
    let table = this.root;
    for (let above = this.#top; above > level; above--) {
      const at = table + this.#index(pfn, above) * 8;
      const kind = this.#kind(at);
      if (kind === entryKind.leaf) return -2;
      if (kind === entryKind.empty) {
        const page = this.#allocator.allocatePages(1);
        if (page === undefined) return -1;
        this.#used.set(page, 0);
        this.#store(at, page / pageBytes, this.format.tableFlags.lo, this.format.tableFlags.hi);
        this.#count(table, 1);
        table = page;
      } else table = this.#target(at);
    }
    if (level === 0) {
      this.#lastTable = table;
      this.#lastBase = pfn - (pfn % entries);
    }
    return table;
  }

  #count(table: number, delta: number): void {
    if (table !== this.root) this.#used.set(table, this.#used.get(table)! + delta);
  }

  /** Largest level whose pages fit: both addresses aligned, and enough of the run left. */
  #levelFor(iovaPfn: number, ppn: number, pages: number): number {
    let level = 0;
    for (let size = entries; level < this.#top; size *= entries, level++)
      if (iovaPfn % size !== 0 || ppn % size !== 0 || pages < size) break;
    return level;
  }

  /**
   * Maps `pages` pages from `iovaPfn` to the run at `hpa` (page-aligned byte address). `prot` is a sum of `mapProt`.
   * The range must not be mapped. False, with nothing of the run mapped, when no page for a table is left or the
   * range is out of reach.
   */
  map(iovaPfn: number, hpa: number, pages: number, prot: number): boolean {
    if (iovaPfn < 0 || iovaPfn + pages > this.endPfn) return false;
    const flags = this.format.leafFlags(prot, !this.#dirtyTracking);
    const { lo, hi } = flags;
    const { ppnLow } = this.format;
    const words = this.#words;
    let pfn = iovaPfn;
    let ppn = hpa / pageBytes;
    const end = iovaPfn + pages;
    while (pfn < end) {
      let level = this.#levelFor(pfn, ppn, end - pfn);
      let table = this.#tableFor(pfn, level);
      // A smaller table is there from earlier small mappings: use it, it cannot be replaced under hardware.
      while (level > 0 && table >= 0 && this.#kind(table + this.#index(pfn, level) * 8) === entryKind.table)
        table = this.#tableFor(pfn, --level);
      if (table < 0) {
        this.unmap(iovaPfn, pfn - iovaPfn);
        return false;
      }
      const size = spans[level]!;
      const first = this.#index(pfn, level);
      const room = (level === this.#top ? Infinity : entries) - first;
      let count = Math.min(room, Math.floor((end - pfn) / size));
      if (level > 0) count = 1;
      let word = (table + first * 8) >>> 2;
      const carry = 2 ** (32 - ppnLow);
      for (let i = 0; i < count; i++) {
        if (this.format.kind(words[word]!, words[word + 1]!) !== entryKind.empty)
          invariant(false, `page ${pfn + i * size} is mapped`);
        words[word + 1] = hi | Math.floor(ppn / carry);
        words[word] = lo | (ppn << ppnLow);
        word += 2;
        ppn += size;
      }
      this.#count(table, count);
      pfn += count * size;
    }
    return true;
  }

  /**
   * Unmaps what lies in the range; a larger page that it would split is left alone. Returns the pages unmapped.
   * Tables that became empty stay allocated until `reclaim`.
   */
  unmap(iovaPfn: number, pages: number): number {
    const end = Math.min(iovaPfn + pages, this.endPfn);
    const base = this.#lastBase;
    if (base >= 0 && iovaPfn >= base && end <= base + entries && this.#used.get(this.#lastTable)! > pages) {
      const cleared = this.#clear(this.#lastTable + (iovaPfn - base) * 8, end - iovaPfn);
      this.#count(this.#lastTable, -cleared);
      return cleared;
    }
    return this.#unmap(this.root, this.#top, Math.max(iovaPfn, 0), end);
  }

  /** Empties `count` entries of a table of 4 KiB pages; returns how many were in use. */
  #clear(at: number, count: number): number {
    const words = this.#words;
    let cleared = 0;
    for (let word = at >>> 2, end = word + 2 * count; word < end; word += 2) {
      if (this.format.kind(words[word]!, words[word + 1]!) === entryKind.empty) continue;
      words[word] = 0;
      words[word + 1] = 0;
      cleared++;
    }
    return cleared;
  }

  /** Recursion by level, loop over entries of one table. */
  #unmap(table: number, level: number, from: number, end: number): number {
    const size = spans[level]!;
    const words = this.#words;
    let pfn = from;
    let unmapped = 0;
    let cleared = 0;
    if (level === 0) {
      this.#lastTable = table;
      this.#lastBase = from - (from % entries);
      cleared = this.#clear(table + this.#index(from, 0) * 8, end - from);
      this.#count(table, -cleared);
      return cleared;
    }
    while (pfn < end) {
      const at = table + this.#index(pfn, level) * 8;
      const word = at >>> 2;
      const base = pfn - (pfn % size);
      const next = Math.min(end, base + size);
      const kind = this.format.kind(words[word]!, words[word + 1]!);
      if (kind === entryKind.leaf && pfn === base && next === base + size) {
        words[word] = 0;
        words[word + 1] = 0;
        unmapped += size;
        cleared++;
      } else if (kind === entryKind.table) {
        const below = this.#target(at);
        unmapped += this.#unmap(below, level - 1, pfn, next);
        if (this.#used.get(below) === 0) {
          words[word] = 0;
          words[word + 1] = 0;
          cleared++;
          this.#retire(below);
        }
      }
      pfn = next;
    }
    if (cleared > 0) this.#count(table, -cleared);
    return unmapped;
  }

  #retire(table: number): void {
    this.#used.delete(table);
    this.#retired.push(table);
    if (table === this.#lastTable) this.#lastBase = this.#lastTable = -1;
  }

  /** Frees the tables that unmapping emptied; call it once hardware caches no pointer to them. */
  reclaim(): void {
    for (const table of this.#retired) this.#allocator.freePages(table);
    this.#retired = [];
  }

  /** Physical byte address of a page, or -1 where nothing is mapped. */
  lookup(iovaPfn: number): number {
    const at = this.#leaf(iovaPfn);
    if (at < 0) return -1;
    return this.#target(at) + (iovaPfn % this.#leafPages) * pageBytes;
  }

  #leafPages = 1;

  /** Address of the leaf entry of a page, its pages in #leafPages; -1 where nothing is mapped. */
  #leaf(iovaPfn: number): number {
    if (iovaPfn < 0 || iovaPfn >= this.endPfn) return -1;
    let table = this.root;
    for (let level = this.#top; level >= 0; level--) {
      const at = table + this.#index(iovaPfn, level) * 8;
      const kind = this.#kind(at);
      this.#leafPages = spans[level]!;
      if (kind === entryKind.leaf) return at;
      if (kind !== entryKind.table) return -1;
      table = this.#target(at);
    }
    return -1;
  }

  /** Reports runs of pages that hardware marked dirty, and makes them clean unless `keep`. */
  dirty(iovaPfn: number, pages: number, keep: boolean, sink: DirtyRun): void {
    const { dirtyLo } = this.format;
    const end = iovaPfn + pages;
    for (let pfn = iovaPfn; pfn < end;) {
      const at = this.#leaf(pfn);
      const size = this.#leafPages;
      const next = Math.min(end, pfn - (pfn % size) + size);
      if (at >= 0 && this.#words[at >>> 2]! & dirtyLo) {
        if (!keep) this.#words[at >>> 2]! &= ~dirtyLo;
        sink(pfn, next - pfn);
      }
      pfn = next;
    }
  }

  /** Frees every table. Hardware must not use it any more. */
  destroy(): void {
    this.reclaim();
    for (const table of this.#used.keys()) this.#allocator.freePages(table);
    this.#used.clear();
    this.#allocator.freePages(this.root, this.format.rootBytes / pageBytes);
  }
}
