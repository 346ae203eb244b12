import { pageBytes } from '#vmm/base/address';
import { invariant } from '#vmm/base/invariant';
import { prot } from '../iommu-ops.ts';
import type { PhysicalMemory } from '../memory/physical.ts';
import { RunList } from '../memory/process-memory.ts';
import type { AccountMode, Accounting } from './accounting.ts';
import type { Area } from './area.ts';

/** Where a pages object takes its pages from: process memory, a file, a dmabuf. */
export interface PageSource {
  readonly kind: 'user' | 'file' | 'dmabuf';
  /** Pages from page number `page` of the source as runs; EFAULT, EINVAL … where they cannot be had. */
  resolve(page: number, count: number, write: boolean, runs: RunList): number;
  /** dmabuf only: nothing can be mapped any more. */
  readonly revoked?: boolean;
  /** dmabuf only: areas that are in domains, to be taken out when the exporter revokes it. */
  track?(area: Area): void;
  untrack?(area: Area): void;
  /** The pages object is gone. */
  release?(): void;
}

/** What pins are taken from and charged to. */
export interface PinOwner {
  readonly physical: PhysicalMemory;
  readonly accounting: Accounting;
}

const chunkPages = 512;
const runs = new RunList();
/** First page of the `hold` under way: everything from there on that precedes is pinned, if not yet counted. */
let holding = 0;

/** What only some pages objects need. */
interface Detail {
  /** Holders of single pages, on top of `whole`, in chunks; and how many pages have any. */
  partial: Map<number, Int32Array> | undefined;
  partialPages: number;
  /** Addresses of pinned pages where they are not linear. */
  frames: Map<number, Float64Array> | undefined;
  /** Exact accesses: `first:last` → users (a second access of the same range shares the first's pins). */
  readonly accesses: Map<string, number>;
}

/**
 * `struct iopt_pages`: a linear piece of memory that areas (of several IOASes, after COPY) slice. Each page is pinned
 * once, however many areas, domains and accesses hold it, and released with the last of them. There can be millions:
 * one that is held as a whole and lies in one piece costs nothing per page.
 */
export class Pages {
  readonly source: PageSource;
  /** Page number of the source that is page 0 here. */
  readonly basePage: number;
  readonly count: number;
  readonly writable: boolean;
  users = 1;
  readonly accountMode: AccountMode;
  readonly owner: PinOwner;
  /** Pages pinned now, and how many of them are accounted. */
  pinned = 0;
  #charged = 0;
  /** Holders of all pages at once. */
  #whole = 0;
  /** Page frame of page 0 while every pinned page lies at `#linear + index`; otherwise -1, and frames. */
  #linear = -1;
  #detail: Detail | undefined;

  constructor(
    source: PageSource,
    basePage: number,
    count: number,
    writable: boolean,
    owner: PinOwner,
    accountMode: AccountMode,
  ) {
    this.source = source;
    this.basePage = basePage;
    this.count = count;
    this.writable = writable;
    this.owner = owner;
    this.accountMode = accountMode;
  }

  /**
   * What `restorePlain` needs of pages that one area alone uses and that are process memory: the frame of page 0 when
   * they are held once, as a whole, in one piece and accounted (`held`), 0 when not held. Undefined: not so plain.
   */
  plain(held: boolean): number | undefined {
    if (this.users !== 1 || this.#detail || this.source.kind !== 'user') return undefined;
    if (!held) return this.pinned === 0 && this.#whole === 0 ? 0 : undefined;
    const whole = this.#whole === 1 && this.pinned === this.count && this.#charged === this.count;
    return whole && this.#linear >= 0 ? this.#linear : undefined;
  }
  /** Makes new pages what held ones were. */
  restorePlain(linear: number): void {
    this.#whole = 1;
    this.pinned = this.count;
    this.#charged = this.count;
    this.#linear = linear;
  }

  get #more(): Detail {
    return (this.#detail ??= { partial: undefined, partialPages: 0, frames: undefined, accesses: new Map() });
  }
  get accesses(): Map<string, number> {
    return this.#more.accesses;
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
    if (this.#whole > 0) return true;
    const chunk = this.#detail?.partial?.get(Math.floor(index / chunkPages));
    return chunk !== undefined && chunk[index % chunkPages]! > 0;
  }

  /** Host-physical address of a held page. */
  hpaOf(index: number): number {
    if (this.#linear >= 0) return (this.#linear + index) * pageBytes;
    return this.#detail!.frames!.get(Math.floor(index / chunkPages))![index % chunkPages]!;
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

  /** End of the stretch from `index` to `last` that nobody holds. */
  #unheldEnd(index: number, last: number): number {
    if (!this.#detail || this.#detail.partialPages === 0) return last + 1;
    let end = index + 1;
    while (end <= last && !this.#held(end)) end++;
    return end;
  }

  /**
   * Holds pages first … last: those that nobody holds yet are pinned. Not accounted until `charge`. On error (EFAULT,
   * EINVAL for files) nothing changes.
   */
  hold(first: number, last: number): number {
    if (this.#whole === 0 && !this.source.revoked) {
      holding = first;
      for (let index = first; index <= last;) {
        if (this.#held(index)) {
          index++;
          continue;
        }
        const end = this.#unheldEnd(index, last);
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
    if (first === 0 && last === this.count - 1) this.#whole--;
    else this.#addPartial(first, last, -1);
    if (this.#whole === 0) this.#unpinUnheld(first, last);
    this.#uncharge();
  }

  #addPartial(first: number, last: number, delta: 1 | -1): void {
    const detail = this.#more;
    const partial = (detail.partial ??= new Map<number, Int32Array>());
    for (let index = first; index <= last; index++) {
      const number = Math.floor(index / chunkPages);
      let chunk = partial.get(number);
      if (!chunk) partial.set(number, (chunk = new Int32Array(chunkPages)));
      const holders = (chunk[index % chunkPages]! += delta);
      if (delta > 0 && holders === 1) detail.partialPages++;
      if (delta < 0 && holders === 0) detail.partialPages--;
    }
    if (detail.partialPages === 0) detail.partial = undefined;
  }

  #pin(first: number, count: number): number {
    runs.clear();
    const rc = this.source.resolve(this.basePage + first, count, this.writable, runs);
    if (rc !== 0) return rc;
    let index = first;
    for (let i = 0; i < runs.hpa.length; i++) {
      const hpa = runs.hpa[i]!;
      const pages = runs.pages[i]!;
      this.#place(index, hpa, pages);
      if (this.source.kind !== 'dmabuf') {
        this.owner.physical.pin(hpa, pages, 1);
        this.pinned += pages;
      }
      index += pages;
    }
    return 0;
  }

  #place(index: number, hpa: number, pages: number): void {
    const linear = hpa / pageBytes - index;
    if (this.pinned === 0 && linear >= 0) {
      this.#linear = linear;
      if (this.#detail) this.#detail.frames = undefined;
      return;
    }
    if (this.#linear >= 0 && this.#linear === linear) return;
    if (this.#linear >= 0 && this.pinned > 0) {
      // Not linear after all: write down what is pinned.
      const old = this.#linear;
      this.#linear = -1;
      if (index > holding) this.#store(holding, (old + holding) * pageBytes, index - holding);
      for (const [number, chunk] of this.#more.partial ?? [])
        for (let i = 0; i < chunkPages; i++) {
          const at = number * chunkPages + i;
          if (chunk[i]! > 0) this.#store(at, (old + at) * pageBytes, 1);
        }
    }
    this.#linear = -1;
    this.#store(index, hpa, pages);
  }

  #store(index: number, hpa: number, pages: number): void {
    const frames = (this.#more.frames ??= new Map<number, Float64Array>());
    for (let i = 0; i < pages; i++) {
      const number = Math.floor((index + i) / chunkPages);
      let chunk = frames.get(number);
      if (!chunk) frames.set(number, (chunk = new Float64Array(chunkPages)));
      chunk[(index + i) % chunkPages] = hpa + i * pageBytes;
    }
  }

  /** Unpins the pages of a range that are pinned without a holder. */
  #unpinUnheld(first: number, last: number): void {
    if (this.source.kind === 'dmabuf') return;
    for (let index = first; index <= last;) {
      if (this.#held(index)) {
        index++;
        continue;
      }
      const end = this.#unheldEnd(index, last);
      while (index < end) {
        const count = this.run(index, end - 1);
        this.owner.physical.pin(this.hpaOf(index), count, -1);
        this.pinned -= count;
        index += count;
      }
    }
  }

  /** Pages that `charge` would have to account. */
  get uncharged(): number {
    return this.pinned - this.#charged;
  }

  /** Accounts what was pinned since; ENOMEM over the limit (the caller then releases). */
  charge(): number {
    const rc = this.owner.accounting.charge(this.accountMode, this.pinned - this.#charged);
    if (rc === 0) this.#charged = this.pinned;
    return rc;
  }

  #uncharge(): void {
    if (this.#charged <= this.pinned) return;
    this.owner.accounting.uncharge(this.accountMode, this.#charged - this.pinned);
    this.#charged = this.pinned;
  }

  /** Bytes of page `index` as the CPU sees them, or undefined. Only for held pages. */
  bytes(index: number): Uint8Array | undefined {
    return this.owner.physical.page(this.hpaOf(index));
  }
}
