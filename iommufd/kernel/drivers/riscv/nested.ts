import { errno } from '#vmm/base/errno';
import { type Data, recordOf } from '#vmm/base/saved';
import type { Errno, NestedDomain, UserData } from '#iommufd/kernel/iommu-ops';
import type { Capabilities } from '#iommufd/arch/riscv/registers';
import { dcTa, dcTc, fsc, iosatpMode, msi_addr_mask, msiptp, msiptpMode, pdtpMode } from '#iommufd/arch/riscv/tables'; // prettier-ignore
import { extensionUapi, iommu_hwpt_riscv } from '#iommufd/uapi/extensions';
import type { RiscvIommuDriver } from './driver.ts';
import type { RiscvPaging } from './paging.ts';

/** The guest's words of a device context, as IOMMU_HWPT_ALLOC brought them. */
// A type, not an interface: a snapshot holds it as it is.
export type GuestContext = {
  readonly tc: bigint;
  readonly ta: bigint;
  readonly fsc: bigint;
  readonly msiptp: bigint;
  readonly msi_addr_mask: bigint;
  readonly msi_addr_pattern: bigint;
};

/** Bits of tc that belong to the guest; GADE (second-stage A/D) and SXL are the host's. */
const guestTc =
  dcTc.mask('V') | dcTc.mask('EN_ATS') | dcTc.mask('EN_PRI') | dcTc.mask('DTF') | dcTc.mask('PDTV') |
  dcTc.mask('PRPR') | dcTc.mask('SADE') | dcTc.mask('DPE') | dcTc.mask('SBE'); // prettier-ignore

/** §2.1.4, "misconfigured": what silicon would refuse with cause 259 is refused when the domain is made. */
const isConfigurationLegal = (guest: GuestContext, features: Capabilities): boolean => {
  const tc = dcTc.decode(guest.tc);
  if (guest.tc & ~guestTc || tc.V === 0n) return false;
  if (guest.ta & dcTa.reserved || guest.fsc & fsc.reserved) return false;
  if (tc.EN_ATS && !features.ATS) return false;
  if (tc.EN_PRI && !tc.EN_ATS) return false;
  if (tc.PRPR && !tc.EN_PRI) return false;
  if (tc.SADE && !features.AMO_HWAD) return false;
  if (tc.DPE && !tc.PDTV) return false;
  if (tc.SBE && !features.END) return false;
  const mode = Number(fsc.get(guest.fsc, 'MODE'));
  const legalModes: readonly number[] = tc.PDTV
    ? [pdtpMode.Bare, ...(features.PD8 ? [pdtpMode.PD8] : []), ...(features.PD17 ? [pdtpMode.PD17] : []), ...(features.PD20 ? [pdtpMode.PD20] : [])] // prettier-ignore
    : [iosatpMode.Bare, ...(features.Sv39 ? [iosatpMode.Sv39] : []), ...(features.Sv48 ? [iosatpMode.Sv48] : []), ...(features.Sv57 ? [iosatpMode.Sv57] : [])]; // prettier-ignore
  if (!legalModes.includes(mode)) return false;
  const msiMode = Number(msiptp.get(guest.msiptp, 'MODE'));
  if (msiMode === msiptpMode.Off) return true;
  return msiMode === msiptpMode.Flat && features.MSI_FLAT === 1 && !(guest.msi_addr_mask & msi_addr_mask.reserved);
};

/**
 * Stage 1 in guest memory. It holds the guest's words and nothing else: the second stage and the host's own bits are
 * put in at attach, as reviews of the RISC-V nesting series asked.
 */
export class RiscvNested implements NestedDomain {
  readonly kind = 'nested';
  readonly driver: RiscvIommuDriver;
  readonly parent: RiscvPaging;
  readonly guest: GuestContext;
  faultCapable = false;

  constructor(driver: RiscvIommuDriver, parent: RiscvPaging, guest: GuestContext) {
    this.driver = driver;
    this.parent = parent;
    this.guest = guest;
  }

  free(): void {}

  state(): Data {
    return this.guest;
  }
}

/** One that `state` told of. */
export const restoreNested = (driver: RiscvIommuDriver, parent: RiscvPaging, state: Data): NestedDomain =>
  new RiscvNested(driver, parent, recordOf(state) as GuestContext);

/** EINVAL for a context that the specification calls misconfigured; EOPNOTSUPP for flags and E2BIG, EFAULT for data. */
export const allocNested = (
  driver: RiscvIommuDriver,
  parent: RiscvPaging,
  flags: number,
  data: UserData,
): NestedDomain | Errno => {
  if (flags & ~driver.nestedFlags) return errno.EOPNOTSUPP;
  const bytes = data.copyStruct(extensionUapi.IOMMU_HWPT_DATA_RISCV, iommu_hwpt_riscv.size, iommu_hwpt_riscv.offset('msiptp')); // prettier-ignore
  if (typeof bytes === 'number') return bytes;
  const guest = iommu_hwpt_riscv.decode(bytes);
  return isConfigurationLegal(guest, driver.features) ? new RiscvNested(driver, parent, guest) : errno.EINVAL;
};
