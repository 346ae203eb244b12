import { pageBytes } from '#vmm/base/address';
import { errno } from '#vmm/base/errno';
import type { Errno, PagingDomain } from '#iommufd/kernel/iommu-ops';
import { addressBits, pageSizes } from '#iommufd/pagetable/format';
import { sv39x4 } from '#iommufd/pagetable/formats/riscv';
import { PageTable } from '#iommufd/pagetable/map';
import { iohgatpMode } from '#iommufd/arch/riscv/tables';
import type { RiscvIommuDriver } from './driver.ts';

/**
 * Every paging domain is a second stage in Sv39x4: 41 bits of address are beyond any machine we build, and three
 * levels keep nested walks short.
 */
const format = sv39x4();
/** Beyond this many pages one command for the whole GSCID costs less than one a page. */
const mostPageInvalidations = 64;

/** Page number of an IOVA: exact, since 2^52 fits a double. */
const pageOf = (hi: number, lo: number): number => (hi >>> 0) * 2 ** 20 + (lo >>> 12);

/** A second-stage page table that iommufd fills, with the GSCID its translations are cached under. */
export class RiscvPaging implements PagingDomain {
  readonly kind = 'paging';
  readonly driver: RiscvIommuDriver;
  readonly gscid: number;
  readonly isNestParent: boolean;
  readonly pgsizeBitmap = pageSizes(format);
  readonly aperture = { first: 0n, last: (1n << BigInt(addressBits(format))) - 1n };
  readonly dirtyTracking = false;
  faultCapable = false;
  readonly #table: PageTable;

  /** Undefined when there is no memory for the root. */
  static create(driver: RiscvIommuDriver, gscid: number, isNestParent: boolean): RiscvPaging | undefined {
    const table = PageTable.create({ format, allocator: driver.memory, words: driver.memory.i32 });
    return table && new RiscvPaging(driver, gscid, isNestParent, table);
  }

  private constructor(driver: RiscvIommuDriver, gscid: number, isNestParent: boolean, table: PageTable) {
    this.driver = driver;
    this.gscid = gscid;
    this.isNestParent = isNestParent;
    this.#table = table;
  }

  /** What device contexts hold to translate through it. */
  get iohgatp(): { readonly MODE: bigint; readonly GSCID: bigint; readonly PPN: bigint } {
    return { MODE: BigInt(iohgatpMode.Sv39x4), GSCID: BigInt(this.gscid), PPN: BigInt(this.#table.root / pageBytes) };
  }

  map(iovaHi: number, iovaLo: number, hpa: number, bytes: number, permissions: number): Errno {
    const first = pageOf(iovaHi, iovaLo);
    if (first + bytes / pageBytes > this.#table.endPfn) return errno.ERANGE;
    // An invalid entry is never cached (§2.8): mapping needs no invalidation.
    return this.#table.map(first, hpa, bytes / pageBytes, permissions) ? 0 : errno.ENOMEM;
  }

  unmap(iovaHi: number, iovaLo: number, bytes: number): number {
    return this.#table.unmap(pageOf(iovaHi, iovaLo), bytes / pageBytes) * pageBytes;
  }

  sync(iovaHi: number, iovaLo: number, bytes: number): void {
    const { hardware } = this.driver;
    const first = pageOf(iovaHi, iovaLo);
    const pages = bytes / pageBytes;
    const group = { GV: 1n, GSCID: BigInt(this.gscid) };
    if (pages > mostPageInvalidations) hardware.command('IOTINVAL.GVMA', group);
    else
      for (let page = 0; page < pages; page++)
        hardware.command('IOTINVAL.GVMA', { ...group, AV: 1n, ADDR: BigInt(first + page) });
    // §6.3: translations of the first stage were made through the second.
    hardware.command('IOTINVAL.VMA', group);
    hardware.fence();
    // §6.3: devices may hold translations that were made through it.
    this.driver.invalidateDevices(this);
    this.#table.reclaim();
  }

  iovaToPhys(iovaHi: number, iovaLo: number): number {
    const at = this.#table.lookup(pageOf(iovaHi, iovaLo));
    return at < 0 ? -1 : at + (iovaLo & (pageBytes - 1));
  }

  free(): void {
    const { hardware } = this.driver;
    const group = { GV: 1n, GSCID: BigInt(this.gscid) };
    hardware.command('IOTINVAL.VMA', group);
    hardware.command('IOTINVAL.GVMA', group);
    hardware.fence();
    this.#table.destroy();
    this.driver.releaseGroup(this.gscid);
  }
}
