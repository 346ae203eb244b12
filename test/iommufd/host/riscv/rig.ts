import { HostMemory } from '#vmm/base/memory';
import type { Trace } from '#vmm/base/events';
import { encodeCommand, type CommandName, type Operands } from '#iommufd/arch/riscv/commands';
import { encodeCapabilities } from '#iommufd/arch/riscv/front-end';
import { ddtpMode, offsets } from '#iommufd/arch/riscv/registers';
import {
  type DeviceContext,
  encodeDeviceContext,
  encodeDirectoryEntry,
  iohgatpMode,
  iosatpMode,
} from '#iommufd/arch/riscv/tables';
import { RiscvIommu } from '#iommufd/host/riscv/iommu';
import { sv39x4 } from '#iommufd/pagetable/formats/riscv';
import { PageTable } from '#iommufd/pagetable/map';

// prettier-ignore
export const capabilities = encodeCapabilities({
  version: 0x10, Sv39: 1, Sv48: 1, Sv57: 1, Svpbmt: 1, Sv39x4: 1, Sv48x4: 1, Sv57x4: 1, MSI_FLAT: 1, MSI_MRIF: 1,
  AMO_HWAD: 1, ATS: 1, T2GPA: 1, IGS: 2, DBG: 1, HPM: 1, PAS: 56, PD8: 1, PD17: 1, PD20: 1, S: 1, NL: 1,
});
export const guestPages = 4096;
export const guestGpa = 0x8000_0000;

/** A host with an IOMMU that is on (three levels), a second stage that maps guest RAM at `guestGpa`, and one device. */
export class Rig {
  readonly memory = new HostMemory({ engineBytes: 1 << 20, poolBytes: 32 << 20, guestBytes: guestPages * 4096 });
  readonly iommu: RiscvIommu;
  readonly stage2: PageTable;
  readonly rid = 0x18;
  readonly port;
  readonly queue: number;
  readonly faultQueue: number;
  readonly directory: number;
  #tail = 0;

  constructor(options: { trace?: Trace; mapStage2?: boolean } = {}) {
    const { memory } = this;
    this.iommu = new RiscvIommu({ capabilities, host: memory, ...(options.trace ? { trace: options.trace } : {}) });
    this.stage2 = PageTable.create({ format: sv39x4(), allocator: memory, words: memory.i32 })!;
    if (options.mapStage2 !== false) this.stage2.map(guestGpa / 4096, memory.guestBase, guestPages, 3);
    this.queue = memory.allocatePages()!;
    this.faultQueue = memory.allocatePages()!;
    this.directory = memory.allocatePages()!;
    const { registers } = this.iommu;
    registers.write(offsets.cqb, 8, (BigInt(this.queue / 4096) << 10n) | 7n);
    registers.write(offsets.fqb, 8, (BigInt(this.faultQueue / 4096) << 10n) | 6n);
    registers.write(offsets.cqcsr, 4, 1);
    registers.write(offsets.fqcsr, 4, 1);
    registers.write(offsets.ddtp, 8, (BigInt(this.directory / 4096) << 10n) | BigInt(ddtpMode['3LVL']));
    this.port = this.iommu.port(this.rid);
  }

  set64(address: number, value: bigint): void {
    this.memory.view.setBigUint64(address, value, true);
  }

  /** Next table of a directory, made where it is missing. */
  #next(entry: number): number {
    const raw = this.memory.view.getBigUint64(entry, true);
    if (raw & 1n) return Number(raw >> 10n) * 4096;
    const page = this.memory.allocatePages()!;
    this.set64(entry, encodeDirectoryEntry(BigInt(page / 4096)));
    return page;
  }

  setContext(deviceId: number, dc: DeviceContext): void {
    const middle = this.#next(this.directory + (deviceId >>> 15) * 8);
    const leaf = this.#next(middle + ((deviceId >>> 6) & 511) * 8);
    encodeDeviceContext(dc, true).forEach((word, i) => this.set64(leaf + (deviceId & 63) * 64 + 8 * i, word));
  }

  /** Two stages for the device, first-stage root at a guest page. */
  nest(firstRootGpa: number, extra: DeviceContext = {}): void {
    this.setContext(this.rid, {
      tc: { V: 1n, ...extra.tc },
      iohgatp: { MODE: BigInt(iohgatpMode.Sv39x4), GSCID: 1n, PPN: BigInt(this.stage2.root / 4096) },
      ta: { PSCID: 5n },
      fsc: { MODE: BigInt(iosatpMode.Sv39), PPN: BigInt(firstRootGpa / 4096) },
      ...(extra.msiptp ? { msiptp: extra.msiptp } : {}),
      msi_addr_mask: extra.msi_addr_mask ?? 0n,
      msi_addr_pattern: extra.msi_addr_pattern ?? 0n,
    });
  }

  command(name: CommandName, operands: Partial<Operands> = {}): void {
    const [low, high] = encodeCommand(name, operands);
    this.set64(this.queue + this.#tail * 16, low);
    this.set64(this.queue + this.#tail * 16 + 8, high);
    this.#tail = (this.#tail + 1) % 256;
    this.iommu.registers.write(offsets.cqt, 4, this.#tail);
  }

  get faults(): { cause: number; iotval: bigint; iotval2: bigint }[] {
    const count = this.iommu.registers.read(offsets.fqt, 4) as number;
    const word = (i: number, at: number): bigint => this.memory.view.getBigUint64(this.faultQueue + 32 * i + at, true);
    return Array.from({ length: count }, (_, i) => ({
      cause: Number(word(i, 0) & 0xfffn),
      iotval: word(i, 16),
      iotval2: word(i, 24),
    }));
  }
}

/** Guest-physical page allocator inside the rig's guest RAM, for first-stage tables: host addresses of guest pages. */
export class GuestPages {
  readonly #memory: HostMemory;
  #next: number;

  constructor(memory: HostMemory, firstPage = 16) {
    this.#memory = memory;
    this.#next = firstPage;
  }

  take(): number {
    const page = this.#next++;
    this.#memory.bytes.fill(0, this.host(page), this.host(page) + 4096);
    return page;
  }

  host(page: number): number {
    return this.#memory.guestBase + page * 4096;
  }
}

/** Writes a first-stage Sv39 mapping in guest memory. */
export class GuestTable {
  readonly root: number;
  readonly #memory: HostMemory;
  readonly #pages: GuestPages;

  constructor(memory: HostMemory, pages: GuestPages) {
    this.#memory = memory;
    this.#pages = pages;
    this.root = pages.take();
  }

  get rootGpa(): number {
    return guestGpa + this.root * 4096;
  }

  /** Maps one page (or superpage of `level`) at `iova` to guest page number `gpfn` with the low flag bits. */
  map(iova: number, gpfn: number, flags = 0xd7, level = 0): void {
    let table = this.root;
    for (let i = 2; i > level; i--) {
      const at = this.#pages.host(table) + (Math.floor(iova / 2 ** (12 + 9 * i)) & 511) * 8;
      const raw = this.#memory.view.getBigUint64(at, true);
      if (raw & 1n) table = Number(raw >> 10n) - guestGpa / 4096;
      else {
        table = this.#pages.take();
        this.#memory.view.setBigUint64(at, (BigInt(guestGpa / 4096 + table) << 10n) | 1n, true);
      }
    }
    const at = this.#pages.host(table) + (Math.floor(iova / 2 ** (12 + 9 * level)) & 511) * 8;
    this.#memory.view.setBigUint64(at, (BigInt(gpfn) << 10n) | BigInt(flags), true);
  }
}
