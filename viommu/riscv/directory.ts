import { type Cause, causes } from '#iommufd/arch/riscv/faults';
import { access, type MemoryPort } from '#iommufd/arch/riscv/ports';
import { ddtpMode } from '#iommufd/arch/riscv/registers';
import { dcTc, ddi, deviceContextBytes, deviceIdBits, directoryEntry } from '#iommufd/arch/riscv/tables';

/** What the guest's ddtp and device directory say about one device. */
export type Lookup =
  | { readonly kind: 'bypass' }
  | { readonly kind: 'context'; readonly words: readonly bigint[] }
  | { readonly kind: 'none'; readonly cause: Cause };

/**
 * Finds a device's context in guest memory (RISC-V IOMMU §2.3 steps 1–8, §2.3.1). Whether the context makes sense is for
 * the host to say when it is asked for a nested domain. `extended`: 64-byte contexts (capabilities.MSI_FLAT).
 */
export const lookUpDevice = (
  memory: MemoryPort,
  mode: number,
  rootPpn: bigint,
  deviceId: number,
  extended: boolean,
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
  if (!dcTc.get(words[0]!, 'V')) return none(causes.ddtInvalid);
  return { kind: 'context', words };
};
