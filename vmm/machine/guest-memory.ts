import type { HostMemory } from '#vmm/base/memory';
import { access, type AccessResult, type MemoryPort } from '#iommufd/arch/riscv/ports';
import type { Bus } from '../bus/bus.ts';
import { layout } from './layout.ts';

/** Bytes that are copied one by one faster than through a view. */
const few = 64;

/** Guest RAM by guest-physical address: what the VMM's own models (the vIOMMU's queues, the loader) see of it. */
export class GuestMemory implements MemoryPort {
  readonly #memory: HostMemory;
  readonly #bus: Bus;
  readonly #first = layout.ram.base;
  readonly #end: number;

  constructor(memory: HostMemory, bus: Bus) {
    this.#memory = memory;
    this.#bus = bus;
    this.#end = this.#first + memory.guestBytes;
  }

  /** Offset in host memory of `length` bytes of RAM at this address, or -1. */
  #offset(address: bigint, length: number): number {
    // Exact wherever there is RAM.
    const at = Number(address);
    if (at < this.#first || at + length > this.#end) return -1;
    return this.#memory.guestBase + at - this.#first;
  }

  /** The bytes themselves; undefined where not all of them are RAM. */
  bytes(address: number, length: number): Uint8Array | undefined {
    if (!Number.isSafeInteger(address) || address < 0 || length < 0) return undefined;
    const at = this.#offset(BigInt(address), length);
    return at < 0 ? undefined : this.#memory.bytes.subarray(at, at + length);
  }

  load(address: bigint, into: Uint8Array): AccessResult {
    const at = this.#offset(address, into.length);
    if (at < 0) return access.fault;
    const { bytes } = this.#memory;
    if (into.length > few) into.set(bytes.subarray(at, at + into.length));
    else for (let i = 0; i < into.length; i++) into[i] = bytes[at + i]!;
    return access.ok;
  }

  store(address: bigint, from: Uint8Array): AccessResult {
    const at = this.#offset(address, from.length);
    if (at >= 0) {
      const { bytes } = this.#memory;
      if (from.length > few) bytes.set(from, at);
      else for (let i = 0; i < from.length; i++) bytes[at + i] = from[i]!;
      return access.ok;
    }
    if (from.length !== 4 || address >= this.#first) return access.fault;
    const value = new DataView(from.buffer, from.byteOffset, 4).getUint32(0, true);
    return this.#bus.write(Number(address), 4, value) ? access.ok : access.fault;
  }
}
