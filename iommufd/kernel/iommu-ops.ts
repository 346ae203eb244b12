/**
 * The boundary between the iommufd core and a driver of one physical IOMMU, after Linux's `iommu_ops`,
 * `iommu_domain_ops`, `iommufd_viommu_ops` and `iommu_dirty_ops` (include/linux/iommu.h, iommufd.h of 7.2).
 *
 * A driver implements `IommuDriver`; everything it returns (devices, domains, vIOMMUs) are objects of its own classes
 * that carry whatever private state it needs. The core never looks into them beyond these interfaces, and always hands
 * back the very objects it was given.
 *
 * Conventions
 * - `Errno`: 0 is success, otherwise a positive value of `errno` (vmm/base/errno). No op throws.
 * - `T | Errno`: the object, or a non-zero errno.
 * - IOVAs travel as two unsigned 32-bit halves (`iovaHi`, `iovaLo`); host-physical addresses and byte counts are
 *   numbers (exact below 2^53). Nothing between `map` and the page-table store needs a bigint.
 * - `pasid` is 1 … 2^20-1, or `noPasid` (-1, vmm/base/ports) for the RID itself.
 */
import type { Rid } from '#vmm/base/address';
import type { Data, Saved } from '#vmm/base/saved';

/** 0, or a positive errno. */
export type Errno = number;

// ── What a driver is told of a device ───────────────────────────────────────────────────────────────────────────────

/** A PCI function of the host as the kernel sees it (`struct device`/`struct pci_dev`). */
export interface HostDevice {
  /** For traces and messages: `vfio0`, `0000:00:01.0`. */
  readonly name: string;
  readonly rid: Rid;
  /** ATS capability present. */
  readonly ats: boolean;
  /** Page Request Interface capability present (needs `ats`). */
  readonly pri: boolean;
  /** PASID capability: log2 of the PASIDs the function can use (0 = no PASID capability), with its two permissions. */
  readonly pasidBits: number;
  readonly pasidExec: boolean;
  readonly pasidPriv: boolean;
}

/** `struct dev_iommu`: what the driver knows of one probed device. One object per device, made by `probeDevice`. */
export interface IommuDevice {
  readonly host: HostDevice;
  /**
   * PASIDs this device may use behind this IOMMU: min(IOMMU, device), 0 = none; a PASID must be below it.
   * Reported as `out_max_pasid_log2`.
   */
  readonly maxPasids: number;
}

/** Kinds of reserved IOVA region (`enum iommu_resv_type`). `msi` and `reserved` may not be mapped by user space. */
export type ReservedKind = 'direct' | 'direct-relaxable' | 'reserved' | 'msi' | 'sw-msi';
export interface ReservedRegion {
  readonly first: bigint;
  /** Inclusive. */
  readonly last: bigint;
  readonly kind: ReservedKind;
}

/** IOMMU-wide facts about a device (`enum iommu_cap` and friends). */
export interface DeviceCapabilities {
  /** IOMMU_CAP_CACHE_COHERENCY: DMA is coherent. Without it VFIO_DEVICE_BIND_IOMMUFD fails with EINVAL. */
  readonly cacheCoherency: boolean;
  /** IOMMU_CAP_DIRTY_TRACKING: paging domains can be made with dirty tracking. */
  readonly dirtyTracking: boolean;
  /** IOMMU_CAP_PCI_ATS_SUPPORTED: the IOMMU and the device together support ATS. */
  readonly ats: boolean;
}

// ── User data: driver-specific bytes of an ioctl ────────────────────────────────────────────────────────────────────

/** `struct iommu_user_data`: one driver-specific structure in user memory. */
export interface UserData {
  /** `data_type` as user space gave it. */
  readonly type: number;
  /** Bytes at the user's pointer. */
  readonly length: number;
  /**
   * `iommu_copy_struct_from_user`: EINVAL when the type is not `type`, or the user gave fewer than `minBytes` or more
   * than `bytes`; missing bytes read as zero; EFAULT. The result is a fresh array of `bytes`.
   */
  copyStruct(type: number, bytes: number, minBytes: number): Uint8Array | Errno;
  /**
   * `iommu_copy_struct_to_user`: hands a structure back through the same pointer. EINVAL when the type differs, or the
   * user's length is below `minBytes` or above `source.length`; EFAULT.
   */
  copyBack(type: number, source: Uint8Array, minBytes: number): Errno;
}

/** `struct iommu_user_data_array`: the invalidation requests of one IOMMU_HWPT_INVALIDATE. */
export interface UserDataArray {
  readonly type: number;
  /** Bytes between entries (1 … 4096 when `count` is not 0). */
  readonly entryLength: number;
  /** Requests in the array, at most 2^19; 0 only probes for support of `type`. */
  readonly count: number;
  /**
   * `iommu_copy_struct_from_user_array`: entry `index` into `target` (whole length; a shorter user entry is
   * zero-filled). EINVAL for another type, an index beyond the array, an entry below `minBytes` or longer than
   * `target`; EFAULT. Allocates nothing.
   */
  copyEntry(index: number, target: Uint8Array, type: number, minBytes: number): Errno;
  /**
   * `iommu_copy_struct_from_full_user_array`: all entries into `target`, `entryBytes` each (`target` has room for
   * `count` of them): one copy when the user's entries have that size, otherwise shorter ones are zero-filled and
   * longer ones must end in zeroes (E2BIG). EINVAL for another type or an empty array; EFAULT.
   */
  copyAll(target: Uint8Array, entryBytes: number, type: number): Errno;
  /** Requests the driver carried out; the driver must set it (user space sees it in `entry_num`, errors included). */
  handled: number;
}

// ── Domains ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** `map` permissions (IOMMU_READ, IOMMU_WRITE, IOMMU_CACHE, IOMMU_MMIO). */
export const prot = { read: 1, write: 2, cache: 4, mmio: 16 } as const;

interface DomainBase {
  /** The driver that made it. */
  readonly driver: IommuDriver;
  /**
   * True when page requests of devices attached to this domain go to a fault queue. Written by the core before the
   * first attach (`domain->iopf_handler`); a driver enables PRI for a device at attach when it is set, or refuses.
   */
  faultCapable: boolean;
  /** Releases it. The core guarantees that no device is attached and that everything was unmapped. */
  free(): void;
}

/** Receives the dirty sub-ranges of `readAndClearDirty`. */
export interface DirtySink {
  /** `bytes` from this IOVA were written by a device. */
  record(iovaHi: number, iovaLo: number, bytes: number): void;
}

/** A second-stage (or only-stage) page table that the core fills: `__IOMMU_DOMAIN_PAGING`. */
export interface PagingDomain extends DomainBase {
  readonly kind: 'paging';
  /** Bit n set: leaves of 2^n bytes exist. The lowest bit is the smallest page, never above 4096 for guest RAM. */
  readonly pgsizeBitmap: bigint;
  /** IOVAs that can be mapped, inclusive (`geometry.aperture_start/end`). */
  readonly aperture: { readonly first: bigint; readonly last: bigint };
  /** Allocated with IOMMU_HWPT_ALLOC_DIRTY_TRACKING. */
  readonly dirtyTracking: boolean;
  /**
   * Maps one physically contiguous run. `iova`, `hpa` and `bytes` are multiples of the smallest page. The driver
   * chooses, page by page, the largest leaf that alignment of both addresses and the rest of the run allow (the core
   * passes small runs when user space turned huge pages off). The range is not mapped at present.
   * All or nothing: on error (ENOMEM: no table page; ERANGE: outside the aperture) nothing of the run stays mapped.
   */
  map(iovaHi: number, iovaLo: number, hpa: number, bytes: number, prot: number): Errno;
  /**
   * Unmaps exactly what earlier `map` calls put into the range (never half a `map` run that used larger leaves).
   * Returns the bytes unmapped. Empty table pages may be freed only once `sync` made the hardware forget them.
   */
  unmap(iovaHi: number, iovaLo: number, bytes: number): number;
  /** `iotlb_sync`: no cached translation of the range is used once it returns. Called after each batch of unmaps. */
  sync(iovaHi: number, iovaLo: number, bytes: number): void;
  /** Host-physical byte address, or -1 where nothing is mapped. */
  iovaToPhys(iovaHi: number, iovaLo: number): number;
  /** `enforce_cache_coherency`: true when no-snoop DMA is made impossible (absent: false). */
  enforceCacheCoherency?(): boolean;
  /** `set_dirty_tracking`; present when `dirtyTracking`. */
  setDirtyTracking?(enable: boolean): Errno;
  /** `read_and_clear_dirty`: reports the dirty pages of a range; `keep` leaves them dirty (NO_CLEAR). */
  readAndClearDirty?(iovaHi: number, iovaLo: number, bytes: number, keep: boolean, sink: DirtySink): Errno;
}

/** Stage 1 in user (guest) memory: IOMMU_DOMAIN_NESTED. Holds only the user's words; all else is applied at attach. */
export interface NestedDomain extends DomainBase {
  readonly kind: 'nested';
  /**
   * `cache_invalidate_user`: for a nested domain made directly on a parent (not through a vIOMMU). Absent: EOPNOTSUPP.
   * Sets `array.handled`. Unknown `array.type` is EINVAL, also with `count` 0.
   */
  cacheInvalidate?(array: UserDataArray): Errno;
  /** For a snapshot: what `Viommu.restoreNested` makes it from. */
  state?(): Data;
}
export type Domain = PagingDomain | NestedDomain;

// ── vIOMMU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** `struct iommufd_vdevice`: a device under the id that the guest knows it by. */
export interface Vdevice {
  readonly device: IommuDevice;
  /** Virtual id (RID, Stream ID, device_id …): any 64-bit value. */
  readonly virtId: bigint;
}

/** The core's half of a vIOMMU, handed to `viommuInit`; the driver may keep it. */
export interface ViommuCore {
  /** `iommufd_viommu_find_dev`: the device with this virtual id now, or undefined. */
  findDevice(virtId: bigint): IommuDevice | undefined;
  /** `iommufd_viommu_get_vdev_id`: the id the guest knows a device by now, or undefined (no vDEVICE: usually ENOENT). */
  virtualId(device: IommuDevice): bigint | undefined;
  /**
   * `iommufd_viommu_report_event`: queues one event (header excluded) on the event queue of `type`. `bytes` is copied.
   * EOPNOTSUPP when user space made no such queue; ENOMEM never (a full queue records a lost event).
   */
  reportVevent(type: number, bytes: Uint8Array): Errno;
  /**
   * `iommufd_viommu_alloc_mmap`: lets user space mmap a page-aligned range of host MMIO or pool pages through the
   * iommufd, at the offset returned (hand it out in the user data); EINVAL for a bad range. `releaseMmap` undoes it,
   * in `destroy` at the latest.
   */
  allocMmap(hpa: number, bytes: number): { readonly offset: number } | Errno;
  releaseMmap(offset: number): void;
}

/** `struct iommufd_hw_queue` as the driver needs it. */
export interface HwQueueRequest {
  readonly type: number;
  readonly index: number;
  /** IOVA (guest address) of the queue memory, and its contiguous, pinned host-physical address. */
  readonly address: bigint;
  readonly hpa: number;
  readonly bytes: number;
  /** `iommufd_hw_queue_depend`: `other` cannot be destroyed before this one (or until the result is called). */
  depend(other: HwQueueRequest): () => void;
}

/** The driver's half: a slice of the physical IOMMU, in front of one nesting parent. */
export interface Viommu {
  /** `alloc_domain_nested`. `flags`: IOMMU_HWPT_FAULT_ID_VALID, IOMMU_HWPT_ALLOC_PASID. Absent: EOPNOTSUPP. */
  allocNested?(flags: number, data: UserData): NestedDomain | Errno;
  /** `cache_invalidate` of raw guest commands, in order; as `NestedDomain.cacheInvalidate`. Absent: EOPNOTSUPP. */
  cacheInvalidate?(array: UserDataArray): Errno;
  /** `vdevice_init`: the guest's id for a device becomes known; an errno refuses it. */
  vdeviceInit?(vdevice: Vdevice): Errno;
  /** Its end; also when the device is unbound first. */
  vdeviceDestroy?(vdevice: Vdevice): void;
  /** True for a type of hardware queue that `hwQueueInit` takes. Absent: EOPNOTSUPP. */
  hwQueueSupports?(type: number): boolean;
  /**
   * `hw_queue_init_phys`: the memory is pinned. Returns the function that destroys the queue again, or EINVAL (bad
   * index, size or alignment), EEXIST (slot in use).
   */
  hwQueueInit?(request: HwQueueRequest): (() => void) | Errno;
  /** For snapshots: what of it changes, and nested domains of it again. */
  readonly saved?: Saved;
  restoreNested?(state: Data): NestedDomain;
  /** The vIOMMU's end: no vDEVICE, nested domain or queue of it lives. */
  destroy?(): void;
}

// ── Driver ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** One page request as the hardware delivers it (`struct iommu_fault_page_request`). */
// A type, not an interface: a snapshot holds it as it is.
export type PageRequest = {
  /** `noPasid` when the request carries none. */
  readonly pasid: number;
  readonly addressHi: number;
  readonly addressLo: number;
  /** IOMMU_PGFAULT_PERM_*: 1 read, 2 write, 4 exec, 8 priv. */
  readonly perm: number;
  /** Page request group index, 9 bits. */
  readonly grpid: number;
  /** Last request of its group; earlier ones of the group are kept until it comes. */
  readonly last: boolean;
  /** Bytes the device would touch; 0 when the hardware does not say. */
  readonly length?: number;
};

/** IOMMU_PAGE_RESP_*. */
export const pageResponse = { success: 0, invalid: 1, failure: 2 } as const;

/** What a driver may call in the core; handed to `start`. */
export interface IommuCore {
  /**
   * `iommu_report_device_fault`: a page request arrived. When the group's last request is in, the group goes to the
   * fault queue of the domain that the (device, PASID) is attached to; for a driver with `userPasidTable` to the RID's
   * nested domain. If there is none, the core answers at once with `pageResponse` INVALID (and nothing is queued).
   */
  reportFault(device: IommuDevice, request: PageRequest): void;
  /**
   * `iopf_queue_discard_partial`: page requests were lost, perhaps the last one of a group. What is kept of unfinished
   * groups of this device is forgotten; the hardware has answered them, or will.
   */
  discardPartial(device: IommuDevice): void;
}

export interface IommuDriver {
  /** `riscv-iommu`, `mock` …, for traces. */
  readonly name: string;
  /**
   * True when nested domains carry the guest's own PASID table, so that faults of any PASID belong to the domain
   * attached to the RID (RISC-V, SMMUv3).
   */
  readonly userPasidTable: boolean;
  /** Called once, before anything else. */
  start(core: IommuCore): void;
  /** The device is behind this IOMMU. After it the device is blocked until the first attach. ENODEV: not one of ours. */
  probeDevice(device: HostDevice): IommuDevice | Errno;
  /** `release_device`: the device was taken out; nothing is attached to it. */
  releaseDevice?(device: IommuDevice): void;
  capabilities(device: IommuDevice): DeviceCapabilities;
  /**
   * `hw_info` for IOMMU_GET_HW_INFO. `type` is IOMMU_HW_INFO_TYPE_DEFAULT (0: the driver's own), or what user space
   * asked for: EOPNOTSUPP when not supported. Absent: type NONE, no data.
   */
  hwInfo?(device: IommuDevice, type: number): { readonly type: number; readonly bytes: Uint8Array } | Errno;
  /** Regions that user space may not map for this device (`get_resv_regions`). */
  reservedRegions(device: IommuDevice): readonly ReservedRegion[];
  /**
   * `domain_alloc_paging_flags`. `flags`: IOMMU_HWPT_ALLOC_NEST_PARENT, _DIRTY_TRACKING, _PASID as in the uAPI; a flag
   * the driver does not support is EOPNOTSUPP, as is any `data` it does not know.
   */
  allocPaging(device: IommuDevice, flags: number, data: UserData | undefined): PagingDomain | Errno;
  /** `domain_alloc_nested` directly on a nesting parent. Absent: EOPNOTSUPP. */
  allocNested?(device: IommuDevice, parent: PagingDomain, flags: number, data: UserData): NestedDomain | Errno;
  /**
   * `attach_dev`/`set_dev_pasid`: from now on the device (or its PASID) translates through `domain`; undefined blocks
   * it (detach). `old` is what it had. Replacing has no window in which neither is in effect. On error the old
   * attachment stays. EINVAL: this domain and device can never go together (the core then tries or makes another
   * automatic domain); ENOENT: a nested domain of a vIOMMU for a device that has no vDEVICE there; EOPNOTSUPP: PASIDs.
   * Detaching may not fail. The driver must leave no translation of `old` in any cache (ATC included).
   */
  attach(device: IommuDevice, pasid: number, domain: Domain | undefined, old: Domain | undefined): Errno;
  /** Answers a page request group (`page_response`). `grpid` and `pasid` as reported, `code` of `pageResponse`. */
  pageResponse(device: IommuDevice, pasid: number, grpid: number, code: number): void;
  /** True when IOMMU_VIOMMU_ALLOC of this type works for the device (`get_viommu_size` not 0). Absent: EOPNOTSUPP. */
  viommuSupports?(device: IommuDevice, type: number): boolean;
  /** `viommu_init`. EINVAL when the parent is not a nesting parent of this IOMMU; `data` may be copied back to. */
  viommuInit?(
    device: IommuDevice,
    type: number,
    parent: PagingDomain,
    data: UserData | undefined,
    core: ViommuCore,
  ): Viommu | Errno;
}
