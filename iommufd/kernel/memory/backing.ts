import { pageBytes } from '#vmm/base/address';
import type { PhysicalMemory } from './physical.ts';

/** What lies behind a mapping of process memory, in pages. */
export interface Backing {
  /** Pages it has now. */
  readonly pages: number;
  /** Host-physical address of page `index`. */
  hpa(index: number): number;
  /** Pages from `index` on that are physically contiguous, at most `limit`. */
  contiguous(index: number, limit: number): number;
  /** All bytes as one array, where the memory is linear. */
  readonly linear?: Uint8Array;
  /** False for device memory: get_user_pages refuses it (VM_IO, VM_PFNMAP). */
  readonly pinnable: boolean;
}

/** A physically contiguous run of host memory, or of device registers. */
export class RangeBacking implements Backing {
  readonly pages: number;
  readonly linear?: Uint8Array;
  readonly pinnable: boolean;
  readonly #hpa: number;

  constructor(hpa: number, pages: number, linear: Uint8Array | undefined, pinnable = true) {
    this.#hpa = hpa;
    this.pages = pages;
    if (linear) this.linear = linear;
    this.pinnable = pinnable;
  }
  hpa(index: number): number {
    return this.#hpa + index * pageBytes;
  }
  contiguous(index: number, limit: number): number {
    return Math.min(limit, this.pages - index);
  }
}

/**
 * Anonymous or file pages as a running kernel hands them out: not contiguous beyond `blockPages` (1, or 512 for huge
 * pages). Grows and shrinks as a file does.
 */
export class ScatteredBacking implements Backing {
  readonly pinnable = true;
  readonly blockPages: number;
  readonly #memory: PhysicalMemory;
  /** One extent per growth: its blocks are laid out backwards so that no two neighbours are contiguous. */
  readonly #extents: { first: number; blocks: number; base: number }[] = [];
  #pages = 0;

  constructor(memory: PhysicalMemory, pages: number, blockPages = 1) {
    this.#memory = memory;
    this.blockPages = blockPages;
    this.resize(pages);
  }

  get pages(): number {
    return this.#pages;
  }

  resize(pages: number): void {
    const reserved = this.#extents.reduce((sum, e) => sum + e.blocks * this.blockPages, 0);
    if (pages > reserved) {
      const blocks = Math.ceil((pages - reserved) / this.blockPages);
      // One page of slack keeps extents apart.
      const base = this.#memory.reserve(blocks * this.blockPages + 1, this.blockPages);
      this.#extents.push({ first: reserved, blocks, base });
    }
    this.#pages = pages;
  }

  hpa(index: number): number {
    const extent = this.#extents.find((e) => index < e.first + e.blocks * this.blockPages)!;
    const offset = index - extent.first;
    const block = Math.floor(offset / this.blockPages);
    const within = offset % this.blockPages;
    return extent.base + ((extent.blocks - 1 - block) * this.blockPages + within) * pageBytes;
  }

  contiguous(index: number, limit: number): number {
    return Math.min(limit, this.blockPages - (index % this.blockPages));
  }

  free(): void {
    for (const { base, blocks } of this.#extents) this.#memory.release(base, blocks * this.blockPages);
  }
}
