/** Walks over whole device and process directories (RISC-V IOMMU chapter 2), for people; bounded, whatever they hold. */
import type { MemoryPort } from '#iommufd/arch/riscv/ports';
import { access } from '#iommufd/arch/riscv/ports';
import { ddtp, ddtpMode } from '#iommufd/arch/riscv/registers';
import { dcTc, ddiBits, deviceContextBytes, directoryEntry, fsc, pcTa, pdtpMode, processContextBytes } from '#iommufd/arch/riscv/tables'; // prettier-ignore
import type { FrontEnd } from '#iommufd/arch/riscv/front-end';
import { HostMemoryPort } from '#iommufd/host/memory-port';
import type { Machine } from '#vmm/machine/machine';
import { frontEnds } from './registers.ts';

/** A directory whose entries all lead back to itself has this many tables at the most. */
const mostTables = 4096;
const mostContexts = 4096;
const pageBytes = 4096;

export interface FoundContext {
  readonly deviceId: number;
  readonly words: readonly bigint[];
}
export interface FoundProcess {
  readonly processId: number;
  /** ta and fsc. */
  readonly words: readonly [bigint, bigint];
}

const pageAt = (memory: MemoryPort, address: bigint): BigUint64Array | undefined => {
  const bytes = new Uint8Array(pageBytes);
  return memory.load(address, bytes) === access.ok ? new BigUint64Array(bytes.buffer) : undefined;
};

/** Leaves of a directory: `leafWords` doublewords each, `bits` index bits at each level from the leaf up. */
function leaves(
  memory: MemoryPort,
  root: bigint,
  bits: readonly number[],
  leafWords: number,
  isValid: (first: bigint) => boolean,
): { readonly id: number; readonly words: readonly bigint[] }[] {
  const found: { id: number; words: readonly bigint[] }[] = [];
  let tables = 0;
  const visit = (address: bigint, level: number, prefix: number): void => {
    if (++tables > mostTables) return;
    const page = pageAt(memory, address);
    if (!page) return;
    const stride = level === 0 ? leafWords : 1;
    for (let index = 0; index < 2 ** bits[level]! && found.length < mostContexts; index++) {
      const id = prefix * 2 ** bits[level]! + index;
      const first = page[index * stride]!;
      if (level > 0) {
        if (directoryEntry.get(first, 'V')) visit(directoryEntry.get(first, 'PPN') << 12n, level - 1, id);
      } else if (isValid(first)) found.push({ id, words: [...page.subarray(index * stride, (index + 1) * stride)] });
    }
  };
  visit(root, bits.length - 1, 0);
  return found;
}

/** Every valid device context that ddtp leads to. */
export const deviceContexts = (frontEnd: FrontEnd, memory: MemoryPort): readonly FoundContext[] => {
  const levels = frontEnd.mode - ddtpMode.Bare;
  if (levels < 1 || levels > 3) return [];
  const isExtended = frontEnd.features.MSI_FLAT === 1;
  const bits = ddiBits(isExtended).slice(0, levels);
  const isValid = (tc: bigint): boolean => dcTc.get(tc, 'V') === 1n;
  const root = ddtp.get(frontEnd.ddtp, 'PPN') << 12n;
  return leaves(memory, root, bits, deviceContextBytes(isExtended) / 8, isValid).map(({ id, words }) => ({
    deviceId: id,
    words,
  }));
};

/** Widths of PDI[0..2] (§2.3.2). */
const pdiBits = [8, 9, 3] as const;

/** Every valid process context of a device context; none where it has no process directory. */
export const processContexts = (words: readonly bigint[], memory: MemoryPort): readonly FoundProcess[] => {
  const { MODE, PPN } = fsc.decode(words[3]!);
  if (dcTc.get(words[0]!, 'PDTV') === 0n || MODE === BigInt(pdtpMode.Bare) || MODE > 3n) return [];
  const isValid = (ta: bigint): boolean => pcTa.get(ta, 'V') === 1n;
  const bits = pdiBits.slice(0, Number(MODE));
  return leaves(memory, PPN << 12n, bits, processContextBytes / 8, isValid).map(({ id, words: [ta, root] }) => ({
    processId: id,
    words: [ta!, root!],
  }));
};

/** A front end of a machine with the memory that its tables lie in. */
export interface TableOwner {
  readonly unit: string;
  readonly frontEnd: FrontEnd;
  readonly memory: MemoryPort;
}

export const tableOwners = (machine: Machine): readonly TableOwner[] =>
  frontEnds(machine).map(([unit, frontEnd]) => ({
    unit,
    frontEnd,
    memory: unit === 'viommu' ? machine.guestMemory : new HostMemoryPort(machine.memory),
  }));

/** The name of the device that a guest's or the host's requester id stands for. */
export const deviceName = (machine: Machine, id: number): string =>
  machine.host.devices.find(({ guestRid, hostRid }) => hostRid === id || guestRid === id)?.placed.id ?? '';
