/** Devices of a bench behind the host IOMMU, with both stages, and no guest that would cost time of its own. */
import { encodeCapabilities } from '#iommufd/arch/riscv/front-end';
import { ddtpMode, offsets } from '#iommufd/arch/riscv/registers';
import {
  ddi,
  deviceContextBytes,
  encodeDeviceContext,
  encodeDirectoryEntry,
  encodeProcessContext,
  iohgatpMode,
  iosatpMode,
  pdi,
  pdtpMode,
  processContextBytes,
} from '#iommufd/arch/riscv/tables';
import { RiscvIommu } from '#iommufd/host/riscv/iommu';
import { sv39, sv39x4 } from '#iommufd/pagetable/formats/riscv';
import { PageTable } from '#iommufd/pagetable/map';
import { pageBytes } from '#vmm/base/address';
import { invariant } from '#vmm/base/invariant';
import { HostMemory } from '#vmm/base/memory';
import type { DmaPort } from '#vmm/base/ports';

const capabilities = encodeCapabilities({
  version: 0x10,
  Sv39: 1,
  Sv39x4: 1,
  PAS: 46,
  PD8: 1,
  PD17: 1,
  PD20: 1,
});
const rights = 3;
const processRights = 0x13;
const guestPages = 8192;
/** Where the guest's pages lie for devices. */
export const firstIova = 1 << 30;

/** One VM: guest memory, its second stage, and devices whose first stage maps all of it at `firstIova`, shuffled. */
export class Fabric {
  readonly memory = new HostMemory({ engineBytes: 0, poolBytes: 64 << 20, guestBytes: guestPages * pageBytes });
  readonly #iommu = new RiscvIommu({ capabilities, host: this.memory });
  readonly #second: PageTable;
  readonly #root = this.#page();
  readonly #processRoots = new Map<number, number>();
  #processTable: PageTable | undefined;

  constructor() {
    this.#second = this.#table(sv39x4());
    // Guest-physical addresses are the host's own: first-stage tables lie where their pointers say.
    for (let page = 0; page < this.memory.end / pageBytes; page++)
      this.#second.map(page, page * pageBytes, 1, processRights);
    this.#iommu.registers.write(offsets.ddtp, 8, (BigInt(this.#root / pageBytes) << 10n) | BigInt(ddtpMode['3LVL']));
  }

  #page(): number {
    const page = this.memory.allocatePages();
    invariant(page !== undefined, 'the pool of the bench is used up');
    return page;
  }

  #table(format: ReturnType<typeof sv39>): PageTable {
    const made = PageTable.create({ format, allocator: this.memory, words: this.memory.i32 });
    invariant(made, 'no page for a root table');
    return made;
  }

  #load(at: number): bigint {
    return this.memory.view.getBigUint64(at, true);
  }
  #store(at: number, words: readonly bigint[]): void {
    words.forEach((word, i) => this.memory.view.setBigUint64(at + i * 8, word, true));
  }
  /** The page that a directory entry leads to, made where there is none. */
  #child(at: number): number {
    const entry = this.#load(at);
    if (entry !== 0n) return Number(entry >> 10n) * pageBytes;
    const page = this.#page();
    this.#store(at, [encodeDirectoryEntry(BigInt(page / pageBytes))]);
    return page;
  }

  /** Consecutive pages of a device are never neighbours in memory: each is a translation of its own. */
  #mapGuest(into: PageTable, pages: number, permissions: number): void {
    const base = this.memory.guestBase;
    for (let page = 0; page < pages; page++)
      into.map(firstIova / pageBytes + page, base + this.#place(page) * pageBytes, 1, permissions);
  }
  #place(page: number): number {
    return (page * 37) % guestPages;
  }

  /** Byte of `memory` behind an address of a device. */
  at(iova: number): number {
    const offset = iova - firstIova;
    return this.memory.guestBase + this.#place(Math.floor(offset / pageBytes)) * pageBytes + (offset % pageBytes);
  }

  #context(deviceId: number): number {
    const directory = this.#child(this.#root + ddi(deviceId, 2, false) * 8);
    return this.#child(directory + ddi(deviceId, 1, false) * 8) + ddi(deviceId, 0, false) * deviceContextBytes(false);
  }

  #describe(deviceId: number, fsc: { MODE: bigint; PPN: bigint }, hasProcesses: boolean): void {
    this.#store(
      this.#context(deviceId),
      encodeDeviceContext(
        {
          tc: { V: 1n, ...(hasProcesses ? { PDTV: 1n } : {}) },
          iohgatp: { MODE: BigInt(iohgatpMode.Sv39x4), GSCID: 1n, PPN: BigInt(this.#second.root / pageBytes) },
          ta: { PSCID: BigInt(deviceId) },
          fsc,
        },
        false,
      ),
    );
  }

  /** A device with an address space of its own that maps `pages` pages. */
  device(deviceId: number, pages: number): DmaPort {
    const first = this.#table(sv39());
    this.#mapGuest(first, pages, rights);
    this.#describe(deviceId, { MODE: BigInt(iosatpMode.Sv39), PPN: BigInt(first.root / pageBytes) }, false);
    return this.#iommu.port(deviceId);
  }

  /** A device without a first stage of its own whose requests carry PASIDs 1 … `processes`. */
  deviceOfProcesses(deviceId: number, processes: number): DmaPort {
    const root = this.#processRoots.get(deviceId) ?? this.#page();
    this.#processRoots.set(deviceId, root);
    if (!this.#processTable) {
      this.#processTable = this.#table(sv39());
      this.#mapGuest(this.#processTable, 1, processRights);
    }
    const table = BigInt(this.#processTable.root / pageBytes);
    for (let pasid = 1; pasid <= processes; pasid++) {
      const leaf = this.#child(this.#child(root + pdi(pasid, 2) * 8) + pdi(pasid, 1) * 8);
      this.#store(
        leaf + pdi(pasid, 0) * processContextBytes,
        encodeProcessContext({
          ta: { V: 1n, PSCID: BigInt(pasid) },
          fsc: { MODE: BigInt(iosatpMode.Sv39), PPN: table },
        }),
      );
    }
    this.#describe(deviceId, { MODE: BigInt(pdtpMode.PD20), PPN: BigInt(root / pageBytes) }, true);
    return this.#iommu.port(deviceId);
  }
}
