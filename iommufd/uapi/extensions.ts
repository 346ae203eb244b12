/**
 * Deviation: types that upstream's uAPI does not have. Linux 7.2 has no user-space translation for the RISC-V IOMMU;
 * these follow SMMUv3's shape (device context words as HWPT data, raw commands as invalidation entries, fault records
 * as events), with type numbers outside upstream's ranges. Whatever upstream defines later wins.
 */
import { struct, u32, u64 } from '#vmm/base/wire';

/** Type numbers of the RISC-V extensions, one namespace each as in iommufd.h. */
// prettier-ignore
export const extensionUapi = {
  /** iommu_hwpt_alloc.data_type: struct iommu_hwpt_riscv. */
  IOMMU_HWPT_DATA_RISCV: 0x8000_0001,
  /** iommu_viommu_alloc.type; no data. */
  IOMMU_VIOMMU_TYPE_RISCV: 0x8000_0001,
  /** iommu_hwpt_invalidate.data_type on a vIOMMU: an array of struct iommu_viommu_riscv_invalidate. */
  IOMMU_VIOMMU_INVALIDATE_DATA_RISCV: 0x8000_0001,
  /** iommu_veventq_alloc.type: events of struct iommu_vevent_riscv. */
  IOMMU_VEVENTQ_TYPE_RISCV: 0x8000_0001,
  /** iommu_veventq_alloc.type: events of struct iommu_vevent_riscv_invalidation. */
  IOMMU_VEVENTQ_TYPE_RISCV_INVALIDATION: 0x8000_0002,
  /** iommu_veventq_alloc.type: events of struct iommu_vevent_riscv_stop_marker. */
  IOMMU_VEVENTQ_TYPE_RISCV_STOP_MARKER: 0x8000_0003,
  /** iommu_hw_info.out_data_type: struct iommu_hw_info_riscv. */
  IOMMU_HW_INFO_TYPE_RISCV: 0x8000_0001,
  /** iommu_hw_info_riscv.flags. */
  IOMMU_HW_INFO_RISCV_MSI_FLAT: 1,
} as const;

/**
 * Deviation: the guest's words of a device context (RISC-V IOMMU §3.1.3). tc: the bits a guest owns (EN_ATS, EN_PRI,
 * T2GPA, DTF, PDTV, PRPR, SADE, DPE, SBE, SXL); fsc: stage-1 root or process directory, in guest addresses. The second
 * stage (iohgatp) is the kernel's. The MSI words are used when msiptp's mode is not Off.
 */
export const iommu_hwpt_riscv = struct('iommu_hwpt_riscv', {
  tc: u64,
  ta: u64,
  fsc: u64,
  msiptp: u64,
  msi_addr_mask: u64,
  msi_addr_pattern: u64,
});

/**
 * Deviation: one raw command of the guest's command queue (RISC-V IOMMU §4.1): IOTINVAL.VMA, IODIR.INVAL_DDT (DV=1), IODIR.INVAL_PDT and
 * ATS.INVAL. Device ids in it are virtual ids; GSCID fields are ignored. An ATS.INVAL is done when its event says so
 * (struct iommu_vevent_riscv_invalidation), everything else when the call returns.
 */
export const iommu_viommu_riscv_invalidate = struct('iommu_viommu_riscv_invalidate', { 'cmd[0]': u64, 'cmd[1]': u64 });

/** Deviation: one record of the hardware's fault queue (RISC-V IOMMU §4.2), DID replaced by the virtual id. */
export const iommu_vevent_riscv = struct('iommu_vevent_riscv', {
  'record[0]': u64,
  'record[1]': u64,
  'record[2]': u64,
  'record[3]': u64,
});

/**
 * Deviation: an ATS.INVAL of IOMMU_HWPT_INVALIDATE has ended: the command as user space gave it, and how. Devices may
 * take long; no other invalidation waits for them.
 */
export const iommu_vevent_riscv_invalidation = struct('iommu_vevent_riscv_invalidation', {
  'cmd[0]': u64,
  'cmd[1]': u64,
  /** 0: the device has completed it; 1: it did not in time. */
  status: u32,
  __reserved: u32,
});

/**
 * Deviation: a Stop Marker (PCI Express Base 6.0 §10.4.1.2.1), as the hardware's page-request queue had it (RISC-V IOMMU
 * §3.3), DID replaced by the virtual id. Page requests of the same PASID that came before it are in the fault queue by
 * then; upstream's drivers drop markers.
 */
export const iommu_vevent_riscv_stop_marker = struct('iommu_vevent_riscv_stop_marker', {
  'record[0]': u64,
  'record[1]': u64,
});

/** Deviation: what the physical RISC-V IOMMU can do (§6.3 capabilities, §6.4 fctl). */
export const iommu_hw_info_riscv = struct('iommu_hw_info_riscv', {
  flags: u32,
  fctl: u32,
  capabilities: u64,
});
