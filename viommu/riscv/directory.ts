import { type Cause, causes } from '#iommufd/arch/riscv/faults';
import { access, type MemoryPort } from '#iommufd/arch/riscv/ports';
import { ddtpMode } from '#iommufd/arch/riscv/registers';
import { dcTc, ddi, deviceContextBytes, deviceIdBits, directoryEntry, fsc, pdi, pdtpMode, processContextBytes } from '#iommufd/arch/riscv/tables'; // prettier-ignore

/** An entry that was read on the way: `level` counts down to 0, the context itself. */
export interface DirectoryRead {
  readonly level: number;
  readonly address: bigint;
  readonly words: readonly bigint[];
}

/** What the guest's ddtp and device directory say about one device. */
export type Lookup =
  | { readonly kind: 'bypass' }
  | { readonly kind: 'context'; readonly words: readonly bigint[] }
  | { readonly kind: 'none'; readonly cause: Cause };

/**
 * Finds a device's context in guest memory (RISC-V IOMMU §2.3 steps 1–8, §2.3.1). Whether the context makes sense is for
 * the host to say when it is asked for a nested domain. `extended`: 64-byte contexts (capabilities.MSI_FLAT). What was
 * read is added to `reads`.
 */
export const lookUpDevice = (
  memory: MemoryPort,
  mode: number,
  rootPpn: bigint,
  deviceId: number,
  extended: boolean,
  reads?: DirectoryRead[],
): Lookup => {
  const none = (cause: Cause): Lookup => ({ kind: 'none', cause });
  if (mode === ddtpMode.Off) return none(causes.allInboundDisallowed);
  if (mode === ddtpMode.Bare) return { kind: 'bypass' };
  const levels = (mode - ddtpMode.Bare) as 1 | 2 | 3;
  if (deviceId >>> deviceIdBits(levels, extended) !== 0) return none(causes.transactionDisallowed);

  const entryBytes = new Uint8Array(8);
  let table = rootPpn << 12n;
  for (let level = levels - 1; level > 0; level--) {
    const slot = table + BigInt(8 * ddi(deviceId, level as 1 | 2, extended));
    const result = memory.load(slot, entryBytes);
    if (result !== access.ok) return none(result === access.fault ? causes.ddtAccessFault : causes.ddtCorruption);
    const entry = new DataView(entryBytes.buffer).getBigUint64(0, true);
    reads?.push({ level, address: slot, words: [entry] });
    if (!directoryEntry.get(entry, 'V')) return none(causes.ddtInvalid);
    if (entry & directoryEntry.reserved) return none(causes.ddtMisconfigured);
    table = directoryEntry.get(entry, 'PPN') << 12n;
  }

  const context = new Uint8Array(deviceContextBytes(extended));
  const slot = table + BigInt(context.length * ddi(deviceId, 0, extended));
  const result = memory.load(slot, context);
  if (result !== access.ok) return none(result === access.fault ? causes.ddtAccessFault : causes.ddtCorruption);
  const view = new DataView(context.buffer);
  const words = Array.from({ length: context.length / 8 }, (_, i) => view.getBigUint64(8 * i, true));
  reads?.push({ level: 0, address: slot, words });
  if (!dcTc.get(words[0]!, 'V')) return none(causes.ddtInvalid);
  return { kind: 'context', words };
};

/** Which process directory, and for whom. */
interface ProcessLookup {
  /** Doublewords of the device context. */
  readonly words: readonly bigint[];
  readonly processIdValid: boolean;
  readonly processId: number;
}

/**
 * True where the walk for this process (§2.3.2) reads an entry of the process directory at the guest-physical `address`:
 * tells an access that the second stage stopped from one of a page-table walk.
 */
export const isProcessDirectoryEntry = (memory: MemoryPort, where: ProcessLookup, address: bigint): boolean => {
  const tc = dcTc.decode(where.words[0]!);
  const { MODE, PPN } = fsc.decode(where.words[3]!);
  if (!tc.PDTV || MODE === BigInt(pdtpMode.Bare) || (!where.processIdValid && !tc.DPE)) return false;
  const processId = where.processIdValid ? where.processId : 0;
  const bytes = new Uint8Array(8);
  let table = PPN << 12n;
  for (let level = Number(MODE) - 1; level >= 0; level--) {
    const entryBytes = level === 0 ? processContextBytes : 8;
    const slot = table + BigInt(pdi(processId, level as 0 | 1 | 2) * entryBytes);
    if (slot === address) return true;
    if (level === 0 || memory.load(slot, bytes) !== access.ok) return false;
    const entry = new DataView(bytes.buffer).getBigUint64(0, true);
    if (!directoryEntry.get(entry, 'V')) return false;
    table = directoryEntry.get(entry, 'PPN') << 12n;
  }
  return false;
};
