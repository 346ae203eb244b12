/**
 * The guest's IOMMU as a PCI Express function (RISC-V IOMMU 1.0.1, "Integrating an IOMMU as a PCIe device"): registers in
 * BAR 0, whose msi_cfg_tbl is the function's MSI-X table. The numbers are those of QEMU's, which Linux's driver knows.
 */
import type { DmaPort, DmaResult, IrqLine, MmioDevice, PciFunction } from '#vmm/base/ports';
import { parts, properties } from '#vmm/base/saved';
import { access, type MemoryPort } from '#iommufd/arch/riscv/ports';
import { msiConfigOffset, registerPageBytes } from '#iommufd/arch/riscv/registers';

/** icvec names one of 16 vectors. */
const vectors = 16;
/** The pending bits lie in a page of their own behind the registers. */
const pendingOffset = registerPageBytes;

/** The same memory, out of reach while Bus Master Enable is off (PCI Express Base 6.0 §7.5.1.1.3). */
class MasteredMemory implements MemoryPort {
  readonly #memory: MemoryPort;
  isOpen = false;

  constructor(memory: MemoryPort) {
    this.#memory = memory;
  }

  load(address: bigint, into: Uint8Array): ReturnType<MemoryPort['load']> {
    return this.isOpen ? this.#memory.load(address, into) : access.fault;
  }

  store(address: bigint, from: Uint8Array): ReturnType<MemoryPort['store']> {
    return this.isOpen ? this.#memory.store(address, from) : access.fault;
  }
}

/** What the vIOMMU is given for its life on the bus, before there is a function: memory, and where its messages go. */
export interface PciIommu {
  readonly memory: MemoryPort;
  readonly messages: (vector: number) => void;
  /** The function with these registers behind its BAR. */
  function(registers: MmioDevice): PciFunction;
}

export const pciIommu = (guestMemory: MemoryPort): PciIommu => {
  const memory = new MasteredMemory(guestMemory);
  let lines: readonly IrqLine[] = [];
  return {
    memory,
    messages: (vector) => lines[vector]?.raise(),
    function: (registers) => ({
      name: 'iommu',
      vendorId: 0x1b36,
      deviceId: 0x0014,
      // Base system peripheral, IOMMU.
      classCode: 0x08_06_00,
      revision: 1,
      subsystemVendorId: 0x1af4,
      subsystemId: 0x1100,
      bars: [{ index: 0, bytes: 2 * registerPageBytes, kind: 'memory64', device: withinPage(registers) }],
      msix: { vectors, tableBar: 0, tableOffset: msiConfigOffset(0), pbaBar: 0, pbaOffset: pendingOffset },
      flr: false,
      connect: (_port, given) => void (lines = given),
      reset: () => registers.reset(),
      busMaster: (isEnabled) => void (memory.isOpen = isEnabled),
      saved: parts({ memory: properties(() => memory, ['isOpen']) }),
    }),
  };
};

/** Registers end with their page; what beyond them is not pending bits reads 0. */
const withinPage = (registers: MmioDevice): MmioDevice => ({
  read: (offset, bytes) => (offset + bytes <= registerPageBytes ? registers.read(offset, bytes) : bytes === 8 ? 0n : 0),
  write: (offset, bytes, value) => {
    if (offset + bytes <= registerPageBytes) registers.write(offset, bytes, value);
  },
  reset: () => registers.reset(),
});

/**
 * The IOMMU's own way to memory: what it does itself is never translated. It reads and writes through `PciIommu.memory`,
 * so that only messages come here.
 */
export const messagePort = (guestMemory: MemoryPort, memory: Uint8Array): DmaPort => {
  const refused = (length: number): DmaResult => ({
    count: 0,
    offsets: new Float64Array(0),
    lengths: new Int32Array(0),
    faults: [{ first: 0, last: length - 1, status: 'unsupported-request' }],
  });
  return {
    memory,
    read: (_hi, _lo, length) => refused(length),
    write: (_hi, _lo, length) => refused(length),
    message: (hi, lo, data) => {
      const bytes = new Uint8Array(4);
      new DataView(bytes.buffer).setUint32(0, data, true);
      return guestMemory.store((BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0), bytes) === access.ok;
    },
  };
};
