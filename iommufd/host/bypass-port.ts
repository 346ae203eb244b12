import type { HostMemory } from '#vmm/base/memory';
import { hpa } from '#vmm/base/address';
import { type DmaFault, type DmaPort, type DmaResult } from '#vmm/base/ports';

/** The reusable answer of a port: segments are appended, and neighbours merged. */
export class Segments implements DmaResult {
  count = 0;
  offsets = new Float64Array(16);
  lengths = new Int32Array(16);
  faults: readonly DmaFault[] = none;
  /** The same as `faults` where there are any. */
  #list: DmaFault[] = [];

  clear(): void {
    this.count = 0;
    this.faults = none;
  }

  /** One segment, and nothing else. */
  set(offset: number, length: number): void {
    this.count = 1;
    this.offsets[0] = offset;
    this.lengths[0] = length;
    if (this.faults !== none) this.faults = none;
  }

  add(offset: number, length: number): void {
    const last = this.count - 1;
    const end = last < 0 ? -1 : this.offsets[last]! + this.lengths[last]!;
    if (end === offset) {
      this.lengths[last]! += length;
      return;
    }
    if (this.count === this.offsets.length) this.#grow();
    this.offsets[this.count] = offset;
    this.lengths[this.count++] = length;
  }

  #grow(): void {
    const offsets = new Float64Array(2 * this.offsets.length);
    offsets.set(this.offsets);
    const lengths = new Int32Array(2 * this.lengths.length);
    lengths.set(this.lengths);
    this.offsets = offsets;
    this.lengths = lengths;
  }

  /** Adds a faulted sub-range, joining it to one of the same status that ends where it begins. */
  fault(first: number, last: number, status: DmaFault['status']): void {
    if (this.faults.length === 0) this.faults = this.#list = [];
    const previous = this.#list.at(-1);
    if (previous?.status === status && previous.last + 1 === first)
      this.#list[this.#list.length - 1] = { first: previous.first, last, status };
    else this.#list.push({ first, last, status });
  }
}
const none: readonly DmaFault[] = [];

/** A device behind no IOMMU: its addresses are physical. */
export class BypassPort implements DmaPort {
  readonly #memory: HostMemory;
  readonly #result = new Segments();

  constructor(memory: HostMemory) {
    this.#memory = memory;
  }

  get memory(): Uint8Array {
    return this.#memory.bytes;
  }

  #access(hi: number, lo: number, length: number): DmaResult {
    const result = this.#result;
    result.clear();
    const address = (hi >>> 0) * 2 ** 32 + (lo >>> 0);
    if (this.#memory.isRam(address, length)) result.add(address, length);
    else result.fault(0, length - 1, 'unsupported-request');
    return result;
  }

  read(hi: number, lo: number, length: number): DmaResult {
    return this.#access(hi, lo, length);
  }

  write(hi: number, lo: number, length: number): DmaResult {
    return this.#access(hi, lo, length);
  }

  message(hi: number, lo: number, data: number): boolean {
    return this.#memory.store(hpa((hi >>> 0) * 2 ** 32 + (lo >>> 0)), 4, data);
  }
}
