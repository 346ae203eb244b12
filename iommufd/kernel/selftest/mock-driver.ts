import {
  iommu_hwpt_invalidate_selftest,
  iommu_hwpt_selftest,
  iommu_test_hw_info,
  iommu_viommu_invalidate_selftest,
  iommu_viommu_selftest,
  selftestUapi as K,
} from '#iommufd/uapi/selftest';
import { iommufdUapi } from '#iommufd/uapi/iommufd';
import { pageBytes } from '#vmm/base/address';
import { errno } from '#vmm/base/errno';
import { noPasid } from '#vmm/base/ports';
import type {
  DeviceCapabilities,
  DirtySink,
  Domain,
  Errno,
  HostDevice,
  HwQueueRequest,
  IommuCore,
  IommuDevice,
  IommuDriver,
  NestedDomain,
  PagingDomain,
  ReservedRegion,
  UserData,
  UserDataArray,
  Viommu,
  ViommuCore,
} from '../iommu-ops.ts';
import type { PhysicalMemory } from '../memory/physical.ts';
import { MockTable } from './mock-table.ts';

const cacheWords = 4;
/** Every power of two from the granule to 64 GiB. */
const allSizes = 0x1f_ffff_f800n;
/** What one bad PASID does: see `attach`. */
const strangePasid = K.IOMMU_TEST_PASID_RESERVED;

/** A device that exists only for tests, with a few words of "cache" to invalidate. */
export class MockDevice implements IommuDevice {
  readonly host: HostDevice;
  readonly maxPasids: number;
  /** MOCK_FLAGS_DEVICE_NO_DIRTY. */
  readonly noDirty: boolean;
  readonly cache = new Uint32Array(cacheWords).fill(K.IOMMU_TEST_DEV_CACHE_DEFAULT);
  /** vIOMMU whose nested domain is attached, and the id there. */
  viommu: MockViommu | undefined;
  virtId = 0n;
  failPasidNext = false;

  constructor(host: HostDevice, noDirty: boolean) {
    this.host = host;
    this.maxPasids = host.pasidBits > 0 ? 2 ** host.pasidBits : 0;
    this.noDirty = noDirty;
  }
}

export class MockPaging implements PagingDomain {
  readonly kind = 'paging';
  readonly driver: MockDriver;
  readonly pgsizeBitmap: bigint;
  readonly aperture: { readonly first: bigint; readonly last: bigint };
  readonly dirtyTracking: boolean;
  faultCapable = false;
  /** Dirty tracking is on. */
  tracking = false;
  readonly table: MockTable;

  constructor(driver: MockDriver, huge: boolean, dirtyTracking: boolean) {
    this.driver = driver;
    this.pgsizeBitmap = huge ? BigInt(K.MOCK_HUGE_PAGE_SIZE) | BigInt(pageBytes) : allSizes;
    this.aperture = huge
      ? { first: 0n, last: 2n ** 38n - 1n }
      : { first: BigInt(K.MOCK_APERTURE_START), last: BigInt(K.MOCK_APERTURE_LAST) };
    this.dirtyTracking = dirtyTracking;
    this.table = new MockTable(this.pgsizeBitmap);
  }
  map(iovaHi: number, iovaLo: number, hpa: number, bytes: number): Errno {
    return this.table.map(iovaHi * 0x1_0000_0000 + iovaLo, hpa, bytes);
  }
  unmap(iovaHi: number, iovaLo: number, bytes: number): number {
    return this.table.unmap(iovaHi * 0x1_0000_0000 + iovaLo, bytes);
  }
  sync(): void {}
  iovaToPhys(iovaHi: number, iovaLo: number): number {
    return this.table.translate(iovaHi * 0x1_0000_0000 + iovaLo);
  }
  setDirtyTracking(enable: boolean): Errno {
    this.tracking = enable;
    return 0;
  }
  readAndClearDirty(iovaHi: number, iovaLo: number, bytes: number, keep: boolean, sink: DirtySink): Errno {
    this.table.readDirty(iovaHi * 0x1_0000_0000 + iovaLo, bytes, keep, sink);
    return 0;
  }
  free(): void {}
}

export class MockNested implements NestedDomain {
  readonly kind = 'nested';
  readonly driver: MockDriver;
  readonly viommu: MockViommu | undefined;
  faultCapable = false;
  readonly iotlb = new Uint32Array(K.MOCK_NESTED_DOMAIN_IOTLB_NUM);

  constructor(driver: MockDriver, iotlb: number, viommu: MockViommu | undefined) {
    this.driver = driver;
    this.iotlb.fill(iotlb);
    this.viommu = viommu;
  }

  cacheInvalidate(array: UserDataArray): Errno {
    array.handled = 0;
    if (array.type !== K.IOMMU_HWPT_INVALIDATE_DATA_SELFTEST) return errno.EINVAL;
    const entry = new Uint8Array(iommu_hwpt_invalidate_selftest.size);
    const view = new DataView(entry.buffer);
    for (let i = 0; i < array.count; i++) {
      const rc = array.copyEntry(i, entry, K.IOMMU_HWPT_INVALIDATE_DATA_SELFTEST, entry.length);
      if (rc !== 0) return rc;
      const flags = view.getUint32(0, true);
      const id = view.getUint32(4, true);
      if (flags & ~K.IOMMU_TEST_INVALIDATE_FLAG_ALL) return errno.EOPNOTSUPP;
      if (id > K.MOCK_NESTED_DOMAIN_IOTLB_ID_MAX) return errno.EINVAL;
      if (flags & K.IOMMU_TEST_INVALIDATE_FLAG_ALL) this.iotlb.fill(0);
      else this.iotlb[id] = 0;
      array.handled++;
    }
    return 0;
  }
  free(): void {}
}

/** `struct mock_viommu`. */
export class MockViommu implements Viommu {
  readonly core: ViommuCore;
  readonly #driver: MockDriver;
  readonly #parent: MockPaging;
  readonly #release: () => void;
  readonly #queues: (HwQueueRequest | undefined)[] = [];

  constructor(driver: MockDriver, parent: MockPaging, core: ViommuCore, release: () => void) {
    this.#driver = driver;
    this.#parent = parent;
    this.core = core;
    this.#release = release;
    driver.viommus.push(this);
  }

  allocNested(flags: number, data: UserData): NestedDomain | Errno {
    return this.#driver.makeNested(flags, data, this);
  }

  cacheInvalidate(array: UserDataArray): Errno {
    const type = K.IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST;
    if (array.count === 0) return array.type === type ? 0 : errno.EINVAL;
    array.handled = 0;
    // All requests are copied before the first one is carried out.
    const { size } = iommu_viommu_invalidate_selftest;
    const requests = new Uint8Array(size * array.count);
    const rc = array.copyAll(requests, size, type);
    if (rc !== 0) return rc;
    for (let i = 0; i < array.count; i++) {
      const { flags, vdev_id, cache_id } = iommu_viommu_invalidate_selftest.decode(requests, i * size);
      if (flags & ~K.IOMMU_TEST_INVALIDATE_FLAG_ALL) return errno.EOPNOTSUPP;
      if (cache_id > K.MOCK_DEV_CACHE_ID_MAX) return errno.EINVAL;
      const device = this.core.findDevice(BigInt(vdev_id));
      if (!(device instanceof MockDevice)) return errno.EINVAL;
      if (flags & K.IOMMU_TEST_INVALIDATE_FLAG_ALL) device.cache.fill(0);
      else device.cache[cache_id] = 0;
      array.handled++;
    }
    return 0;
  }

  hwQueueSupports(type: number): boolean {
    return type === K.IOMMU_HW_QUEUE_TYPE_SELFTEST;
  }
  hwQueueInit(queue: HwQueueRequest): (() => void) | Errno {
    const queues = this.#queues;
    const { index, address, hpa } = queue;
    if (index >= K.IOMMU_TEST_HW_QUEUE_MAX) return errno.EINVAL;
    if (queues[index]) return errno.EEXIST;
    const previous = index > 0 ? queues[index - 1] : undefined;
    if (index > 0 && !previous) return errno.EIO;
    if (this.#parent.table.translate(Number(address)) !== hpa) return errno.EFAULT;
    const independent = previous ? queue.depend(previous) : undefined;
    queues[index] = queue;
    // The kernel's mock forgets which slot a queue has: destroying any of them empties the first.
    return () => {
      queues[0] = undefined;
      independent?.();
    };
  }

  destroy(): void {
    const { viommus } = this.#driver;
    viommus.splice(viommus.indexOf(this), 1);
    this.#release();
  }
}

/** The selftest's IOMMU (drivers/iommu/iommufd/selftest.c): domains without hardware, caches that are words. */
export class MockDriver implements IommuDriver {
  readonly name = 'mock';
  readonly userPasidTable = true;
  readonly #physical: PhysicalMemory;
  /** Devices to come have no dirty tracking. */
  nextNoDirty = false;
  /** Everything probed or made, for tests. */
  readonly devices: MockDevice[] = [];
  readonly viommus: MockViommu[] = [];
  #core: IommuCore | undefined;

  constructor(physical: PhysicalMemory) {
    this.#physical = physical;
  }
  start(core: IommuCore): void {
    this.#core = core;
  }
  get core(): IommuCore {
    return this.#core!;
  }

  probeDevice(host: HostDevice): IommuDevice {
    const device = new MockDevice(host, this.nextNoDirty);
    this.devices.push(device);
    return device;
  }
  forget(device: IommuDevice): void {
    this.devices.splice(this.devices.indexOf(device as MockDevice), 1);
  }
  capabilities(device: IommuDevice): DeviceCapabilities {
    return { cacheCoherency: true, dirtyTracking: !(device as MockDevice).noDirty, ats: false };
  }
  hwInfo(_device: IommuDevice, type: number): { type: number; bytes: Uint8Array } | Errno {
    if (type !== iommufdUapi.IOMMU_HW_INFO_TYPE_DEFAULT && type !== K.IOMMU_HW_INFO_TYPE_SELFTEST)
      return errno.EOPNOTSUPP;
    const bytes = iommu_test_hw_info.encode({ test_reg: K.IOMMU_HW_INFO_SELFTEST_REGVAL });
    return { type: K.IOMMU_HW_INFO_TYPE_SELFTEST, bytes };
  }
  reservedRegions(): readonly ReservedRegion[] {
    return [];
  }

  allocPaging(device: IommuDevice, flags: number, data: UserData | undefined): PagingDomain | Errno {
    const allowed =
      iommufdUapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING |
      iommufdUapi.IOMMU_HWPT_ALLOC_NEST_PARENT |
      iommufdUapi.IOMMU_HWPT_ALLOC_PASID;
    const dirty = (flags & iommufdUapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING) !== 0;
    if (flags & ~allowed || (dirty && (device as MockDevice).noDirty)) return errno.EOPNOTSUPP;
    let type = K.MOCK_IOMMUPT_DEFAULT as number;
    if (data) {
      const config = this.#config(data);
      if (typeof config === 'number') return config;
      type = config.pagetable_type;
    }
    if (type !== K.MOCK_IOMMUPT_DEFAULT && type !== K.MOCK_IOMMUPT_HUGE) return errno.EOPNOTSUPP;
    return new MockPaging(this, type === K.MOCK_IOMMUPT_HUGE, dirty);
  }
  #config(data: UserData): { iotlb: number; pagetable_type: number } | Errno {
    if (data.type !== K.IOMMU_HWPT_DATA_SELFTEST) return errno.EOPNOTSUPP;
    const bytes = data.copyStruct(K.IOMMU_HWPT_DATA_SELFTEST, iommu_hwpt_selftest.size, 4);
    return typeof bytes === 'number' ? bytes : iommu_hwpt_selftest.decode(bytes);
  }

  allocNested(_device: IommuDevice, _parent: PagingDomain, flags: number, data: UserData): NestedDomain | Errno {
    return this.makeNested(flags, data, undefined);
  }
  makeNested(flags: number, data: UserData, viommu: MockViommu | undefined): NestedDomain | Errno {
    if (flags & ~iommufdUapi.IOMMU_HWPT_ALLOC_PASID) return errno.EOPNOTSUPP;
    const config = this.#config(data);
    return typeof config === 'number' ? config : new MockNested(this, config.iotlb, viommu);
  }

  attach(device: IommuDevice, pasid: number, domain: Domain | undefined, _old: Domain | undefined): Errno {
    const mock = device as MockDevice;
    if (pasid !== noPasid) return this.#attachPasid(mock, pasid, domain);
    if (domain?.kind === 'paging' && domain.dirtyTracking && mock.noDirty) return errno.EINVAL;
    const viommu = domain instanceof MockNested ? domain.viommu : undefined;
    let virtId = 0n;
    if (viommu) {
      const id = viommu.core.virtualId(device);
      if (id === undefined) return errno.ENOENT;
      virtId = id;
    }
    if (viommu !== mock.viommu) {
      mock.viommu = viommu;
      mock.virtId = virtId;
    }
    return 0;
  }
  /** One PASID fails every second time, so that tests see how the core goes back to the old domain. */
  #attachPasid(mock: MockDevice, pasid: number, domain: Domain | undefined): Errno {
    if (pasid !== strangePasid) return 0;
    const fail = domain !== undefined && mock.failPasidNext;
    mock.failPasidNext = domain !== undefined && !mock.failPasidNext;
    return fail ? errno.ENOMEM : 0;
  }
  pageResponse(_device: IommuDevice, _pasid: number, _grpid: number, _code: number): void {}

  viommuSupports(_device: IommuDevice, type: number): boolean {
    return type === K.IOMMU_VIOMMU_TYPE_SELFTEST;
  }
  viommuInit(
    _device: IommuDevice,
    type: number,
    parent: PagingDomain,
    data: UserData | undefined,
    core: ViommuCore,
  ): Viommu | Errno {
    if (!data) return new MockViommu(this, parent as MockPaging, core, () => {});
    const bytes = data.copyStruct(type, iommu_viommu_selftest.size, 8);
    if (typeof bytes === 'number') return bytes;
    const pages = 2;
    const hpa = this.#physical.reserve(pages);
    const mapped = core.allocMmap(hpa, pages * pageBytes);
    if (typeof mapped === 'number') return mapped;
    const { in_data } = iommu_viommu_selftest.decode(bytes);
    // The number comes back in the structure and in the first word of the pages.
    new DataView(this.#physical.page(hpa)!.buffer).setUint32(0, in_data, true);
    const out = iommu_viommu_selftest.encode({
      in_data,
      out_data: in_data,
      out_mmap_offset: BigInt(mapped.offset),
      out_mmap_length: BigInt(pages * pageBytes),
    });
    const release = (): void => {
      core.releaseMmap(mapped.offset);
      this.#physical.release(hpa, pages);
    };
    const rc = data.copyBack(type, out, 8);
    if (rc === 0) return new MockViommu(this, parent as MockPaging, core, release);
    release();
    return rc;
  }
}
