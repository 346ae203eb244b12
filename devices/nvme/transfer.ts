import type { DmaPort, DmaResult, StorageBackend } from '#vmm/base/ports';
import { noPasid } from '#vmm/base/ports';
import { status } from './status.ts';

/** Most pieces that one command's data may lie in. */
const maxPieces = 1024;

/** Where a command's data lies: ranges of device addresses in order; neighbours are merged. Reused by every command. */
export class ScatterList {
  readonly hi = new Uint32Array(maxPieces);
  readonly lo = new Uint32Array(maxPieces);
  /** Bytes of each piece; negative: that many bytes go nowhere (an SGL bit bucket). */
  readonly lengths = new Int32Array(maxPieces);
  count = 0;
  bytes = 0;
  pasid = noPasid;
  #nextHi = -1;
  #nextLo = 0;

  clear(pasid: number): void {
    this.count = 0;
    this.bytes = 0;
    this.pasid = pasid;
    this.#nextHi = -1;
  }

  /** False when the list is full, or the range leaves the 64-bit address space. */
  add(hi: number, lo: number, length: number): boolean {
    const end = lo + length;
    const isAtEnd = hi === 0xffff_ffff && end > 0xffff_ffff;
    if (isAtEnd && end !== 2 ** 32) return false;
    if (this.count > 0 && hi === this.#nextHi && lo === this.#nextLo) this.lengths[this.count - 1]! += length;
    else if (this.count === maxPieces) return false;
    else {
      this.hi[this.count] = hi;
      this.lo[this.count] = lo;
      this.lengths[this.count++] = length;
    }
    this.#nextLo = end >>> 0;
    this.#nextHi = isAtEnd ? -1 : end > 0xffff_ffff ? hi + 1 : hi;
    this.bytes += length;
    return true;
  }

  /** Drops the next `length` bytes of the data. False when the list is full. */
  skip(length: number): boolean {
    if (this.count === maxPieces) return false;
    this.lengths[this.count++] = -length;
    this.#nextHi = -1;
    this.bytes += length;
    return true;
  }
}

/** Longest structure that is copied byte by byte. */
const smallCopyBytes = 128;
/** Views of memory that are kept because commands use the same buffers again and again. */
const keptViews = 8192;

/** The controller's DMA: small structures by value, data straight between the backend and the segments of host memory. */
export class Dma {
  readonly #port: DmaPort;
  /** Segments of host memory of the command at hand. */
  readonly #offsets: number[] = [];
  readonly #lengths: number[] = [];
  #segments = 0;
  #hasBuckets = false;
  #memory: Uint8Array;
  #view: DataView;
  /** By page: the last view that was made of one that begins in it. */
  readonly #views: (Uint8Array | undefined)[] = Array.from({ length: keptViews }, () => undefined);
  readonly #viewAt = new Float64Array(keptViews);
  readonly #parts: Uint8Array[] = [];

  constructor(port: DmaPort) {
    this.#port = port;
    this.#memory = port.memory;
    this.#view = new DataView(this.#memory.buffer, this.#memory.byteOffset, this.#memory.byteLength);
  }

  /** `memory.subarray`, which is slow to make and slow to be collected. */
  #part(memory: Uint8Array, at: number, length: number): Uint8Array {
    const slot = (at >>> 12) & (keptViews - 1);
    const kept = this.#views[slot];
    if (kept !== undefined && this.#viewAt[slot] === at && kept.length === length) return kept;
    this.#viewAt[slot] = at;
    return (this.#views[slot] = memory.subarray(at, at + length));
  }

  /** The port's memory as it is now; what was made of another is forgotten. */
  #memoryNow(): Uint8Array {
    const { memory } = this.#port;
    if (memory !== this.#memory) {
      this.#memory = memory;
      this.#view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
      this.#views.fill(undefined);
    }
    return memory;
  }

  /** PASID Enable: without it a request with a PASID must not leave the function. */
  isPasidEnabled = false;

  #read(hi: number, lo: number, length: number, pasid: number): DmaResult | undefined {
    if (pasid !== noPasid && !this.isPasidEnabled) return undefined;
    const result = this.#port.read(hi, lo, length, pasid);
    return result.faults.length > 0 ? undefined : result;
  }
  #write(hi: number, lo: number, length: number, pasid: number): DmaResult | undefined {
    if (pasid !== noPasid && !this.isPasidEnabled) return undefined;
    const result = this.#port.write(hi, lo, length, pasid);
    return result.faults.length > 0 ? undefined : result;
  }

  /** Copies `length` bytes of memory to the start of `target`; false when the read faulted. */
  load(hi: number, lo: number, target: Uint8Array, length: number, pasid: number): boolean {
    const result = this.#read(hi, lo, length, pasid);
    if (!result) return false;
    this.#gather(result, target, 0);
    return true;
  }

  #gather(result: DmaResult, target: Uint8Array, at: number): void {
    const memory = this.#port.memory;
    if (result.count === 1 && result.lengths[0]! <= smallCopyBytes) {
      // Cheaper than a view that is made for it.
      const from = result.offsets[0]!;
      const length = result.lengths[0]!;
      for (let i = 0; i < length; i++) target[at + i] = memory[from + i]!;
      return;
    }
    for (let i = 0; i < result.count; i++) {
      const from = result.offsets[i]!;
      const length = result.lengths[i]!;
      target.set(memory.subarray(from, from + length), at);
      at += length;
    }
  }

  /** Stores a completion entry of four dwords; false when the write faulted. */
  storeEntry(hi: number, lo: number, dw0: number, dw2: number, dw3: number, pasid: number): boolean {
    const result = this.#write(hi, lo, 16, pasid);
    if (!result || result.lengths[0] !== 16) return false;
    this.#memoryNow();
    const view = this.#view;
    const at = result.offsets[0]!;
    view.setInt32(at, dw0, true);
    view.setInt32(at + 4, 0, true);
    view.setInt32(at + 8, dw2, true);
    view.setInt32(at + 12, dw3, true);
    return true;
  }

  /** Copies `source` to the list's ranges. The list is at least as long. */
  scatter(list: ScatterList, source: Uint8Array): number {
    let at = 0;
    for (let piece = 0; piece < list.count && at < source.length; piece++) {
      const length = Math.min(list.lengths[piece]!, source.length - at);
      const result = this.#write(list.hi[piece]!, list.lo[piece]!, length, list.pasid);
      if (!result) return status.DATA_TRANSFER_ERROR;
      const memory = this.#port.memory;
      for (let i = 0; i < result.count; i++) {
        memory.set(source.subarray(at, at + result.lengths[i]!), result.offsets[i]!);
        at += result.lengths[i]!;
      }
    }
    return status.SUCCESS;
  }

  /** Copies the list's ranges to `target`, which has room for them all. */
  gather(list: ScatterList, target: Uint8Array): number {
    let at = 0;
    for (let piece = 0; piece < list.count; piece++) {
      const result = this.#read(list.hi[piece]!, list.lo[piece]!, list.lengths[piece]!, list.pasid);
      if (!result) return status.DATA_TRANSFER_ERROR;
      this.#gather(result, target, at);
      at += list.lengths[piece]!;
    }
    return status.SUCCESS;
  }

  /**
   * Translates the whole list before any data moves, so that a fault leaves memory and disk as they were.
   * A status field; the segments are in `#offsets` and `#lengths` from `first` on, a bit bucket at offset -1, neighbours
   * merged.
   */
  #translate(list: ScatterList, isToMemory: boolean, first = 0): number {
    const offsets = this.#offsets;
    const lengths = this.#lengths;
    let count = first;
    if (first === 0) this.#hasBuckets = false;
    for (let piece = 0; piece < list.count; piece++) {
      const bytes = list.lengths[piece]!;
      if (bytes < 0) {
        this.#hasBuckets = true;
        offsets[count] = -1;
        lengths[count++] = -bytes;
        continue;
      }
      const hi = list.hi[piece]!;
      const lo = list.lo[piece]!;
      const result = isToMemory ? this.#write(hi, lo, bytes, list.pasid) : this.#read(hi, lo, bytes, list.pasid);
      if (!result) return status.DATA_TRANSFER_ERROR;
      for (let i = 0; i < result.count; i++) {
        const at = result.offsets[i]!;
        const length = result.lengths[i]!;
        const isNext = count > first && offsets[count - 1]! >= 0 && at === offsets[count - 1]! + lengths[count - 1]!;
        if (isNext) lengths[count - 1]! += length;
        else {
          offsets[count] = at;
          lengths[count++] = length;
        }
      }
    }
    this.#segments = count;
    return status.SUCCESS;
  }

  #vector(): Uint8Array[] {
    const memory = this.#memoryNow();
    const parts = this.#parts;
    parts.length = this.#segments;
    for (let i = 0; i < this.#segments; i++) parts[i] = this.#part(memory, this.#offsets[i]!, this.#lengths[i]!);
    return parts;
  }

  /** Where the data of a read goes, of the first or of one that follows it on the disk. A status field. */
  collect(list: ScatterList, isFirst: boolean): number {
    return this.#translate(list, true, isFirst ? 0 : this.#segments);
  }

  /** Segments collected: a backend takes so many at once. */
  get collected(): number {
    return this.#segments;
  }

  /** Backend → everything collected. Throws StorageError. */
  fill(backend: StorageBackend, offset: number): void {
    if (backend.readVector && this.#segments > 1 && !this.#hasBuckets) backend.readVector(offset, this.#vector());
    else {
      const memory = this.#memoryNow();
      for (let i = 0; i < this.#segments; i++) {
        const at = this.#offsets[i]!;
        const length = this.#lengths[i]!;
        if (at >= 0) backend.read(offset, this.#part(memory, at, length));
        offset += length;
      }
    }
  }

  /** Memory → backend. Throws StorageError. */
  drain(list: ScatterList, backend: StorageBackend, offset: number): number {
    const translated = this.#translate(list, false);
    if (translated !== status.SUCCESS) return translated;
    if (backend.writeVector && this.#segments > 1) backend.writeVector(offset, this.#vector());
    else {
      const memory = this.#memoryNow();
      for (let i = 0; i < this.#segments; i++) {
        const at = this.#offsets[i]!;
        const length = this.#lengths[i]!;
        backend.write(offset, this.#part(memory, at, length));
        offset += length;
      }
    }
    return status.SUCCESS;
  }
}
