/**
 * The test interface of iommufd in Linux 7.2 (drivers/iommu/iommufd/iommufd_test.h), byte for byte.
 * `iommu_test_cmd_<op>` is the command with one alternative of its union.
 */
import { s32, struct, u32, u64 } from '#vmm/base/wire';

/** Constants of iommufd_test.h: request numbers, flags, types. */
// prettier-ignore
export const selftestUapi = {
  IOMMU_TEST_PASID_RESERVED: 0x400,
  IOMMU_TEST_CMD: 0x3ba0,
  MOCK_PASID_WIDTH: 20,
  IOMMU_HW_INFO_TYPE_SELFTEST: 0xfeedbeef,
  IOMMU_HW_INFO_SELFTEST_REGVAL: 0xdeadbeef,
  IOMMU_HWPT_DATA_SELFTEST: 0xdead,
  IOMMU_TEST_IOTLB_DEFAULT: 0xbadbeef,
  IOMMU_TEST_DEV_CACHE_DEFAULT: 0xbaddad,
  IOMMU_HWPT_INVALIDATE_DATA_SELFTEST: 0xdeadbeef,
  IOMMU_HWPT_INVALIDATE_DATA_SELFTEST_INVALID: 0xdadbeef,
  IOMMU_TEST_INVALIDATE_FLAG_ALL: 1,
  IOMMU_VIOMMU_TYPE_SELFTEST: 0xdeadbeef,
  IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST: 0xdeadbeef,
  IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST_INVALID: 0xdadbeef,
  IOMMU_VEVENTQ_TYPE_SELFTEST: 0xbeefbeef,
  IOMMU_HW_QUEUE_TYPE_SELFTEST: 0xdeadbeef,
  IOMMU_TEST_HW_QUEUE_MAX: 2,
  IOMMU_TEST_OP_ADD_RESERVED: 1,
  IOMMU_TEST_OP_MOCK_DOMAIN: 2,
  IOMMU_TEST_OP_MD_CHECK_MAP: 3,
  IOMMU_TEST_OP_MD_CHECK_REFS: 4,
  IOMMU_TEST_OP_CREATE_ACCESS: 5,
  IOMMU_TEST_OP_DESTROY_ACCESS_PAGES: 6,
  IOMMU_TEST_OP_ACCESS_PAGES: 7,
  IOMMU_TEST_OP_ACCESS_RW: 8,
  IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT: 9,
  IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE: 10,
  IOMMU_TEST_OP_ACCESS_REPLACE_IOAS: 11,
  IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS: 12,
  IOMMU_TEST_OP_DIRTY: 13,
  IOMMU_TEST_OP_MD_CHECK_IOTLB: 14,
  IOMMU_TEST_OP_TRIGGER_IOPF: 15,
  IOMMU_TEST_OP_DEV_CHECK_CACHE: 16,
  IOMMU_TEST_OP_TRIGGER_VEVENT: 17,
  IOMMU_TEST_OP_PASID_ATTACH: 18,
  IOMMU_TEST_OP_PASID_REPLACE: 19,
  IOMMU_TEST_OP_PASID_DETACH: 20,
  IOMMU_TEST_OP_PASID_CHECK_HWPT: 21,
  IOMMU_TEST_OP_DMABUF_GET: 22,
  IOMMU_TEST_OP_DMABUF_REVOKE: 23,
  MOCK_IOMMUPT_DEFAULT: 0,
  MOCK_IOMMUPT_HUGE: 1,
  MOCK_APERTURE_START: 0x1000000,
  MOCK_APERTURE_LAST: 0x7fffffff,
  MOCK_PAGE_SIZE: 0x800,
  MOCK_HUGE_PAGE_SIZE: 0x100000,
  MOCK_FLAGS_ACCESS_WRITE: 1,
  MOCK_FLAGS_ACCESS_SYZ: 0x10000,
  MOCK_ACCESS_RW_WRITE: 1,
  MOCK_ACCESS_RW_SLOW_PATH: 4,
  MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES: 1,
  MOCK_FLAGS_DEVICE_NO_DIRTY: 1,
  MOCK_FLAGS_DEVICE_PASID: 4,
  MOCK_NESTED_DOMAIN_IOTLB_ID_MAX: 3,
  MOCK_NESTED_DOMAIN_IOTLB_NUM: 4,
  MOCK_DEV_CACHE_ID_MAX: 3,
} as const;

export const iommu_test_cmd = struct('iommu_test_cmd', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'arguments[0]': u64,
  'arguments[1]': u64,
  'arguments[2]': u64,
  'arguments[3]': u64,
  'arguments[4]': u64,
  'arguments[5]': u64,
  last: u32,
});
export const iommu_test_hw_info = struct('iommu_test_hw_info', { flags: u32, test_reg: u32 });
export const iommu_hwpt_selftest = struct('iommu_hwpt_selftest', { iotlb: u32, pagetable_type: u32 });
export const iommu_hwpt_invalidate_selftest = struct('iommu_hwpt_invalidate_selftest', { flags: u32, iotlb_id: u32 });
export const iommu_viommu_selftest = struct('iommu_viommu_selftest', {
  in_data: u32,
  out_data: u32,
  out_mmap_offset: u64,
  out_mmap_length: u64,
});
export const iommu_viommu_invalidate_selftest = struct('iommu_viommu_invalidate_selftest', {
  flags: u32,
  vdev_id: u32,
  cache_id: u32,
});
export const iommu_viommu_event_selftest = struct('iommu_viommu_event_selftest', { virt_id: u32 });

// Alternatives of the union in struct iommu_test_cmd.
export const iommu_test_cmd_add_reserved = struct('iommu_test_cmd_add_reserved', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'add_reserved.start': u64,
  'add_reserved.length': u64,
});
export const iommu_test_cmd_mock_domain = struct('iommu_test_cmd_mock_domain', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'mock_domain.out_stdev_id': u32,
  'mock_domain.out_hwpt_id': u32,
  'mock_domain.out_idev_id': u32,
});
export const iommu_test_cmd_mock_domain_flags = struct('iommu_test_cmd_mock_domain_flags', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'mock_domain_flags.out_stdev_id': u32,
  'mock_domain_flags.out_hwpt_id': u32,
  'mock_domain_flags.out_idev_id': u32,
  'mock_domain_flags.dev_flags': u32,
});
export const iommu_test_cmd_mock_domain_replace = struct('iommu_test_cmd_mock_domain_replace', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'mock_domain_replace.pt_id': u32,
});
export const iommu_test_cmd_check_map = struct('iommu_test_cmd_check_map', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'check_map.iova': u64,
  'check_map.length': u64,
  'check_map.uptr': u64,
});
export const iommu_test_cmd_check_refs = struct('iommu_test_cmd_check_refs', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'check_refs.length': u64,
  'check_refs.uptr': u64,
  'check_refs.refs': u32,
});
export const iommu_test_cmd_create_access = struct('iommu_test_cmd_create_access', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'create_access.out_access_fd': u32,
  'create_access.flags': u32,
});
export const iommu_test_cmd_destroy_access_pages = struct('iommu_test_cmd_destroy_access_pages', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'destroy_access_pages.access_pages_id': u32,
});
export const iommu_test_cmd_access_pages = struct('iommu_test_cmd_access_pages', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'access_pages.flags': u32,
  'access_pages.out_access_pages_id': u32,
  'access_pages.iova': u64,
  'access_pages.length': u64,
  'access_pages.uptr': u64,
});
export const iommu_test_cmd_access_rw = struct('iommu_test_cmd_access_rw', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'access_rw.iova': u64,
  'access_rw.length': u64,
  'access_rw.uptr': u64,
  'access_rw.flags': u32,
});
export const iommu_test_cmd_memory_limit = struct('iommu_test_cmd_memory_limit', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'memory_limit.limit': u32,
});
export const iommu_test_cmd_access_replace_ioas = struct('iommu_test_cmd_access_replace_ioas', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'access_replace_ioas.ioas_id': u32,
});
export const iommu_test_cmd_dirty = struct('iommu_test_cmd_dirty', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'dirty.flags': u32,
  'dirty.iova': u64,
  'dirty.length': u64,
  'dirty.page_size': u64,
  'dirty.uptr': u64,
  'dirty.out_nr_dirty': u64,
});
export const iommu_test_cmd_check_iotlb = struct('iommu_test_cmd_check_iotlb', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'check_iotlb.id': u32,
  'check_iotlb.iotlb': u32,
});
export const iommu_test_cmd_trigger_iopf = struct('iommu_test_cmd_trigger_iopf', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'trigger_iopf.dev_id': u32,
  'trigger_iopf.pasid': u32,
  'trigger_iopf.grpid': u32,
  'trigger_iopf.perm': u32,
  'trigger_iopf.addr': u64,
});
export const iommu_test_cmd_check_dev_cache = struct('iommu_test_cmd_check_dev_cache', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'check_dev_cache.id': u32,
  'check_dev_cache.cache': u32,
});
export const iommu_test_cmd_trigger_vevent = struct('iommu_test_cmd_trigger_vevent', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'trigger_vevent.dev_id': u32,
});
export const iommu_test_cmd_pasid_attach = struct('iommu_test_cmd_pasid_attach', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'pasid_attach.pasid': u32,
  'pasid_attach.pt_id': u32,
});
export const iommu_test_cmd_pasid_replace = struct('iommu_test_cmd_pasid_replace', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'pasid_replace.pasid': u32,
  'pasid_replace.pt_id': u32,
});
export const iommu_test_cmd_pasid_detach = struct('iommu_test_cmd_pasid_detach', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'pasid_detach.pasid': u32,
});
export const iommu_test_cmd_pasid_check = struct('iommu_test_cmd_pasid_check', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'pasid_check.pasid': u32,
  'pasid_check.hwpt_id': u32,
});
export const iommu_test_cmd_dmabuf_get = struct('iommu_test_cmd_dmabuf_get', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'dmabuf_get.length': u32,
  'dmabuf_get.open_flags': u32,
});
export const iommu_test_cmd_dmabuf_revoke = struct('iommu_test_cmd_dmabuf_revoke', {
  size: u32,
  op: u32,
  id: u32,
  __reserved: u32,
  'dmabuf_revoke.dmabuf_fd': s32,
  'dmabuf_revoke.revoked': u32,
});
