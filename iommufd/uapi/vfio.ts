/**
 * The VFIO uAPI of Linux 7.2 (include/uapi/linux/vfio.h), byte for byte. Embedded structures are flattened to
 * `outer.inner`; flexible array members at the end are left out.
 */
import { s32, struct, u16, u32, u64, u8 } from '#vmm/base/wire';

/** Constants of vfio.h: request numbers, flags, types. */
// prettier-ignore
export const vfioUapi = {
  VFIO_API_VERSION: 0,
  VFIO_TYPE1_IOMMU: 1,
  VFIO_SPAPR_TCE_IOMMU: 2,
  VFIO_TYPE1v2_IOMMU: 3,
  VFIO_DMA_CC_IOMMU: 4,
  VFIO_EEH: 5,
  __VFIO_RESERVED_TYPE1_NESTING_IOMMU: 6,
  VFIO_SPAPR_TCE_v2_IOMMU: 7,
  VFIO_NOIOMMU_IOMMU: 8,
  VFIO_UNMAP_ALL: 9,
  VFIO_UPDATE_VADDR: 10,
  VFIO_TYPE: 59,
  VFIO_BASE: 100,
  VFIO_GET_API_VERSION: 0x3b64,
  VFIO_CHECK_EXTENSION: 0x3b65,
  VFIO_SET_IOMMU: 0x3b66,
  VFIO_GROUP_FLAGS_VIABLE: 1,
  VFIO_GROUP_FLAGS_CONTAINER_SET: 2,
  VFIO_GROUP_GET_STATUS: 0x3b67,
  VFIO_GROUP_SET_CONTAINER: 0x3b68,
  VFIO_GROUP_UNSET_CONTAINER: 0x3b69,
  VFIO_GROUP_GET_DEVICE_FD: 0x3b6a,
  VFIO_DEVICE_FLAGS_RESET: 1,
  VFIO_DEVICE_FLAGS_PCI: 2,
  VFIO_DEVICE_FLAGS_PLATFORM: 4,
  VFIO_DEVICE_FLAGS_AMBA: 8,
  VFIO_DEVICE_FLAGS_CCW: 16,
  VFIO_DEVICE_FLAGS_AP: 32,
  VFIO_DEVICE_FLAGS_FSL_MC: 64,
  VFIO_DEVICE_FLAGS_CAPS: 128,
  VFIO_DEVICE_FLAGS_CDX: 0x100,
  VFIO_DEVICE_GET_INFO: 0x3b6b,
  VFIO_DEVICE_API_PCI_STRING: 'vfio-pci',
  VFIO_DEVICE_API_PLATFORM_STRING: 'vfio-platform',
  VFIO_DEVICE_API_AMBA_STRING: 'vfio-amba',
  VFIO_DEVICE_API_CCW_STRING: 'vfio-ccw',
  VFIO_DEVICE_API_AP_STRING: 'vfio-ap',
  VFIO_DEVICE_INFO_CAP_ZPCI_BASE: 1,
  VFIO_DEVICE_INFO_CAP_ZPCI_GROUP: 2,
  VFIO_DEVICE_INFO_CAP_ZPCI_UTIL: 3,
  VFIO_DEVICE_INFO_CAP_ZPCI_PFIP: 4,
  VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP: 5,
  VFIO_PCI_ATOMIC_COMP32: 1,
  VFIO_PCI_ATOMIC_COMP64: 2,
  VFIO_PCI_ATOMIC_COMP128: 4,
  VFIO_REGION_INFO_FLAG_READ: 1,
  VFIO_REGION_INFO_FLAG_WRITE: 2,
  VFIO_REGION_INFO_FLAG_MMAP: 4,
  VFIO_REGION_INFO_FLAG_CAPS: 8,
  VFIO_DEVICE_GET_REGION_INFO: 0x3b6c,
  VFIO_REGION_INFO_CAP_SPARSE_MMAP: 1,
  VFIO_REGION_INFO_CAP_TYPE: 2,
  VFIO_REGION_TYPE_PCI_VENDOR_TYPE: -0x80000000,
  VFIO_REGION_TYPE_PCI_VENDOR_MASK: 0xffff,
  VFIO_REGION_TYPE_GFX: 1,
  VFIO_REGION_TYPE_CCW: 2,
  VFIO_REGION_TYPE_MIGRATION_DEPRECATED: 3,
  VFIO_REGION_SUBTYPE_INTEL_IGD_OPREGION: 1,
  VFIO_REGION_SUBTYPE_INTEL_IGD_HOST_CFG: 2,
  VFIO_REGION_SUBTYPE_INTEL_IGD_LPC_CFG: 3,
  VFIO_REGION_SUBTYPE_NVIDIA_NVLINK2_RAM: 1,
  VFIO_REGION_SUBTYPE_IBM_NVLINK2_ATSD: 1,
  VFIO_REGION_SUBTYPE_GFX_EDID: 1,
  VFIO_DEVICE_GFX_LINK_STATE_UP: 1,
  VFIO_DEVICE_GFX_LINK_STATE_DOWN: 2,
  VFIO_REGION_SUBTYPE_CCW_ASYNC_CMD: 1,
  VFIO_REGION_SUBTYPE_CCW_SCHIB: 2,
  VFIO_REGION_SUBTYPE_CCW_CRW: 3,
  VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED: 1,
  VFIO_DEVICE_STATE_V1_STOP: 0,
  VFIO_DEVICE_STATE_V1_RUNNING: 1,
  VFIO_DEVICE_STATE_V1_SAVING: 2,
  VFIO_DEVICE_STATE_V1_RESUMING: 4,
  VFIO_DEVICE_STATE_MASK: 7,
  VFIO_REGION_INFO_CAP_MSIX_MAPPABLE: 3,
  VFIO_REGION_INFO_CAP_NVLINK2_SSATGT: 4,
  VFIO_REGION_INFO_CAP_NVLINK2_LNKSPD: 5,
  VFIO_IRQ_INFO_EVENTFD: 1,
  VFIO_IRQ_INFO_MASKABLE: 2,
  VFIO_IRQ_INFO_AUTOMASKED: 4,
  VFIO_IRQ_INFO_NORESIZE: 8,
  VFIO_DEVICE_GET_IRQ_INFO: 0x3b6d,
  VFIO_IRQ_SET_DATA_NONE: 1,
  VFIO_IRQ_SET_DATA_BOOL: 2,
  VFIO_IRQ_SET_DATA_EVENTFD: 4,
  VFIO_IRQ_SET_ACTION_MASK: 8,
  VFIO_IRQ_SET_ACTION_UNMASK: 16,
  VFIO_IRQ_SET_ACTION_TRIGGER: 32,
  VFIO_DEVICE_SET_IRQS: 0x3b6e,
  VFIO_IRQ_SET_DATA_TYPE_MASK: 7,
  VFIO_IRQ_SET_ACTION_TYPE_MASK: 56,
  VFIO_DEVICE_RESET: 0x3b6f,
  VFIO_PCI_DEVID_OWNED: 0,
  VFIO_PCI_DEVID_NOT_OWNED: -1,
  VFIO_PCI_HOT_RESET_FLAG_DEV_ID: 1,
  VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED: 2,
  VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: 0x3b70,
  VFIO_DEVICE_PCI_HOT_RESET: 0x3b71,
  VFIO_GFX_PLANE_TYPE_PROBE: 1,
  VFIO_GFX_PLANE_TYPE_DMABUF: 2,
  VFIO_GFX_PLANE_TYPE_REGION: 4,
  VFIO_DEVICE_QUERY_GFX_PLANE: 0x3b72,
  VFIO_DEVICE_GET_GFX_DMABUF: 0x3b73,
  VFIO_DEVICE_IOEVENTFD_8: 1,
  VFIO_DEVICE_IOEVENTFD_16: 2,
  VFIO_DEVICE_IOEVENTFD_32: 4,
  VFIO_DEVICE_IOEVENTFD_64: 8,
  VFIO_DEVICE_IOEVENTFD_SIZE_MASK: 15,
  VFIO_DEVICE_IOEVENTFD: 0x3b74,
  VFIO_DEVICE_FEATURE_MASK: 0xffff,
  VFIO_DEVICE_FEATURE_GET: 0x10000,
  VFIO_DEVICE_FEATURE_SET: 0x20000,
  VFIO_DEVICE_FEATURE_PROBE: 0x40000,
  VFIO_DEVICE_FEATURE: 0x3b75,
  VFIO_DEVICE_BIND_FLAG_TOKEN: 1,
  VFIO_DEVICE_BIND_IOMMUFD: 0x3b76,
  VFIO_DEVICE_ATTACH_PASID: 1,
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: 0x3b77,
  VFIO_DEVICE_DETACH_PASID: 1,
  VFIO_DEVICE_DETACH_IOMMUFD_PT: 0x3b78,
  VFIO_DEVICE_FEATURE_PCI_VF_TOKEN: 0,
  VFIO_MIGRATION_STOP_COPY: 1,
  VFIO_MIGRATION_P2P: 2,
  VFIO_MIGRATION_PRE_COPY: 4,
  VFIO_DEVICE_FEATURE_MIGRATION: 1,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE: 2,
  VFIO_PRECOPY_INFO_REINIT: 1,
  VFIO_MIG_GET_PRECOPY_INFO: 0x3b79,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY: 3,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP: 4,
  VFIO_DEVICE_FEATURE_LOW_POWER_EXIT: 5,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START: 6,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP: 7,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT: 8,
  VFIO_DEVICE_FEATURE_MIG_DATA_SIZE: 9,
  VFIO_DEVICE_FEATURE_CLEAR_MASTER: 0,
  VFIO_DEVICE_FEATURE_SET_MASTER: 1,
  VFIO_DEVICE_FEATURE_BUS_MASTER: 10,
  VFIO_DEVICE_FEATURE_DMA_BUF: 11,
  VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2: 12,
  VFIO_IOMMU_INFO_PGSIZES: 1,
  VFIO_IOMMU_INFO_CAPS: 2,
  VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE: 1,
  VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION: 2,
  VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL: 3,
  VFIO_IOMMU_GET_INFO: 0x3b70,
  VFIO_DMA_MAP_FLAG_READ: 1,
  VFIO_DMA_MAP_FLAG_WRITE: 2,
  VFIO_DMA_MAP_FLAG_VADDR: 4,
  VFIO_IOMMU_MAP_DMA: 0x3b71,
  VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP: 1,
  VFIO_DMA_UNMAP_FLAG_ALL: 2,
  VFIO_DMA_UNMAP_FLAG_VADDR: 4,
  VFIO_IOMMU_UNMAP_DMA: 0x3b72,
  VFIO_IOMMU_ENABLE: 0x3b73,
  VFIO_IOMMU_DISABLE: 0x3b74,
  VFIO_IOMMU_DIRTY_PAGES_FLAG_START: 1,
  VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP: 2,
  VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP: 4,
  VFIO_IOMMU_DIRTY_PAGES: 0x3b75,
  VFIO_IOMMU_SPAPR_INFO_DDW: 1,
  VFIO_IOMMU_SPAPR_TCE_GET_INFO: 0x3b70,
  VFIO_EEH_PE_DISABLE: 0,
  VFIO_EEH_PE_ENABLE: 1,
  VFIO_EEH_PE_UNFREEZE_IO: 2,
  VFIO_EEH_PE_UNFREEZE_DMA: 3,
  VFIO_EEH_PE_GET_STATE: 4,
  VFIO_EEH_PE_STATE_NORMAL: 0,
  VFIO_EEH_PE_STATE_RESET: 1,
  VFIO_EEH_PE_STATE_STOPPED: 2,
  VFIO_EEH_PE_STATE_STOPPED_DMA: 4,
  VFIO_EEH_PE_STATE_UNAVAIL: 5,
  VFIO_EEH_PE_RESET_DEACTIVATE: 5,
  VFIO_EEH_PE_RESET_HOT: 6,
  VFIO_EEH_PE_RESET_FUNDAMENTAL: 7,
  VFIO_EEH_PE_CONFIGURE: 8,
  VFIO_EEH_PE_INJECT_ERR: 9,
  VFIO_EEH_PE_OP: 0x3b79,
  VFIO_IOMMU_SPAPR_REGISTER_MEMORY: 0x3b75,
  VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY: 0x3b76,
  VFIO_IOMMU_SPAPR_TCE_CREATE: 0x3b77,
  VFIO_IOMMU_SPAPR_TCE_REMOVE: 0x3b78,
  VFIO_PCI_BAR0_REGION_INDEX: 0,
  VFIO_PCI_BAR1_REGION_INDEX: 1,
  VFIO_PCI_BAR2_REGION_INDEX: 2,
  VFIO_PCI_BAR3_REGION_INDEX: 3,
  VFIO_PCI_BAR4_REGION_INDEX: 4,
  VFIO_PCI_BAR5_REGION_INDEX: 5,
  VFIO_PCI_ROM_REGION_INDEX: 6,
  VFIO_PCI_CONFIG_REGION_INDEX: 7,
  VFIO_PCI_VGA_REGION_INDEX: 8,
  VFIO_PCI_NUM_REGIONS: 9,
  VFIO_PCI_INTX_IRQ_INDEX: 0,
  VFIO_PCI_MSI_IRQ_INDEX: 1,
  VFIO_PCI_MSIX_IRQ_INDEX: 2,
  VFIO_PCI_ERR_IRQ_INDEX: 3,
  VFIO_PCI_REQ_IRQ_INDEX: 4,
  VFIO_PCI_NUM_IRQS: 5,
  VFIO_CCW_CONFIG_REGION_INDEX: 0,
  VFIO_CCW_NUM_REGIONS: 1,
  VFIO_CCW_IO_IRQ_INDEX: 0,
  VFIO_CCW_CRW_IRQ_INDEX: 1,
  VFIO_CCW_REQ_IRQ_INDEX: 2,
  VFIO_CCW_NUM_IRQS: 3,
  VFIO_AP_REQ_IRQ_INDEX: 0,
  VFIO_AP_CFG_CHG_IRQ_INDEX: 1,
  VFIO_AP_NUM_IRQS: 2,
  VFIO_DEVICE_STATE_ERROR: 0,
  VFIO_DEVICE_STATE_STOP: 1,
  VFIO_DEVICE_STATE_RUNNING: 2,
  VFIO_DEVICE_STATE_STOP_COPY: 3,
  VFIO_DEVICE_STATE_RESUMING: 4,
  VFIO_DEVICE_STATE_RUNNING_P2P: 5,
  VFIO_DEVICE_STATE_PRE_COPY: 6,
  VFIO_DEVICE_STATE_PRE_COPY_P2P: 7,
} as const;

export const vfio_info_cap_header = struct('vfio_info_cap_header', { id: u16, version: u16, next: u32 });
export const vfio_group_status = struct('vfio_group_status', { argsz: u32, flags: u32 });
export const vfio_device_info = struct('vfio_device_info', {
  argsz: u32,
  flags: u32,
  num_regions: u32,
  num_irqs: u32,
  cap_offset: u32,
  pad: u32,
});
export const vfio_device_info_cap_pci_atomic_comp = struct('vfio_device_info_cap_pci_atomic_comp', {
  'header.id': u16,
  'header.version': u16,
  'header.next': u32,
  flags: u32,
  reserved: u32,
});
export const vfio_region_info = struct('vfio_region_info', {
  argsz: u32,
  flags: u32,
  index: u32,
  cap_offset: u32,
  size: u64,
  offset: u64,
});
export const vfio_region_sparse_mmap_area = struct('vfio_region_sparse_mmap_area', { offset: u64, size: u64 });
export const vfio_region_info_cap_sparse_mmap = struct('vfio_region_info_cap_sparse_mmap', {
  'header.id': u16,
  'header.version': u16,
  'header.next': u32,
  nr_areas: u32,
  reserved: u32,
});
export const vfio_region_info_cap_type = struct('vfio_region_info_cap_type', {
  'header.id': u16,
  'header.version': u16,
  'header.next': u32,
  type: u32,
  subtype: u32,
});
export const vfio_region_gfx_edid = struct('vfio_region_gfx_edid', {
  edid_offset: u32,
  edid_max_size: u32,
  edid_size: u32,
  max_xres: u32,
  max_yres: u32,
  link_state: u32,
});
export const vfio_device_migration_info = struct('vfio_device_migration_info', {
  device_state: u32,
  reserved: u32,
  pending_bytes: u64,
  data_offset: u64,
  data_size: u64,
});
export const vfio_region_info_cap_nvlink2_ssatgt = struct('vfio_region_info_cap_nvlink2_ssatgt', {
  'header.id': u16,
  'header.version': u16,
  'header.next': u32,
  tgt: u64,
});
export const vfio_region_info_cap_nvlink2_lnkspd = struct('vfio_region_info_cap_nvlink2_lnkspd', {
  'header.id': u16,
  'header.version': u16,
  'header.next': u32,
  link_speed: u32,
  __pad: u32,
});
export const vfio_irq_info = struct('vfio_irq_info', { argsz: u32, flags: u32, index: u32, count: u32 });
export const vfio_irq_set = struct('vfio_irq_set', { argsz: u32, flags: u32, index: u32, start: u32, count: u32 });
export const vfio_pci_dependent_device = struct('vfio_pci_dependent_device', {
  group_id: u32,
  segment: u16,
  bus: u8,
  devfn: u8,
});
export const vfio_pci_hot_reset_info = struct('vfio_pci_hot_reset_info', { argsz: u32, flags: u32, count: u32 });
export const vfio_pci_hot_reset = struct('vfio_pci_hot_reset', { argsz: u32, flags: u32, count: u32 });
export const vfio_device_gfx_plane_info = struct('vfio_device_gfx_plane_info', {
  argsz: u32,
  flags: u32,
  drm_plane_type: u32,
  drm_format: u32,
  drm_format_mod: u64,
  width: u32,
  height: u32,
  stride: u32,
  size: u32,
  x_pos: u32,
  y_pos: u32,
  x_hot: u32,
  y_hot: u32,
  region_index: u32,
  reserved: u32,
});
export const vfio_device_ioeventfd = struct('vfio_device_ioeventfd', {
  argsz: u32,
  flags: u32,
  offset: u64,
  data: u64,
  fd: s32,
  reserved: u32,
});
export const vfio_device_feature = struct('vfio_device_feature', { argsz: u32, flags: u32 });
export const vfio_device_bind_iommufd = struct('vfio_device_bind_iommufd', {
  argsz: u32,
  flags: u32,
  iommufd: s32,
  out_devid: u32,
  token_uuid_ptr: u64,
});
export const vfio_device_attach_iommufd_pt = struct('vfio_device_attach_iommufd_pt', {
  argsz: u32,
  flags: u32,
  pt_id: u32,
  pasid: u32,
});
export const vfio_device_detach_iommufd_pt = struct('vfio_device_detach_iommufd_pt', {
  argsz: u32,
  flags: u32,
  pasid: u32,
});
export const vfio_device_feature_migration = struct('vfio_device_feature_migration', { flags: u64 });
export const vfio_device_feature_mig_state = struct('vfio_device_feature_mig_state', {
  device_state: u32,
  data_fd: s32,
});
export const vfio_precopy_info = struct('vfio_precopy_info', {
  argsz: u32,
  flags: u32,
  initial_bytes: u64,
  dirty_bytes: u64,
});
export const vfio_device_low_power_entry_with_wakeup = struct('vfio_device_low_power_entry_with_wakeup', {
  wakeup_eventfd: s32,
  reserved: u32,
});
export const vfio_device_feature_dma_logging_control = struct('vfio_device_feature_dma_logging_control', {
  page_size: u64,
  num_ranges: u32,
  __reserved: u32,
  ranges: u64,
});
export const vfio_device_feature_dma_logging_range = struct('vfio_device_feature_dma_logging_range', {
  iova: u64,
  length: u64,
});
export const vfio_device_feature_dma_logging_report = struct('vfio_device_feature_dma_logging_report', {
  iova: u64,
  length: u64,
  page_size: u64,
  bitmap: u64,
});
export const vfio_device_feature_mig_data_size = struct('vfio_device_feature_mig_data_size', { stop_copy_length: u64 });
export const vfio_device_feature_bus_master = struct('vfio_device_feature_bus_master', { op: u32 });
export const vfio_region_dma_range = struct('vfio_region_dma_range', { offset: u64, length: u64 });
export const vfio_device_feature_dma_buf = struct('vfio_device_feature_dma_buf', {
  region_index: u32,
  open_flags: u32,
  flags: u32,
  nr_ranges: u32,
});
export const vfio_iommu_type1_info = struct('vfio_iommu_type1_info', {
  argsz: u32,
  flags: u32,
  iova_pgsizes: u64,
  cap_offset: u32,
  pad: u32,
});
export const vfio_iova_range = struct('vfio_iova_range', { start: u64, end: u64 });
export const vfio_iommu_type1_info_cap_iova_range = struct('vfio_iommu_type1_info_cap_iova_range', {
  'header.id': u16,
  'header.version': u16,
  'header.next': u32,
  nr_iovas: u32,
  reserved: u32,
});
export const vfio_iommu_type1_info_cap_migration = struct('vfio_iommu_type1_info_cap_migration', {
  'header.id': u16,
  'header.version': u16,
  'header.next': u32,
  flags: u32,
  pgsize_bitmap: u64,
  max_dirty_bitmap_size: u64,
});
export const vfio_iommu_type1_info_dma_avail = struct('vfio_iommu_type1_info_dma_avail', {
  'header.id': u16,
  'header.version': u16,
  'header.next': u32,
  avail: u32,
});
export const vfio_iommu_type1_dma_map = struct('vfio_iommu_type1_dma_map', {
  argsz: u32,
  flags: u32,
  vaddr: u64,
  iova: u64,
  size: u64,
});
export const vfio_bitmap = struct('vfio_bitmap', { pgsize: u64, size: u64, data: u64 });
export const vfio_iommu_type1_dma_unmap = struct('vfio_iommu_type1_dma_unmap', {
  argsz: u32,
  flags: u32,
  iova: u64,
  size: u64,
});
export const vfio_iommu_type1_dirty_bitmap = struct('vfio_iommu_type1_dirty_bitmap', { argsz: u32, flags: u32 });
export const vfio_iommu_type1_dirty_bitmap_get = struct('vfio_iommu_type1_dirty_bitmap_get', {
  iova: u64,
  size: u64,
  'bitmap.pgsize': u64,
  'bitmap.size': u64,
  'bitmap.data': u64,
});
export const vfio_iommu_spapr_tce_ddw_info = struct('vfio_iommu_spapr_tce_ddw_info', {
  pgsizes: u64,
  max_dynamic_windows_supported: u32,
  levels: u32,
});
export const vfio_iommu_spapr_tce_info = struct('vfio_iommu_spapr_tce_info', {
  argsz: u32,
  flags: u32,
  dma32_window_start: u32,
  dma32_window_size: u32,
  'ddw.pgsizes': u64,
  'ddw.max_dynamic_windows_supported': u32,
  'ddw.levels': u32,
});
export const vfio_eeh_pe_err = struct('vfio_eeh_pe_err', { type: u32, func: u32, addr: u64, mask: u64 });
export const vfio_eeh_pe_op = struct('vfio_eeh_pe_op', {
  argsz: u32,
  flags: u32,
  op: u32,
  'err.type': u32,
  'err.func': u32,
  'err.addr': u64,
  'err.mask': u64,
});
export const vfio_iommu_spapr_register_memory = struct('vfio_iommu_spapr_register_memory', {
  argsz: u32,
  flags: u32,
  vaddr: u64,
  size: u64,
});
export const vfio_iommu_spapr_tce_create = struct('vfio_iommu_spapr_tce_create', {
  argsz: u32,
  flags: u32,
  page_shift: u32,
  __resv1: u32,
  window_size: u64,
  levels: u32,
  __resv2: u32,
  start_addr: u64,
});
export const vfio_iommu_spapr_tce_remove = struct('vfio_iommu_spapr_tce_remove', {
  argsz: u32,
  flags: u32,
  start_addr: u64,
});
