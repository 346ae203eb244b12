import { pageBytes } from '#vmm/base/address';
import { invariant } from '#vmm/base/invariant';
import type { HostMemory } from '#vmm/base/memory';
import { field, parts } from '#vmm/base/saved';

/** Host-physical addresses of pages that lie outside host memory's linear memory (ordinary process pages). */
const looseBase = 2 ** 40;
const chunkPages = 512;

/**
 * Host-physical pages as the kernel sees them: host memory's linear memory, and "loose" pages (process memory that no
 * DMA of a machine needs to reach) whose bytes come into being at their first use. Counts the pins of every page.
 */
export class PhysicalMemory {
  readonly host: HostMemory | undefined;
  readonly #loose = new Map<number, Uint8Array>();
  readonly #pins = new Map<number, Int32Array>();
  #nextLoose = looseBase;
  #pinned = 0;
  /** Pins are those of what start-up mapped. */
  readonly saved = parts({
    nextLoose: field(
      () => this.#nextLoose,
      (value) => (this.#nextLoose = value),
    ),
  });

  constructor(host?: HostMemory) {
    this.host = host;
  }

  /** First address of `count` contiguous loose pages, zeroed, aligned to `alignPages`. */
  reserve(count: number, alignPages = 1): number {
    const align = alignPages * pageBytes;
    const base = Math.ceil(this.#nextLoose / align) * align;
    this.#nextLoose = base + count * pageBytes;
    return base;
  }

  /** Forgets the bytes of loose pages. */
  release(base: number, count: number): void {
    for (let i = 0; i < count; i++) this.#loose.delete(base / pageBytes + i);
  }

  /** The 4096 bytes of the page at `hpa`, or undefined where there is no memory (device registers). */
  page(hpa: number): Uint8Array | undefined {
    const pfn = Math.floor(hpa / pageBytes);
    if (hpa >= looseBase) {
      let bytes = this.#loose.get(pfn);
      if (!bytes) this.#loose.set(pfn, (bytes = new Uint8Array(pageBytes)));
      return bytes;
    }
    const { host } = this;
    if (!host || pfn * pageBytes + pageBytes > host.end) return undefined;
    return host.bytes.subarray(pfn * pageBytes, (pfn + 1) * pageBytes);
  }

  /** Adds `delta` pins to `count` pages from `hpa`. */
  pin(hpa: number, count: number, delta: 1 | -1): void {
    let pfn = Math.floor(hpa / pageBytes);
    this.#pinned += count * delta;
    for (let left = count; left > 0;) {
      const number = Math.floor(pfn / chunkPages);
      let chunk = this.#pins.get(number);
      if (!chunk) this.#pins.set(number, (chunk = new Int32Array(chunkPages)));
      const first = pfn - number * chunkPages;
      const end = Math.min(first + left, chunkPages);
      for (let i = first; i < end; i++) {
        const pins = (chunk[i]! += delta);
        invariant(pins >= 0, `page ${pfn} was unpinned more often than pinned`);
      }
      left -= end - first;
      pfn += end - first;
    }
  }

  /** Pins of one page. */
  pins(hpa: number): number {
    const pfn = Math.floor(hpa / pageBytes);
    return this.#pins.get(Math.floor(pfn / chunkPages))?.[pfn % chunkPages] ?? 0;
  }

  /** Sum over all pages, for leak checks. */
  get pinned(): number {
    return this.#pinned;
  }
}
