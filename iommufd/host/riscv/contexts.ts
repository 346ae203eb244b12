/**
 * Device and process contexts as silicon keeps them, and the checks that make them valid (§2.1.4, §2.2.4).
 */
import type { Capabilities } from '#iommufd/arch/riscv/registers';
import {
  dcTa,
  dcTc,
  directoryEntry,
  fsc,
  iohgatp,
  iohgatpMode,
  iosatpMode,
  msi_addr_mask,
  msi_addr_pattern,
  msiptp,
  msiptpMode,
  pcTa,
  pdtpMode,
} from '#iommufd/arch/riscv/tables';

export interface DeviceContext {
  readonly enAts: boolean;
  readonly enPri: boolean;
  readonly t2gpa: boolean;
  readonly dtf: boolean;
  readonly pdtv: boolean;
  readonly prpr: boolean;
  readonly gade: boolean;
  readonly sade: boolean;
  readonly dpe: boolean;
  readonly sbe: boolean;
  readonly iohgatpMode: number;
  readonly iohgatpPpn: bigint;
  readonly gscid: number;
  readonly pscid: number;
  /** iosatp.MODE, or pdtp.MODE where `pdtv`. */
  readonly fscMode: number;
  readonly fscPpn: bigint;
  readonly msiptpMode: number;
  readonly msiptpPpn: bigint;
  readonly msiMask: bigint;
  readonly msiPattern: bigint;
}

export interface ProcessContext {
  readonly ens: boolean;
  readonly sum: boolean;
  readonly pscid: number;
  readonly mode: number;
  readonly ppn: bigint;
}

export interface ContextRules {
  readonly features: Capabilities;
  /** fctl.BE, and whether DC.tc.SBE may differ from it. */
  readonly bigEndian: boolean;
  readonly sbeFree: boolean;
  readonly qosMask: { readonly RCID: number; readonly MCID: number };
}

export const firstStageModes = (f: Capabilities): readonly number[] => [
  iosatpMode.Bare,
  ...(f.Sv39 ? [iosatpMode.Sv39] : []),
  ...(f.Sv48 ? [iosatpMode.Sv48] : []),
  ...(f.Sv57 ? [iosatpMode.Sv57] : []),
];
const secondStageModes = (f: Capabilities): readonly number[] => [
  iohgatpMode.Bare,
  ...(f.Sv39x4 ? [iohgatpMode.Sv39x4] : []),
  ...(f.Sv48x4 ? [iohgatpMode.Sv48x4] : []),
  ...(f.Sv57x4 ? [iohgatpMode.Sv57x4] : []),
];
const directoryModes = (f: Capabilities): readonly number[] => [
  pdtpMode.Bare,
  ...(f.PD8 ? [pdtpMode.PD8] : []),
  ...(f.PD17 ? [pdtpMode.PD17] : []),
  ...(f.PD20 ? [pdtpMode.PD20] : []),
];

/** Width of a guest-physical address that an MSI pattern can name (§2.1.3.6). */
export const guestAddressBits = (f: Capabilities): number =>
  f.Sv57x4 ? 59 : f.Sv48x4 ? 50 : f.Sv39x4 ? 41 : f.Sv32x4 ? 34 : f.PAS;

/** Decodes a device context with V=1; undefined where it is misconfigured (§2.1.4). */
export const decodeDeviceContext = (words: readonly bigint[], rules: ContextRules): DeviceContext | undefined => {
  const { features: f } = rules;
  const [rawTc, rawGatp, rawTa, rawFsc] = words as [bigint, bigint, bigint, bigint];
  const extended = words.length === 8;
  const [rawMsiptp, rawMask, rawPattern, rawReserved] = extended ? words.slice(4) : [0n, 0n, 0n, 0n];
  const tc = dcTc.decode(rawTc);
  const gatp = iohgatp.decode(rawGatp);
  const ta = dcTa.decode(rawTa);
  const stage = fsc.decode(rawFsc);
  const msi = msiptp.decode(rawMsiptp!);
  const qos = f.QOSID === 1;
  const wrong =
    // Reserved bits. Custom bits of tc are treated as reserved: we define no custom use.
    (rawTc & (dcTc.reserved | dcTc.mask('custom'))) !== 0n ||
    (rawTa & dcTa.reserved) !== 0n ||
    (rawFsc & fsc.reserved) !== 0n ||
    (rawMsiptp! & msiptp.reserved) !== 0n ||
    (rawMask! & msi_addr_mask.reserved) !== 0n ||
    (rawPattern! & msi_addr_pattern.reserved) !== 0n ||
    rawReserved !== 0n ||
    (!qos && (ta.RCID !== 0n || ta.MCID !== 0n)) ||
    (qos && ((ta.RCID & ~BigInt(rules.qosMask.RCID)) !== 0n || (ta.MCID & ~BigInt(rules.qosMask.MCID)) !== 0n)) ||
    (!f.ATS && (tc.EN_ATS | tc.EN_PRI | tc.PRPR) !== 0n) ||
    (!tc.EN_ATS && (tc.T2GPA | tc.EN_PRI) !== 0n) ||
    (!tc.EN_PRI && tc.PRPR !== 0n) ||
    (!f.T2GPA && tc.T2GPA !== 0n) ||
    (tc.T2GPA !== 0n && gatp.MODE === 0n) ||
    (!tc.PDTV && tc.DPE !== 0n) ||
    !(tc.PDTV ? directoryModes(f) : firstStageModes(f)).includes(Number(stage.MODE)) ||
    !secondStageModes(f).includes(Number(gatp.MODE)) ||
    (msi.MODE !== BigInt(msiptpMode.Off) && msi.MODE !== BigInt(msiptpMode.Flat)) ||
    // The 16 KiB root must be aligned.
    (gatp.MODE !== 0n && (gatp.PPN & 3n) !== 0n) ||
    (!f.AMO_HWAD && (tc.SADE | tc.GADE) !== 0n) ||
    (!rules.sbeFree && (tc.SBE !== 0n) !== rules.bigEndian) ||
    // fctl.GXL is 0 and not writable here, so SXL must be 0.
    tc.SXL !== 0n ||
    // Recommended since v1.0.1: no MSI page table without a second stage.
    (gatp.MODE === 0n && msi.MODE !== 0n);
  if (wrong) return undefined;
  return {
    enAts: tc.EN_ATS === 1n,
    enPri: tc.EN_PRI === 1n,
    t2gpa: tc.T2GPA === 1n,
    dtf: tc.DTF === 1n,
    pdtv: tc.PDTV === 1n,
    prpr: tc.PRPR === 1n,
    gade: tc.GADE === 1n,
    sade: tc.SADE === 1n,
    dpe: tc.DPE === 1n,
    sbe: tc.SBE === 1n,
    iohgatpMode: Number(gatp.MODE),
    iohgatpPpn: gatp.PPN,
    gscid: Number(gatp.GSCID),
    pscid: Number(ta.PSCID),
    fscMode: Number(stage.MODE),
    fscPpn: stage.PPN,
    msiptpMode: Number(msi.MODE),
    msiptpPpn: msi.PPN,
    msiMask: rawMask!,
    msiPattern: rawPattern!,
  };
};

/** Decodes a process context with V=1; undefined where it is misconfigured (§2.2.4). */
export const decodeProcessContext = (words: readonly bigint[], features: Capabilities): ProcessContext | undefined => {
  const [rawTa, rawFsc] = words as [bigint, bigint];
  const ta = pcTa.decode(rawTa);
  const stage = fsc.decode(rawFsc);
  if ((rawTa & pcTa.reserved) !== 0n || (rawFsc & fsc.reserved) !== 0n) return undefined;
  if (!firstStageModes(features).includes(Number(stage.MODE))) return undefined;
  return {
    ens: ta.ENS === 1n,
    sum: ta.SUM === 1n,
    pscid: Number(ta.PSCID),
    mode: Number(stage.MODE),
    ppn: stage.PPN,
  };
};

/** True where a non-leaf directory entry has reserved bits set. */
export const isEntryMisconfigured = (raw: bigint): boolean => (raw & directoryEntry.reserved) !== 0n;
