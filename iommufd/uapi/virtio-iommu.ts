/**
 * virtio-iommu of Linux 7.2 (include/uapi/linux/virtio_iommu.h; virtio 1.3 section 5.13), byte for byte.
 */
import { bytes, struct, u16, u32, u64, u8 } from '#vmm/base/wire';

/** Constants of virtio_iommu.h: request numbers, flags, types. */
// prettier-ignore
export const virtioIommuUapi = {
  VIRTIO_IOMMU_F_INPUT_RANGE: 0,
  VIRTIO_IOMMU_F_DOMAIN_RANGE: 1,
  VIRTIO_IOMMU_F_MAP_UNMAP: 2,
  VIRTIO_IOMMU_F_BYPASS: 3,
  VIRTIO_IOMMU_F_PROBE: 4,
  VIRTIO_IOMMU_F_MMIO: 5,
  VIRTIO_IOMMU_F_BYPASS_CONFIG: 6,
  VIRTIO_IOMMU_T_ATTACH: 1,
  VIRTIO_IOMMU_T_DETACH: 2,
  VIRTIO_IOMMU_T_MAP: 3,
  VIRTIO_IOMMU_T_UNMAP: 4,
  VIRTIO_IOMMU_T_PROBE: 5,
  VIRTIO_IOMMU_S_OK: 0,
  VIRTIO_IOMMU_S_IOERR: 1,
  VIRTIO_IOMMU_S_UNSUPP: 2,
  VIRTIO_IOMMU_S_DEVERR: 3,
  VIRTIO_IOMMU_S_INVAL: 4,
  VIRTIO_IOMMU_S_RANGE: 5,
  VIRTIO_IOMMU_S_NOENT: 6,
  VIRTIO_IOMMU_S_FAULT: 7,
  VIRTIO_IOMMU_S_NOMEM: 8,
  VIRTIO_IOMMU_ATTACH_F_BYPASS: 1,
  VIRTIO_IOMMU_MAP_F_READ: 1,
  VIRTIO_IOMMU_MAP_F_WRITE: 2,
  VIRTIO_IOMMU_MAP_F_MMIO: 4,
  VIRTIO_IOMMU_MAP_F_MASK: 7,
  VIRTIO_IOMMU_PROBE_T_NONE: 0,
  VIRTIO_IOMMU_PROBE_T_RESV_MEM: 1,
  VIRTIO_IOMMU_PROBE_T_MASK: 0xfff,
  VIRTIO_IOMMU_RESV_MEM_T_RESERVED: 0,
  VIRTIO_IOMMU_RESV_MEM_T_MSI: 1,
  VIRTIO_IOMMU_FAULT_R_UNKNOWN: 0,
  VIRTIO_IOMMU_FAULT_R_DOMAIN: 1,
  VIRTIO_IOMMU_FAULT_R_MAPPING: 2,
  VIRTIO_IOMMU_FAULT_F_READ: 1,
  VIRTIO_IOMMU_FAULT_F_WRITE: 2,
  VIRTIO_IOMMU_FAULT_F_EXEC: 4,
} as const;

export const virtio_iommu_range_64 = struct('virtio_iommu_range_64', { start: u64, end: u64 });
export const virtio_iommu_range_32 = struct('virtio_iommu_range_32', { start: u32, end: u32 });
export const virtio_iommu_config = struct('virtio_iommu_config', {
  page_size_mask: u64,
  'input_range.start': u64,
  'input_range.end': u64,
  'domain_range.start': u32,
  'domain_range.end': u32,
  probe_size: u32,
  bypass: u8,
  reserved: bytes(3),
});
export const virtio_iommu_req_head = struct('virtio_iommu_req_head', { type: u8, reserved: bytes(3) });
export const virtio_iommu_req_tail = struct('virtio_iommu_req_tail', { status: u8, reserved: bytes(3) });
export const virtio_iommu_req_attach = struct('virtio_iommu_req_attach', {
  'head.type': u8,
  'head.reserved': bytes(3),
  domain: u32,
  endpoint: u32,
  flags: u32,
  reserved: bytes(4),
  'tail.status': u8,
  'tail.reserved': bytes(3),
});
export const virtio_iommu_req_detach = struct('virtio_iommu_req_detach', {
  'head.type': u8,
  'head.reserved': bytes(3),
  domain: u32,
  endpoint: u32,
  reserved: bytes(8),
  'tail.status': u8,
  'tail.reserved': bytes(3),
});
export const virtio_iommu_req_map = struct('virtio_iommu_req_map', {
  'head.type': u8,
  'head.reserved': bytes(3),
  domain: u32,
  virt_start: u64,
  virt_end: u64,
  phys_start: u64,
  flags: u32,
  'tail.status': u8,
  'tail.reserved': bytes(3),
});
export const virtio_iommu_req_unmap = struct('virtio_iommu_req_unmap', {
  'head.type': u8,
  'head.reserved': bytes(3),
  domain: u32,
  virt_start: u64,
  virt_end: u64,
  reserved: bytes(4),
  'tail.status': u8,
  'tail.reserved': bytes(3),
});
export const virtio_iommu_probe_property = struct('virtio_iommu_probe_property', { type: u16, length: u16 });
export const virtio_iommu_probe_resv_mem = struct('virtio_iommu_probe_resv_mem', {
  'head.type': u16,
  'head.length': u16,
  subtype: u8,
  reserved: bytes(3),
  start: u64,
  end: u64,
});
export const virtio_iommu_req_probe = struct('virtio_iommu_req_probe', {
  'head.type': u8,
  'head.reserved': bytes(3),
  endpoint: u32,
  reserved: bytes(64),
});
export const virtio_iommu_fault = struct('virtio_iommu_fault', {
  reason: u8,
  reserved: bytes(3),
  flags: u32,
  endpoint: u32,
  reserved2: bytes(4),
  address: u64,
});
