/** What one translation costs in the host IOMMU: found in the IOTLB, or walked, against the number of pages in use. */
import { encodeCapabilities } from '#iommufd/arch/riscv/front-end';
import { ddtpMode, offsets } from '#iommufd/arch/riscv/registers';
import { encodeDeviceContext, iohgatpMode, iosatpMode } from '#iommufd/arch/riscv/tables';
import { RiscvIommu } from '#iommufd/host/riscv/iommu';
import { sv39, sv39x4 } from '#iommufd/pagetable/formats/riscv';
import { PageTable } from '#iommufd/pagetable/map';
import { pageBytes } from '#vmm/base/address';
import { invariant } from '#vmm/base/invariant';
import { HostMemory } from '#vmm/base/memory';
import type { DmaPort } from '#vmm/base/ports';

const capabilities = encodeCapabilities({ version: 0x10, Sv39: 1, Sv39x4: 1, PAS: 46 });
const deviceId = 8;
const rights = 3;
/** The pages that translations lead to; many IOVAs share one. */
const targetPages = 4096;

/** A device behind one or two stages that map `pages` pages at IOVA 0, 4 KiB each. */
function openPort(pages: number, stages: { readonly first: boolean; readonly second: boolean }): DmaPort {
  const memory = new HostMemory({ engineBytes: 0, poolBytes: 64 << 20, guestBytes: targetPages * pageBytes });
  const iommu = new RiscvIommu({ capabilities, host: memory });
  const table = (format: ReturnType<typeof sv39>): PageTable => {
    const made = PageTable.create({ format, allocator: memory, words: memory.i32 });
    invariant(made, 'no page for a root table');
    return made;
  };
  const target = memory.guestBase / pageBytes;
  const mapScattered = (into: PageTable): void => {
    // No two neighbours are neighbours in memory, so that every page is a translation of its own.
    for (let page = 0; page < pages; page++)
      into.map(page, (target + ((page * 7) % targetPages)) * pageBytes, 1, rights);
  };
  const first = stages.first ? table(sv39()) : undefined;
  const second = stages.second ? table(sv39x4()) : undefined;
  if (first) mapScattered(first);
  // With both, guest-physical addresses are the host's own: first-stage tables lie where their pointers say.
  if (second && first)
    for (let page = 0; page < memory.end / pageBytes; page++) second.map(page, page * pageBytes, 1, rights);
  else if (second) mapScattered(second);
  const directory = memory.allocatePages();
  invariant(directory !== undefined, 'no page for the device directory');
  encodeDeviceContext(
    {
      tc: { V: 1n },
      iohgatp: second
        ? { MODE: BigInt(iohgatpMode.Sv39x4), GSCID: 1n, PPN: BigInt(second.root / pageBytes) }
        : { MODE: BigInt(iohgatpMode.Bare), GSCID: 0n, PPN: 0n },
      ta: { PSCID: 1n },
      fsc: first
        ? { MODE: BigInt(iosatpMode.Sv39), PPN: BigInt(first.root / pageBytes) }
        : { MODE: BigInt(iosatpMode.Bare), PPN: 0n },
    },
    false,
  ).forEach((word, i) => memory.view.setBigUint64(directory + deviceId * 32 + i * 8, word, true));
  iommu.registers.write(offsets.ddtp, 8, (BigInt(directory / pageBytes) << 10n) | BigInt(ddtpMode['1LVL']));
  return iommu.port(deviceId);
}

/** Translations a second of single-page reads that go round `pages` pages. */
export function translationRate(pages: number, stages: { readonly first: boolean; readonly second: boolean }): number {
  const port = openPort(pages, stages);
  const round = Math.max(pages, 50_000);
  let best = Infinity;
  for (let attempt = 0; attempt < 5; attempt++) {
    const start = performance.now();
    for (let i = 0, page = 0; i < round; i++) {
      const iova = page * pageBytes;
      const result = port.read(0, iova, 64);
      invariant(result.count === 1 && result.faults.length === 0, `IOVA ${iova} is not mapped`);
      if (++page === pages) page = 0;
    }
    best = Math.min(best, (performance.now() - start) / 1000 / round);
  }
  return 1 / best;
}
