import { type Hpa, hpa, pageBytes } from './address.ts';
import { invariant } from './invariant.ts';
import type { AccessBytes, MmioDevice } from './ports.ts';
import { field, parts, plainList } from './saved.ts';

const wasmPageBytes = 65536;

export interface HostMemoryLayout {
  /** Bytes for the execution engine (CPU state, software TLB, predecoded code); never reachable by DMA. */
  readonly engineBytes: number;
  /** Bytes of the host kernel's page pool (stage-2 tables, device directories, queues). */
  readonly poolBytes: number;
  /** Bytes of guest RAM, a physically contiguous slice. */
  readonly guestBytes: number;
}

/**
 * Host physical memory: one linear memory in which a host-physical address is the byte offset.
 *
 *   0 ── engine ── poolBase ── host kernel's pages ── guestBase ── guest RAM ── end │ host MMIO pages (no bytes)
 */
export class HostMemory {
  readonly wasm: WebAssembly.Memory;
  readonly buffer: ArrayBuffer;
  readonly bytes: Uint8Array;
  readonly i32: Int32Array;
  readonly view: DataView;
  readonly engineBytes: number;
  readonly poolBase: Hpa;
  readonly guestBase: Hpa;
  readonly guestBytes: number;
  /** First address beyond RAM: host MMIO pages are given out from here. */
  readonly end: number;
  readonly #freePages: number[] = [];
  #nextPage: number;
  #pagesUsed = 0;
  #nextMmio: number;
  readonly #mmio = new Map<number, { device: MmioDevice; base: number }>();
  /** Which pages are given out; the bytes are many, and a snapshot holds them apart. */
  readonly saved = parts({
    freePages: plainList(() => this.#freePages),
    nextPage: field(
      () => this.#nextPage,
      (value) => (this.#nextPage = value),
    ),
    pagesUsed: field(
      () => this.#pagesUsed,
      (value) => (this.#pagesUsed = value),
    ),
  });

  constructor(layout: HostMemoryLayout) {
    const align = (n: number): number => Math.ceil(n / (2 << 20)) * (2 << 20);
    this.engineBytes = align(layout.engineBytes);
    const pool = align(layout.poolBytes);
    const total = this.engineBytes + pool + align(layout.guestBytes);
    invariant(total <= 0x1_0000_0000 - wasmPageBytes, `host memory of ${total} bytes does not fit a linear memory`);
    const pages = Math.ceil(total / wasmPageBytes);
    this.wasm = new WebAssembly.Memory({ initial: pages, maximum: pages });
    this.buffer = this.wasm.buffer;
    this.bytes = new Uint8Array(this.buffer);
    this.i32 = new Int32Array(this.buffer);
    this.view = new DataView(this.buffer);
    this.poolBase = hpa(this.engineBytes);
    this.guestBase = hpa(this.engineBytes + pool);
    this.guestBytes = layout.guestBytes;
    this.end = pages * wasmPageBytes;
    this.#nextPage = this.poolBase;
    this.#nextMmio = 0x1_0000_0000;
  }

  /**
   * `count` contiguous zeroed pages, the first aligned to `count` rounded up to a power of two pages;
   * undefined when the pool is exhausted (the kernel's ENOMEM).
   */
  allocatePages(count = 1): Hpa | undefined {
    if (count === 1) {
      const free = this.#freePages.pop();
      if (free !== undefined) {
        this.#pagesUsed++;
        this.bytes.fill(0, free, free + pageBytes);
        return hpa(free);
      }
    }
    const align = 2 ** Math.ceil(Math.log2(count)) * pageBytes;
    const first = Math.ceil(this.#nextPage / align) * align;
    if (first + count * pageBytes > this.guestBase) return undefined;
    for (let page = this.#nextPage; page < first; page += pageBytes) this.#freePages.push(page);
    this.#nextPage = first + count * pageBytes;
    this.#pagesUsed += count;
    return hpa(first);
  }

  freePages(first: Hpa, count = 1): void {
    invariant(first >= this.poolBase && first + count * pageBytes <= this.guestBase, `${first} is not of the pool`);
    for (let i = count - 1; i >= 0; i--) this.#freePages.push(first + i * pageBytes);
    this.#pagesUsed -= count;
  }

  /** Pages of the pool in use, for leak checks. */
  get pagesUsed(): number {
    return this.#pagesUsed;
  }

  /** True where `length` bytes at `address` are RAM that DMA may reach. */
  isRam(address: number, length: number): boolean {
    return address >= this.poolBase && address + length <= this.end;
  }

  /** Gives a device a page-aligned range of host-physical addresses beyond RAM. */
  attachMmio(device: MmioDevice, bytes = pageBytes): Hpa {
    const base = this.#nextMmio;
    const pages = Math.ceil(bytes / pageBytes);
    for (let i = 0; i < pages; i++) this.#mmio.set(base / pageBytes + i, { device, base });
    this.#nextMmio += pages * pageBytes;
    return hpa(base);
  }

  /** True where the page of `address` belongs to a device. */
  isMmio(address: number): boolean {
    return this.#mmio.has(Math.floor(address / pageBytes));
  }

  /** A store to a host-physical address, RAM or device; false where nothing is there. */
  store(address: Hpa, size: AccessBytes & (1 | 2 | 4), value: number): boolean {
    if (this.isRam(address, size)) {
      if (size === 4) this.view.setUint32(address, value, true);
      else if (size === 2) this.view.setUint16(address, value, true);
      else this.view.setUint8(address, value);
      return true;
    }
    const page = this.#mmio.get(Math.floor(address / pageBytes));
    if (!page) return false;
    page.device.write(address - page.base, size, value);
    return true;
  }
}
