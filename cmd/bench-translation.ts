/** What one translation costs in the host IOMMU: found in the IOTLB, or walked, against the number of pages in use. */
import { encodeCapabilities } from '#iommufd/arch/riscv/front-end';
import { ddtpMode, offsets } from '#iommufd/arch/riscv/registers';
import {
  encodeDeviceContext,
  encodeDirectoryEntry,
  encodeProcessContext,
  iohgatpMode,
  iosatpMode,
  pdtpMode,
} from '#iommufd/arch/riscv/tables';
import { Iotlb, processTag, spaceTag } from '#iommufd/host/iotlb';
import { RiscvIommu } from '#iommufd/host/riscv/iommu';
import { levelsOf, rootsOf } from '#iommufd/host/riscv/port';
import { needOf } from '#iommufd/host/riscv/translation';
import type { AddressSpace } from '#iommufd/host/riscv/translator';
import { sv39, sv39x4 } from '#iommufd/pagetable/formats/riscv';
import { PageTable } from '#iommufd/pagetable/map';
import { median } from './median.ts';
import { pageBytes } from '#vmm/base/address';
import { invariant } from '#vmm/base/invariant';
import { HostMemory } from '#vmm/base/memory';
import type { DmaPort, DmaResult } from '#vmm/base/ports';

const capabilities = encodeCapabilities({ version: 0x10, Sv39: 1, Sv39x4: 1, PAS: 46, PD17: 1 });
const deviceId = 8;
const rights = 3;
/** The pages that translations lead to; many IOVAs share one. */
const targetPages = 4096;

interface Stages {
  readonly first: boolean;
  readonly second: boolean;
  /** Processes, 0 to 65 535 in number, that all have the first stage; without, requests have no PASID. */
  readonly pasids?: number;
}

/** A process directory of two levels with `count` processes that share a first stage; its root. */
function fillProcesses(memory: HostMemory, count: number, first: PageTable): number {
  const root = memory.allocatePages();
  invariant(root !== undefined, 'no page for the process directory');
  let leaf = 0;
  for (let pasid = 0; pasid < count; pasid++) {
    if (pasid % 256 === 0) {
      leaf = memory.allocatePages() ?? 0;
      memory.view.setBigUint64(root + (pasid / 256) * 8, encodeDirectoryEntry(BigInt(leaf / pageBytes)), true);
    }
    encodeProcessContext({
      ta: { V: 1n, PSCID: BigInt(pasid) },
      fsc: { MODE: BigInt(iosatpMode.Sv39), PPN: BigInt(first.root / pageBytes) },
    }).forEach((word, i) => memory.view.setBigUint64(leaf + (pasid % 256) * 16 + i * 8, word, true));
  }
  return root;
}

/** A device behind one or two stages that map `pages` pages at IOVA 0, 4 KiB each. */
const openPort = (pages: number, stages: Stages): DmaPort => openDevice(pages, stages).iommu.port(deviceId);

function openDevice(
  pages: number,
  stages: Stages,
): { readonly iommu: RiscvIommu; readonly space: AddressSpace | undefined } {
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
  const processes = stages.pasids && first ? fillProcesses(memory, stages.pasids, first) : undefined;
  const directory = memory.allocatePages();
  invariant(directory !== undefined, 'no page for the device directory');
  encodeDeviceContext(
    {
      tc: { V: 1n, PDTV: processes === undefined ? 0n : 1n },
      iohgatp: second
        ? { MODE: BigInt(iohgatpMode.Sv39x4), GSCID: 1n, PPN: BigInt(second.root / pageBytes) }
        : { MODE: BigInt(iohgatpMode.Bare), GSCID: 0n, PPN: 0n },
      ta: { PSCID: 1n },
      fsc: processes
        ? { MODE: BigInt(pdtpMode.PD17), PPN: BigInt(processes / pageBytes) }
        : first
          ? { MODE: BigInt(iosatpMode.Sv39), PPN: BigInt(first.root / pageBytes) }
          : { MODE: BigInt(iosatpMode.Bare), PPN: 0n },
    },
    false,
  ).forEach((word, i) => memory.view.setBigUint64(directory + deviceId * 32 + i * 8, word, true));
  iommu.registers.write(offsets.ddtp, 8, (BigInt(directory / pageBytes) << 10n) | BigInt(ddtpMode['1LVL']));
  const request = { deviceId, processIdValid: false, processId: 0, supervisor: false, execute: false, write: false, type: 'untranslated', noWrite: false, iova: 0n } as const; // prettier-ignore
  const space = stages.pasids ? undefined : iommu.translator.enter(request, needOf(request));
  return { iommu, space: space && !('ok' in space) ? space : undefined };
}

/** A message with a number in it would be made each time, and cost as much as the look-up. */
const reached = ({ count, faults }: DmaResult): void =>
  invariant(count === 1 && faults.length === 0, 'an access of the bench reaches nothing');

const rounds = 9;

/**
 * Accesses a second of CPU time: the median of several rounds of `count` each, behind one to warm up. They make no
 * thread of their own work and do not allocate, so on an idle machine that is wall time, and on a busy one still true.
 * `run` makes a whole round: what it counts is in variables of its own.
 */
function rate(count: number, run: () => void): number {
  const seconds: number[] = [];
  for (let round = 0; round <= rounds; round++) seconds.push(cpuSeconds(run) / count);
  return 1 / median(seconds.slice(1));
}

const cpuSeconds = (run: () => void): number => {
  const start = process.cpuUsage();
  run();
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1e6;
};

/** Translations a second of single-page reads that go round `pages` pages. */
export function translationRate(pages: number, stages: Stages): number {
  const port = openPort(pages, stages);
  const count = Math.max(pages, 200_000);
  return rate(count, () => {
    for (let i = 0, page = 0; i < count; i++) {
      reached(port.read(0, page * pageBytes, 64));
      if (++page === pages) page = 0;
    }
  });
}

/** PASIDs that take turns while the others are live. */
const busyPasids = 256;

/** Reads of one page by each of `count` processes, 0 first, round and round. */
function readInTurn(port: DmaPort, processes: number, count: number): void {
  for (let i = 0, pasid = 0; i < count; i++) {
    reached(port.read(0, (pasid % 16) * pageBytes, 64, pasid));
    if (++pasid === processes) pasid = 0;
  }
}

/**
 * Hits a second of `busyPasids` processes with a page each, alone and while `live` processes have been at work and stay
 * bound: medians, and the median of what each pair of rounds says the others cost, in percent.
 */
export function pasidRates(live: number): { readonly alone: number; readonly among: number; readonly cost: number } {
  const count = 500_000;
  const open = (processes: number): (() => number) => {
    const port = openPort(16, { first: true, second: true, pasids: processes });
    readInTurn(port, processes, processes);
    readInTurn(port, busyPasids, count);
    return () => cpuSeconds(() => readInTurn(port, busyPasids, count)) / count;
  };
  const [alone, among] = [open(busyPasids), open(live)];
  const pairs = Array.from({ length: rounds }, () => [alone(), among()] as const);
  return {
    alone: 1 / median(pairs.map(([first]) => first)),
    among: 1 / median(pairs.map(([, second]) => second)),
    cost: median(pairs.map(([first, second]) => (second / first - 1) * 100)),
  };
}

/** Look-ups a second in the IOTLB itself: 1000 pages of one process, address included. */
export function lookupRate(): number {
  const iotlb = new Iotlb();
  const [space, process] = [spaceTag(1, false, false), processTag(5)];
  for (let page = 0; page < 1000; page++)
    iotlb.insert(space, process, 0, page * pageBytes, 12, page, page, rights, false);
  const count = 1_000_000;
  return rate(count, () => {
    let found = 0;
    for (let i = 0, page = 0; i < count; i++) {
      if (iotlb.hit(space, process, 0, page * pageBytes, 1, 64) >= 0) found++;
      if (++page === 1000) page = 0;
    }
    invariant(found === count, 'a page was not found');
  });
}

/** Two-stage walks a second, without what is around them. */
export function walkRate(pages: number): number {
  const { iommu, space } = openDevice(pages, { first: true, second: true });
  const roots = space && rootsOf(space.dc);
  invariant(space && roots, 'the device has no two stages');
  const [levels, root] = [levelsOf(space.mode), Number(space.ppn)];
  const fast = iommu.fast!;
  const count = 400_000;
  return rate(count, () => {
    for (let i = 0, page = 0; i < count; i++) {
      invariant(fast.walk(roots, levels, root, 0, page * pageBytes, false), 'the walk is no common case');
      if (++page === pages) page = 0;
    }
  });
}
