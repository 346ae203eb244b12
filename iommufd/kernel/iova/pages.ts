import { pageBytes } from '#vmm/base/address';
import { errno } from '#vmm/base/errno';
import { invariant } from '#vmm/base/invariant';
import { prot } from '../iommu-ops.ts';
import type { PhysicalMemory } from '../memory/physical.ts';
import { RunList } from '../memory/process-memory.ts';
import type { Area } from './area.ts';
import type { AccountMode, Accounting } from './accounting.ts';

/** Where a pages object takes its pages from: process memory, a file, a dmabuf. */
export interface PageSource {
  readonly kind: 'user' | 'file' | 'dmabuf';
  /** User: the page-aligned address. File and dmabuf: the page-aligned offset. For the choice of IOVAs. */
  readonly base: bigint;
  /** Pages `first` … `first + count - 1` as runs; EFAULT, EINVAL … where they cannot be had. */
  resolve(first: number, count: number, write: boolean, runs: RunList): number;
  /** dmabuf only: nothing can be mapped any more. */
  readonly revoked?: boolean;
  /** dmabuf only: areas that are in domains, to be taken out when the exporter revokes it. */
  track?(area: Area): void;
  untrack?(area: Area): void;
  /** The pages object is gone. */
  release?(): void;
}

const chunkPages = 512;
const runs = new RunList();

/**
 * `struct iopt_pages`: a linear piece of memory that areas (of several IOASes, after COPY) slice. Each page is pinned
 * once, however many areas, domains and accesses hold it, and released with the last of them.
 */
export class Pages {
  readonly source: PageSource;
  readonly count: number;
  readonly writable: boolean;
  users = 1;
  accountMode: AccountMode;
  accounting: Accounting;
  readonly #physical: PhysicalMemory;
  /** Pages pinned now, and how many of them are accounted. */
  pinned = 0;
  charged = 0;
  /** Holders of all pages at once; the usual case costs no memory per page. */
  #whole = 0;
  /** Holders of single pages, on top of `#whole`, in chunks; and how many pages have any. */
  #partial: Map<number, Int32Array> | undefined;
  #partialPages = 0;
  /** Address of page 0 while every pinned page lies at `#linear + index * 4096`; otherwise -1 and `#frames`. */
  #linear = -1;
  #frames: Map<number, Float64Array> | undefined;
  /** First page of the `hold` under way: everything from there on that precedes is pinned, if not yet counted. */
  #holding = 0;
  /** Exact accesses: `first:last` → users (a second access of the same range shares the first's pins). */
  readonly accesses = new Map<string, number>();

  constructor(
    source: PageSource,
    count: number,
    writable: boolean,
    physical: PhysicalMemory,
    accounting: Accounting,
    accountMode: AccountMode,
  ) {
    this.source = source;
    this.count = count;
    this.writable = writable;
    this.#physical = physical;
    this.accounting = accounting;
    this.accountMode = accountMode;
  }

  put(): void {
    if (--this.users > 0) return;
    invariant(this.pinned === 0, 'a pages object was freed while pinned');
    this.source.release?.();
  }

  /** `prot` for the domain: device memory is not cached. */
  prot(flags: number): number {
    return this.source.kind === 'dmabuf' ? (flags & ~prot.cache) | prot.mmio : flags;
  }

  #held(index: number): boolean {
    return this.#whole > 0 || (this.#partial?.get(Math.floor(index / chunkPages))?.[index % chunkPages] ?? 0) > 0;
  }

  /** Host-physical address of a held page. */
  hpaOf(index: number): number {
    if (this.#linear >= 0) return this.#linear + index * pageBytes;
    return this.#frames!.get(Math.floor(index / chunkPages))![index % chunkPages]!;
  }

  /** Held pages from `index` to at most `last` that are physically contiguous. */
  run(index: number, last: number): number {
    if (this.#linear >= 0) return last - index + 1;
    let count = 1;
    let next = this.hpaOf(index) + pageBytes;
    while (index + count <= last && this.hpaOf(index + count) === next) {
      count++;
      next += pageBytes;
    }
    return count;
  }

  /**
   * Holds pages first … last: those that nobody holds yet are pinned. Not accounted until `charge`. On error (EFAULT,
   * EINVAL for files) nothing changes.
   */
  hold(first: number, last: number): number {
    if (!this.source.revoked) {
      this.#holding = first;
      let index = first;
      while (index <= last) {
        if (this.#held(index)) {
          if (this.#whole > 0) break;
          index++;
          continue;
        }
        let end = index + 1;
        if (this.#partialPages === 0) end = last + 1;
        else while (end <= last && !this.#held(end)) end++;
        const rc = this.#pin(index, end - index);
        if (rc !== 0) {
          this.#unpinUnheld(first, index - 1);
          return rc;
        }
        index = end;
      }
    }
    if (first === 0 && last === this.count - 1) this.#whole++;
    else this.#addPartial(first, last, 1);
    return 0;
  }

  /** Undoes one `hold` of the same range; unpins what nobody holds any more, and takes it off the account. */
  release(first: number, last: number): void {
    if (first === 0 && last === this.count - 1 && this.#whole > 0) this.#whole--;
    else this.#addPartial(first, last, -1);
    if (this.#whole === 0) this.#unpinUnheld(first, last);
    this.uncharge();
  }

  #addPartial(first: number, last: number, delta: 1 | -1): void {
    const partial = (this.#partial ??= new Map<number, Int32Array>());
    for (let index = first; index <= last; index++) {
      const number = Math.floor(index / chunkPages);
      let chunk = partial.get(number);
      if (!chunk) partial.set(number, (chunk = new Int32Array(chunkPages)));
      const holders = (chunk[index % chunkPages]! += delta);
      if (delta > 0 && holders === 1) this.#partialPages++;
      if (delta < 0 && holders === 0) this.#partialPages--;
    }
    if (this.#partialPages === 0) this.#partial = undefined;
  }

  #pin(first: number, count: number): number {
    runs.clear();
    const rc = this.source.resolve(first, count, this.writable, runs);
    if (rc !== 0) return rc;
    let index = first;
    for (let i = 0; i < runs.hpa.length; i++) {
      const hpa = runs.hpa[i]!;
      const pages = runs.pages[i]!;
      this.#place(index, hpa, pages);
      if (this.source.kind !== 'dmabuf') {
        this.#physical.pin(hpa, pages, 1);
        this.pinned += pages;
      }
      index += pages;
    }
    return 0;
  }

  #place(index: number, hpa: number, pages: number): void {
    const linear = hpa - index * pageBytes;
    if (this.pinned === 0 && linear >= 0) {
      this.#linear = linear;
      this.#frames = undefined;
      return;
    }
    if (this.#linear >= 0 && this.#linear === linear) return;
    if (this.#linear >= 0 && this.pinned > 0) {
      // Not linear after all: write down what is pinned.
      const old = this.#linear;
      this.#linear = -1;
      this.#frames = new Map();
      if (index > this.#holding) this.#store(this.#holding, old + this.#holding * pageBytes, index - this.#holding);
      if (this.#whole > 0) this.#store(0, old, this.count);
      else
        for (const [number, chunk] of this.#partial ?? [])
          for (let i = 0; i < chunkPages; i++)
            if (chunk[i]! > 0) this.#store(number * chunkPages + i, old + (number * chunkPages + i) * pageBytes, 1);
    }
    this.#linear = -1;
    this.#store(index, hpa, pages);
  }

  #store(index: number, hpa: number, pages: number): void {
    const frames = (this.#frames ??= new Map<number, Float64Array>());
    for (let i = 0; i < pages; i++) {
      const number = Math.floor((index + i) / chunkPages);
      let chunk = frames.get(number);
      if (!chunk) frames.set(number, (chunk = new Float64Array(chunkPages).fill(-1)));
      chunk[(index + i) % chunkPages] = hpa + i * pageBytes;
    }
  }

  /** Unpins the pages of a range that are pinned without a holder. */
  #unpinUnheld(first: number, last: number): void {
    if (this.source.kind === 'dmabuf') return;
    let index = first;
    while (index <= last) {
      if (this.#held(index)) {
        index++;
        continue;
      }
      let end = index + 1;
      if (this.#partialPages === 0) end = last + 1;
      else while (end <= last && !this.#held(end)) end++;
      for (let at = index; at < end;) {
        const count = this.run(at, end - 1);
        this.#physical.pin(this.hpaOf(at), count, -1);
        this.pinned -= count;
        at += count;
      }
      index = end;
    }
  }

  /** Accounts what was pinned since; ENOMEM over the limit (the caller then releases). */
  charge(): number {
    if (this.pinned <= this.charged) {
      this.uncharge();
      return 0;
    }
    const rc = this.accounting.charge(this.accountMode, this.pinned - this.charged);
    if (rc === 0) this.charged = this.pinned;
    return rc;
  }

  uncharge(): void {
    if (this.charged > this.pinned) {
      this.accounting.uncharge(this.accountMode, this.charged - this.pinned);
      this.charged = this.pinned;
    }
  }

  /** Bytes of page `index` as the CPU sees them, or undefined. Only for held pages. */
  bytes(index: number): Uint8Array | undefined {
    return this.#physical.page(this.hpaOf(index));
  }

  /** EPERM for a write through a pages object that was mapped without WRITEABLE. */
  checkWrite(write: boolean): number {
    return write && !this.writable ? errno.EPERM : 0;
  }
}
