/** The adapter's transactions: copies between host memory and the adapter's buffers, with faults counted and traced. */
import { type DmaPort, type DmaResult, noPasid } from '#vmm/base/ports';
import type { Trace } from '#vmm/base/events';
import { field, parts } from '#vmm/base/saved';
import { wide } from '#vmm/base/address';
import { CTRL, QUEUE_PASID, at } from './registers.ts';

export class Dma {
  port: DmaPort | undefined;
  /** Bus Master Enable of the function; off at power-on. */
  busMaster = false;
  /** The guest enabled the function's PASID capability. */
  pasidEnabled = false;
  faults = 0;
  #pasid = noPasid;
  readonly saved = parts({
    busMaster: field(
      () => this.busMaster,
      (value) => (this.busMaster = value),
    ),
    pasidEnabled: field(
      () => this.pasidEnabled,
      (value) => (this.pasidEnabled = value),
    ),
    faults: field(
      () => this.faults,
      (value) => (this.faults = value),
    ),
    pasid: field(
      () => this.#pasid,
      (value) => (this.#pasid = value),
    ),
  });
  readonly #words: Uint32Array;
  readonly #device: string;
  readonly #trace: Trace;

  constructor(device: string, words: Uint32Array, trace: Trace) {
    this.#device = device;
    this.#words = words;
    this.#trace = trace;
  }

  /** False while software forbids transactions: no bus mastering, or CTRL.GIO_MASTER_DISABLE (§5.2.3.3). */
  get enabled(): boolean {
    return this.port !== undefined && this.busMaster && (this.#words[at.CTRL]! & CTRL.GIO_MASTER_DISABLE) === 0;
  }

  /** What follows is for the ring with this RXPASID or TXPASID; false when it must not be served. */
  select(setting: number): boolean {
    if ((setting & QUEUE_PASID.EN) === 0) this.#pasid = noPasid;
    else if (!this.pasidEnabled) return false;
    else this.#pasid = setting & QUEUE_PASID.PASID;
    return true;
  }

  /** The device reads `length` bytes at hi:lo + offset; undefined when any part faulted. */
  read(hi: number, lo: number, offset: number, length: number, what: string): DmaResult | undefined {
    const sum = lo + offset;
    const carry = sum > 0xffff_ffff;
    const result = this.port!.read(carry ? (hi + 1) >>> 0 : hi, sum >>> 0, length, this.#pasid);
    return result.faults.length === 0 ? result : this.#fault(hi, lo, offset, length, what, result);
  }

  /** The device will write `length` bytes at hi:lo + offset; undefined when any part faulted. */
  write(hi: number, lo: number, offset: number, length: number, what: string): DmaResult | undefined {
    const sum = lo + offset;
    const carry = sum > 0xffff_ffff;
    const result = this.port!.write(carry ? (hi + 1) >>> 0 : hi, sum >>> 0, length, this.#pasid);
    return result.faults.length === 0 ? result : this.#fault(hi, lo, offset, length, what, result);
  }

  /** Copies from memory into `target` at `to`. */
  fetch(hi: number, lo: number, offset: number, length: number, target: Uint8Array, to: number, what: string): boolean {
    const result = this.read(hi, lo, offset, length, what);
    if (!result) return false;
    const memory = this.port!.memory;
    for (let i = 0; i < result.count; i++) {
      const start = result.offsets[i]!;
      target.set(memory.subarray(start, start + result.lengths[i]!), to);
      to += result.lengths[i]!;
    }
    return true;
  }

  /** Copies `length` bytes of `source` at `from` into memory. */
  store(
    hi: number,
    lo: number,
    offset: number,
    source: Uint8Array,
    from: number,
    length: number,
    what: string,
  ): boolean {
    const result = this.write(hi, lo, offset, length, what);
    if (!result) return false;
    const memory = this.port!.memory;
    if (result.count === 1 && from === 0 && length === source.length) {
      memory.set(source, result.offsets[0]!);
      return true;
    }
    for (let i = 0; i < result.count; i++) {
      const bytes = result.lengths[i]!;
      if (bytes <= 64) {
        const start = result.offsets[i]!;
        for (let k = 0; k < bytes; k++) memory[start + k] = source[from + k]!;
      } else memory.set(source.subarray(from, from + bytes), result.offsets[i]!);
      from += bytes;
    }
    return true;
  }

  #fault(hi: number, lo: number, offset: number, length: number, what: string, result: DmaResult): undefined {
    this.faults++;
    if (this.#trace.on)
      this.#trace.emit('nic.dma-fault', {
        device: this.#device,
        what,
        address: BigInt.asUintN(64, wide(hi, lo) + BigInt(offset)),
        bytes: length,
        status: result.faults[0]!.status,
      });
    return undefined;
  }
}

/** Index in the port's memory of byte `offset` of a request. */
export const locate = (result: DmaResult, offset: number): number => {
  for (let i = 0; i < result.count; i++) {
    if (offset < result.lengths[i]!) return result.offsets[i]! + offset;
    offset -= result.lengths[i]!;
  }
  return -1;
};
