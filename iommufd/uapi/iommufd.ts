/**
 * The iommufd uAPI of Linux 7.2 (include/uapi/linux/iommufd.h), byte for byte.
 * Arrays are flattened to `name[i]`; of a union the member that the kernel returns is named.
 */
import { bytes, s32, struct, u16, u32, u64, u8 } from '#vmm/base/wire';

/** Constants of iommufd.h: request numbers, flags, types. */
// prettier-ignore
export const iommufdUapi = {
  IOMMUFD_TYPE: 59,
  IOMMU_DESTROY: 0x3b80,
  IOMMU_IOAS_ALLOC: 0x3b81,
  IOMMU_IOAS_IOVA_RANGES: 0x3b84,
  IOMMU_IOAS_ALLOW_IOVAS: 0x3b82,
  IOMMU_IOAS_MAP: 0x3b85,
  IOMMU_IOAS_MAP_FILE: 0x3b8f,
  IOMMU_IOAS_COPY: 0x3b83,
  IOMMU_IOAS_UNMAP: 0x3b86,
  IOMMU_OPTION: 0x3b87,
  IOMMU_VFIO_IOAS: 0x3b88,
  IOMMU_HWPT_ALLOC: 0x3b89,
  IOMMU_GET_HW_INFO: 0x3b8a,
  IOMMU_HWPT_SET_DIRTY_TRACKING: 0x3b8b,
  IOMMU_HWPT_GET_DIRTY_BITMAP: 0x3b8c,
  IOMMU_HWPT_INVALIDATE: 0x3b8d,
  IOMMU_FAULT_QUEUE_ALLOC: 0x3b8e,
  IOMMU_VIOMMU_ALLOC: 0x3b90,
  IOMMU_VDEVICE_ALLOC: 0x3b91,
  IOMMU_IOAS_CHANGE_PROCESS: 0x3b92,
  IOMMU_VEVENTQ_ALLOC: 0x3b93,
  IOMMU_HW_QUEUE_ALLOC: 0x3b94,
  IOMMUFD_CMD_BASE: 128,
  IOMMUFD_CMD_DESTROY: 128,
  IOMMUFD_CMD_IOAS_ALLOC: 129,
  IOMMUFD_CMD_IOAS_ALLOW_IOVAS: 130,
  IOMMUFD_CMD_IOAS_COPY: 131,
  IOMMUFD_CMD_IOAS_IOVA_RANGES: 132,
  IOMMUFD_CMD_IOAS_MAP: 133,
  IOMMUFD_CMD_IOAS_UNMAP: 134,
  IOMMUFD_CMD_OPTION: 135,
  IOMMUFD_CMD_VFIO_IOAS: 136,
  IOMMUFD_CMD_HWPT_ALLOC: 137,
  IOMMUFD_CMD_GET_HW_INFO: 138,
  IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING: 139,
  IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP: 140,
  IOMMUFD_CMD_HWPT_INVALIDATE: 141,
  IOMMUFD_CMD_FAULT_QUEUE_ALLOC: 142,
  IOMMUFD_CMD_IOAS_MAP_FILE: 143,
  IOMMUFD_CMD_VIOMMU_ALLOC: 144,
  IOMMUFD_CMD_VDEVICE_ALLOC: 145,
  IOMMUFD_CMD_IOAS_CHANGE_PROCESS: 146,
  IOMMUFD_CMD_VEVENTQ_ALLOC: 147,
  IOMMUFD_CMD_HW_QUEUE_ALLOC: 148,
  IOMMU_IOAS_MAP_FIXED_IOVA: 1,
  IOMMU_IOAS_MAP_WRITEABLE: 2,
  IOMMU_IOAS_MAP_READABLE: 4,
  IOMMU_OPTION_RLIMIT_MODE: 0,
  IOMMU_OPTION_HUGE_PAGES: 1,
  IOMMU_OPTION_OP_SET: 0,
  IOMMU_OPTION_OP_GET: 1,
  IOMMU_VFIO_IOAS_GET: 0,
  IOMMU_VFIO_IOAS_SET: 1,
  IOMMU_VFIO_IOAS_CLEAR: 2,
  IOMMU_HWPT_ALLOC_NEST_PARENT: 1,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING: 2,
  IOMMU_HWPT_FAULT_ID_VALID: 4,
  IOMMU_HWPT_ALLOC_PASID: 8,
  IOMMU_VTD_S1_SRE: 1,
  IOMMU_VTD_S1_EAFE: 2,
  IOMMU_VTD_S1_WPE: 4,
  IOMMU_HWPT_DATA_NONE: 0,
  IOMMU_HWPT_DATA_VTD_S1: 1,
  IOMMU_HWPT_DATA_ARM_SMMUV3: 2,
  IOMMU_HWPT_DATA_AMD_GUEST: 3,
  IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17: 1,
  IOMMU_HW_INFO_TYPE_NONE: 0,
  IOMMU_HW_INFO_TYPE_DEFAULT: 0,
  IOMMU_HW_INFO_TYPE_INTEL_VTD: 1,
  IOMMU_HW_INFO_TYPE_ARM_SMMUV3: 2,
  IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV: 3,
  IOMMU_HW_INFO_TYPE_AMD: 4,
  IOMMU_HW_CAP_DIRTY_TRACKING: 1,
  IOMMU_HW_CAP_PCI_PASID_EXEC: 2,
  IOMMU_HW_CAP_PCI_PASID_PRIV: 4,
  IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED: 8,
  IOMMU_HW_INFO_FLAG_INPUT_TYPE: 1,
  IOMMU_HWPT_DIRTY_TRACKING_ENABLE: 1,
  IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR: 1,
  IOMMU_HWPT_INVALIDATE_DATA_VTD_S1: 0,
  IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3: 1,
  IOMMU_VTD_INV_FLAGS_LEAF: 1,
  IOMMU_PGFAULT_FLAGS_PASID_VALID: 1,
  IOMMU_PGFAULT_FLAGS_LAST_PAGE: 2,
  IOMMU_PGFAULT_PERM_READ: 1,
  IOMMU_PGFAULT_PERM_WRITE: 2,
  IOMMU_PGFAULT_PERM_EXEC: 4,
  IOMMU_PGFAULT_PERM_PRIV: 8,
  IOMMUFD_PAGE_RESP_SUCCESS: 0,
  IOMMUFD_PAGE_RESP_INVALID: 1,
  IOMMU_VIOMMU_TYPE_DEFAULT: 0,
  IOMMU_VIOMMU_TYPE_ARM_SMMUV3: 1,
  IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV: 2,
  IOMMU_VEVENTQ_FLAG_LOST_EVENTS: 1,
  IOMMU_VEVENTQ_TYPE_DEFAULT: 0,
  IOMMU_VEVENTQ_TYPE_ARM_SMMUV3: 1,
  IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV: 2,
  IOMMU_HW_QUEUE_TYPE_DEFAULT: 0,
} as const;

export const iommu_destroy = struct('iommu_destroy', { size: u32, id: u32 });
export const iommu_ioas_alloc = struct('iommu_ioas_alloc', { size: u32, flags: u32, out_ioas_id: u32 });
export const iommu_iova_range = struct('iommu_iova_range', { start: u64, last: u64 });
export const iommu_ioas_iova_ranges = struct('iommu_ioas_iova_ranges', {
  size: u32,
  ioas_id: u32,
  num_iovas: u32,
  __reserved: u32,
  allowed_iovas: u64,
  out_iova_alignment: u64,
});
export const iommu_ioas_allow_iovas = struct('iommu_ioas_allow_iovas', {
  size: u32,
  ioas_id: u32,
  num_iovas: u32,
  __reserved: u32,
  allowed_iovas: u64,
});
export const iommu_ioas_map = struct('iommu_ioas_map', {
  size: u32,
  flags: u32,
  ioas_id: u32,
  __reserved: u32,
  user_va: u64,
  length: u64,
  iova: u64,
});
export const iommu_ioas_map_file = struct('iommu_ioas_map_file', {
  size: u32,
  flags: u32,
  ioas_id: u32,
  fd: s32,
  start: u64,
  length: u64,
  iova: u64,
});
export const iommu_ioas_copy = struct('iommu_ioas_copy', {
  size: u32,
  flags: u32,
  dst_ioas_id: u32,
  src_ioas_id: u32,
  length: u64,
  dst_iova: u64,
  src_iova: u64,
});
export const iommu_ioas_unmap = struct('iommu_ioas_unmap', { size: u32, ioas_id: u32, iova: u64, length: u64 });
export const iommu_option = struct('iommu_option', {
  size: u32,
  option_id: u32,
  op: u16,
  __reserved: u16,
  object_id: u32,
  val64: u64,
});
export const iommu_vfio_ioas = struct('iommu_vfio_ioas', { size: u32, ioas_id: u32, op: u16, __reserved: u16 });
export const iommu_hwpt_vtd_s1 = struct('iommu_hwpt_vtd_s1', {
  flags: u64,
  pgtbl_addr: u64,
  addr_width: u32,
  __reserved: u32,
});
export const iommu_hwpt_arm_smmuv3 = struct('iommu_hwpt_arm_smmuv3', { 'ste[0]': u64, 'ste[1]': u64 });
export const iommu_hwpt_amd_guest = struct('iommu_hwpt_amd_guest', {
  'dte[0]': u64,
  'dte[1]': u64,
  'dte[2]': u64,
  'dte[3]': u64,
});
export const iommu_hwpt_alloc = struct('iommu_hwpt_alloc', {
  size: u32,
  flags: u32,
  dev_id: u32,
  pt_id: u32,
  out_hwpt_id: u32,
  __reserved: u32,
  data_type: u32,
  data_len: u32,
  data_uptr: u64,
  fault_id: u32,
  __reserved2: u32,
});
export const iommu_hw_info_vtd = struct('iommu_hw_info_vtd', {
  flags: u32,
  __reserved: u32,
  cap_reg: u64,
  ecap_reg: u64,
});
export const iommu_hw_info_arm_smmuv3 = struct('iommu_hw_info_arm_smmuv3', {
  flags: u32,
  __reserved: u32,
  'idr[0]': u32,
  'idr[1]': u32,
  'idr[2]': u32,
  'idr[3]': u32,
  'idr[4]': u32,
  'idr[5]': u32,
  iidr: u32,
  aidr: u32,
});
export const iommu_hw_info_tegra241_cmdqv = struct('iommu_hw_info_tegra241_cmdqv', {
  flags: u32,
  version: u8,
  log2vcmdqs: u8,
  log2vsids: u8,
  __reserved: u8,
});
export const iommu_hw_info_amd = struct('iommu_hw_info_amd', { efr: u64, efr2: u64 });
export const iommu_hw_info = struct('iommu_hw_info', {
  size: u32,
  flags: u32,
  dev_id: u32,
  data_len: u32,
  data_uptr: u64,
  out_data_type: u32,
  out_max_pasid_log2: u8,
  __reserved: bytes(3),
  out_capabilities: u64,
});
export const iommu_hwpt_set_dirty_tracking = struct('iommu_hwpt_set_dirty_tracking', {
  size: u32,
  flags: u32,
  hwpt_id: u32,
  __reserved: u32,
});
export const iommu_hwpt_get_dirty_bitmap = struct('iommu_hwpt_get_dirty_bitmap', {
  size: u32,
  hwpt_id: u32,
  flags: u32,
  __reserved: u32,
  iova: u64,
  length: u64,
  page_size: u64,
  data: u64,
});
export const iommu_hwpt_vtd_s1_invalidate = struct('iommu_hwpt_vtd_s1_invalidate', {
  addr: u64,
  npages: u64,
  flags: u32,
  __reserved: u32,
});
export const iommu_viommu_arm_smmuv3_invalidate = struct('iommu_viommu_arm_smmuv3_invalidate', {
  'cmd[0]': u64,
  'cmd[1]': u64,
});
export const iommu_hwpt_invalidate = struct('iommu_hwpt_invalidate', {
  size: u32,
  hwpt_id: u32,
  data_uptr: u64,
  data_type: u32,
  entry_len: u32,
  entry_num: u32,
  __reserved: u32,
});
export const iommu_hwpt_pgfault = struct('iommu_hwpt_pgfault', {
  flags: u32,
  dev_id: u32,
  pasid: u32,
  grpid: u32,
  perm: u32,
  __reserved: u32,
  addr: u64,
  length: u32,
  cookie: u32,
});
export const iommu_hwpt_page_response = struct('iommu_hwpt_page_response', { cookie: u32, code: u32 });
export const iommu_fault_alloc = struct('iommu_fault_alloc', {
  size: u32,
  flags: u32,
  out_fault_id: u32,
  out_fault_fd: u32,
});
export const iommu_viommu_tegra241_cmdqv = struct('iommu_viommu_tegra241_cmdqv', {
  out_vintf_mmap_offset: u64,
  out_vintf_mmap_length: u64,
});
export const iommu_viommu_alloc = struct('iommu_viommu_alloc', {
  size: u32,
  flags: u32,
  type: u32,
  dev_id: u32,
  hwpt_id: u32,
  out_viommu_id: u32,
  data_len: u32,
  __reserved: u32,
  data_uptr: u64,
});
export const iommu_vdevice_alloc = struct('iommu_vdevice_alloc', {
  size: u32,
  viommu_id: u32,
  dev_id: u32,
  out_vdevice_id: u32,
  virt_id: u64,
});
export const iommu_ioas_change_process = struct('iommu_ioas_change_process', { size: u32, __reserved: u32 });
export const iommufd_vevent_header = struct('iommufd_vevent_header', { flags: u32, sequence: u32 });
export const iommu_vevent_arm_smmuv3 = struct('iommu_vevent_arm_smmuv3', {
  'evt[0]': u64,
  'evt[1]': u64,
  'evt[2]': u64,
  'evt[3]': u64,
});
export const iommu_vevent_tegra241_cmdqv = struct('iommu_vevent_tegra241_cmdqv', {
  'lvcmdq_err_map[0]': u64,
  'lvcmdq_err_map[1]': u64,
});
export const iommu_veventq_alloc = struct('iommu_veventq_alloc', {
  size: u32,
  flags: u32,
  viommu_id: u32,
  type: u32,
  veventq_depth: u32,
  out_veventq_id: u32,
  out_veventq_fd: u32,
  __reserved: u32,
});
export const iommu_hw_queue_alloc = struct('iommu_hw_queue_alloc', {
  size: u32,
  flags: u32,
  viommu_id: u32,
  type: u32,
  index: u32,
  out_hw_queue_id: u32,
  nesting_parent_iova: u64,
  length: u64,
});
