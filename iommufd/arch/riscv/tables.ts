/**
 * In-memory structures a driver builds for the IOMMU (RISC-V IOMMU v1.0.1 chapter 2; MSI page tables from the AIA):
 * device contexts, process contexts, directory entries, MSI page-table entries.
 */
import { register, type Decoded } from '#vmm/base/bits';

// prettier-ignore
export const dcTc = register({
  width: 64, spec: 'RISC-V IOMMU §2.1.3.1', doc: 'Device context: translation control.',
  fields: {
    V: { bits: 0 }, EN_ATS: { bits: 1 }, EN_PRI: { bits: 2 }, T2GPA: { bits: 3 }, DTF: { bits: 4 }, PDTV: { bits: 5 },
    PRPR: { bits: 6 }, GADE: { bits: 7 }, SADE: { bits: 8 }, DPE: { bits: 9 }, SBE: { bits: 10 }, SXL: { bits: 11 },
    custom: { bits: [31, 24] },
  },
});
/** iohgatp.MODE: second stage. */
export const iohgatpMode = { Bare: 0, Sv39x4: 8, Sv48x4: 9, Sv57x4: 10 } as const;
/** iosatp.MODE: first stage. */
export const iosatpMode = { Bare: 0, Sv39: 8, Sv48: 9, Sv57: 10 } as const;
/** pdtp.MODE: width of the process directory. */
export const pdtpMode = { Bare: 0, PD8: 1, PD17: 2, PD20: 3 } as const;
/** msiptp.MODE. */
export const msiptpMode = { Off: 0, Flat: 1 } as const;

export const iohgatp = register({
  width: 64,
  spec: 'RISC-V IOMMU §2.1.3.2',
  doc: 'Device context: root of the second stage, and the VM it belongs to.',
  fields: {
    PPN: { bits: [43, 0] },
    GSCID: { bits: [59, 44] },
    MODE: { bits: [63, 60], values: { 0: 'Bare', 8: 'Sv39x4', 9: 'Sv48x4', 10: 'Sv57x4' } },
  },
});
export const dcTa = register({
  width: 64,
  spec: 'RISC-V IOMMU §2.1.3.3',
  doc: 'Device context: translation attributes.',
  fields: { PSCID: { bits: [31, 12] }, RCID: { bits: [51, 40] }, MCID: { bits: [63, 52] } },
});
/** iosatp, pdtp, PC.fsc and msiptp share this shape. */
export const fsc = register({
  width: 64,
  spec: 'RISC-V IOMMU §2.1.3.4',
  doc: 'First-stage context: iosatp or pdtp.',
  fields: { PPN: { bits: [43, 0] }, MODE: { bits: [63, 60] } },
});
export const msiptp = register({
  width: 64,
  spec: 'RISC-V IOMMU §2.1.3.5',
  doc: 'Device context: root of the MSI page table.',
  fields: { PPN: { bits: [43, 0] }, MODE: { bits: [63, 60], values: { 0: 'Off', 1: 'Flat' } } },
});
export const msi_addr_mask = register({
  width: 64,
  spec: 'RISC-V IOMMU §2.1.3.6',
  doc: 'Device context: which bits of a guest page number select an interrupt file.',
  fields: { mask: { bits: [51, 0] } },
});
export const msi_addr_pattern = register({
  width: 64,
  spec: 'RISC-V IOMMU §2.1.3.6',
  doc: 'Device context: what the other bits must be.',
  fields: { pattern: { bits: [51, 0] } },
});
/** Non-leaf entry of the device and process directories. */
export const directoryEntry = register({
  width: 64,
  spec: 'RISC-V IOMMU §2.1.1, §2.2.1',
  doc: 'Non-leaf directory entry.',
  fields: { V: { bits: 0 }, PPN: { bits: [53, 10] } },
});
export const pcTa = register({
  width: 64,
  spec: 'RISC-V IOMMU §2.2.3',
  doc: 'Process context: translation attributes.',
  fields: { V: { bits: 0 }, ENS: { bits: 1 }, SUM: { bits: 2 }, PSCID: { bits: [31, 12] } },
});
/** msipte.M. */
export const msipteMode = { MRIF: 1, basic: 3 } as const;
export const msipteBasic = register({
  width: 64,
  spec: 'AIA §9.5.1',
  doc: 'First doubleword of an MSI page-table entry in basic translate mode.',
  fields: { V: { bits: 0 }, M: { bits: [2, 1] }, PPN: { bits: [53, 10] }, C: { bits: 63 } },
});
export const msipteMrif = register({
  width: 64,
  spec: 'AIA §9.5.2',
  doc: 'First doubleword of an MSI page-table entry in MRIF mode.',
  fields: { V: { bits: 0 }, M: { bits: [2, 1] }, MRIF_Address: { bits: [53, 7] }, C: { bits: 63 } },
});
export const msipteNotice = register({
  width: 64,
  spec: 'AIA §9.5.2',
  doc: 'Second doubleword of an MSI page-table entry in MRIF mode.',
  fields: { N: { bits: [9, 0] }, NPPN: { bits: [53, 10] }, N10: { bits: 60 } },
});

/** Bytes of a device context: extended format where capabilities.MSI_FLAT is 1, else base (§2.1). */
export const deviceContextBytes = (extended: boolean): 32 | 64 => (extended ? 64 : 32);
export const processContextBytes = 16;

/** Widths of DDI[0..2] (§2.3 steps 3 and 4). */
export const ddiBits = (extended: boolean): readonly [number, number, number] => (extended ? [6, 9, 9] : [7, 9, 8]);

/** DDI[level] of a device_id. */
export const ddi = (deviceId: number, level: 0 | 1 | 2, extended: boolean): number => {
  const [d0, d1] = ddiBits(extended);
  if (level === 0) return deviceId & ((1 << d0) - 1);
  return level === 1 ? (deviceId >>> d0) & 0x1ff : deviceId >>> (d0 + d1);
};
/** PDI[level] of a process_id. */
export const pdi = (processId: number, level: 0 | 1 | 2): number =>
  level === 0 ? processId & 0xff : level === 1 ? (processId >>> 8) & 0x1ff : processId >>> 17;
/** Widest device_id under a directory of `levels` levels, in bits. */
export const deviceIdBits = (levels: 1 | 2 | 3, extended: boolean): number => {
  const [d0, d1, d2] = ddiBits(extended);
  return levels === 1 ? d0 : levels === 2 ? d0 + d1 : d0 + d1 + d2;
};

/** A device context as software sees it: each doubleword's fields. Missing ones are zero. */
export interface DeviceContext {
  readonly tc?: Partial<Decoded<{ [K in 'V' | 'EN_ATS' | 'EN_PRI' | 'T2GPA' | 'DTF' | 'PDTV' | 'PRPR' | 'GADE' | 'SADE' | 'DPE' | 'SBE' | 'SXL']: never }>>; // prettier-ignore
  readonly iohgatp?: { readonly MODE: bigint; readonly GSCID: bigint; readonly PPN: bigint };
  readonly ta?: { readonly PSCID?: bigint; readonly RCID?: bigint; readonly MCID?: bigint };
  readonly fsc?: { readonly MODE: bigint; readonly PPN: bigint };
  readonly msiptp?: { readonly MODE: bigint; readonly PPN: bigint };
  readonly msi_addr_mask?: bigint;
  readonly msi_addr_pattern?: bigint;
}

/** The doublewords of a device context: four (base format) or eight (extended). RangeError when a field does not fit. */
export const encodeDeviceContext = (dc: DeviceContext, extended: boolean): bigint[] => {
  const words = [
    dcTc.encode(dc.tc ?? {}),
    iohgatp.encode(dc.iohgatp ?? {}),
    dcTa.encode(dc.ta ?? {}),
    fsc.encode(dc.fsc ?? {}),
  ];
  if (extended)
    words.push(
      msiptp.encode(dc.msiptp ?? {}),
      msi_addr_mask.encode({ mask: dc.msi_addr_mask ?? 0n }),
      msi_addr_pattern.encode({ pattern: dc.msi_addr_pattern ?? 0n }),
      0n,
    );
  return words;
};

export interface ProcessContext {
  readonly ta: { readonly V: bigint; readonly ENS?: bigint; readonly SUM?: bigint; readonly PSCID?: bigint };
  readonly fsc: { readonly MODE: bigint; readonly PPN: bigint };
}
/** The two doublewords of a process context. */
export const encodeProcessContext = (pc: ProcessContext): [bigint, bigint] => [pcTa.encode(pc.ta), fsc.encode(pc.fsc)];

/** A valid non-leaf directory entry. */
export const encodeDirectoryEntry = (ppn: bigint): bigint => directoryEntry.encode({ V: 1n, PPN: ppn });
