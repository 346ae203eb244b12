import { hpa } from '#vmm/base/address';
import type { HostMemory } from '#vmm/base/memory';
import { access, type AccessResult, type MemoryPort } from '#iommufd/arch/riscv/ports';

/** Host memory as an IOMMU reaches it: RAM, and 4-byte stores to devices' pages (interrupt files). */
export class HostMemoryPort implements MemoryPort {
  readonly host: HostMemory;

  constructor(host: HostMemory) {
    this.host = host;
  }

  load(address: bigint, into: Uint8Array): AccessResult {
    const at = Number(address);
    if (!this.host.isRam(at, into.length)) return access.fault;
    const { bytes } = this.host;
    // A few bytes, for which a view and `set` cost more.
    for (let i = 0; i < into.length; i++) into[i] = bytes[at + i]!;
    return access.ok;
  }

  store(address: bigint, from: Uint8Array): AccessResult {
    const at = Number(address);
    if (this.host.isRam(at, from.length)) {
      const { bytes } = this.host;
      for (let i = 0; i < from.length; i++) bytes[at + i] = from[i]!;
      return access.ok;
    }
    if (from.length !== 4 || !this.host.isMmio(at)) return access.fault;
    const value = (from[0]! | (from[1]! << 8) | (from[2]! << 16) | (from[3]! << 24)) >>> 0;
    return this.host.store(hpa(at), 4, value) ? access.ok : access.fault;
  }
}
