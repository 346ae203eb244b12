import { causes } from '#iommufd/arch/riscv/faults';
import { access } from '#iommufd/arch/riscv/ports';
import type { RiscvIommu } from './iommu.ts';
import type { TranslationRequest } from './translation.ts';

/** Interrupt identities a memory-resident interrupt file holds. */
const identities = 2048;

/**
 * Stores an MSI into a memory-resident interrupt file (AIA §9.3): sets the identity's pending bit and, where its enable
 * bit is set, sends the notice MSI. False when it faulted (causes 264 and 271) or carries no identity.
 */
export const storeMrif = (
  iommu: RiscvIommu,
  request: TranslationRequest,
  mrif: { readonly address: bigint; readonly nid: number },
  notice: number,
  data: number,
): boolean => {
  const identity = data >>> 0;
  if (identity === 0 || identity >= identities) return true;
  const { memory, bigEndian } = iommu.translator;
  const fail = (): false => {
    const cause = memory.result === access.corrupt ? causes.mrifCorruption : causes.mrifAccessFault;
    iommu.report(request, { ok: false, cause, iotval2: 0n, dtf: false });
    return false;
  };
  // Pending and enable bits lie side by side: 64 identities in 16 bytes.
  const at = mrif.address + BigInt(identity >>> 6) * 16n;
  const words = memory.load(at, 2, bigEndian);
  if (!words) return fail();
  const [pending, enabled] = words as [bigint, bigint];
  const bit = 1n << BigInt(identity & 63);
  if (memory.store64(at, pending | bit, bigEndian) !== access.ok) return fail();
  return !(enabled & bit) || iommu.sendNotice(notice, mrif.nid);
};
