import { iommufdUapi as uapi } from '#iommufd/uapi/iommufd';
import { errno } from '#vmm/base/errno';
import type { Domain, NestedDomain, PagingDomain, UserData } from '../iommu-ops.ts';
import type { Device } from './device.ts';
import type { FaultQueue } from './fault-queue.ts';
import { attachHwpt, detachHwpt } from './group.ts';
import type { Ioas } from './ioas.ts';
import { KernelObject } from './object.ts';
import type { Viommu } from './viommu.ts';

/** A hardware page table: `struct iommufd_hw_pagetable`. */
export abstract class Hwpt extends KernelObject {
  abstract readonly domain: Domain;
  /** The paging table under it: itself, or the nesting parent. */
  abstract readonly paging: HwptPaging;
  fault: FaultQueue | undefined;
  /** Made with IOMMU_HWPT_ALLOC_PASID. */
  pasidCompatible = false;

  setFault(fault: FaultQueue): void {
    this.fault = fault;
    this.domain.faultCapable = true;
    fault.users++;
  }
  protected free(): void {
    this.domain.free();
    if (this.fault) this.fault.users--;
  }
}

/** Filled by the kernel from an IOAS. */
export class HwptPaging extends Hwpt {
  readonly ioas: Ioas;
  readonly nestParent: boolean;
  /** Made by an attach to the IOAS; goes with its last device. */
  auto = false;
  enforcesCacheCoherency = false;
  /** Set right after the driver made it; until then there is nothing to free. */
  #domain: PagingDomain | undefined;

  constructor(ioas: Ioas, flags: number) {
    super(ioas.context);
    this.ioas = ioas;
    this.nestParent = (flags & uapi.IOMMU_HWPT_ALLOC_NEST_PARENT) !== 0;
    this.pasidCompatible = (flags & uapi.IOMMU_HWPT_ALLOC_PASID) !== 0;
    ioas.users++;
  }
  get domain(): PagingDomain {
    return this.#domain!;
  }
  setDomain(domain: PagingDomain): void {
    this.#domain = domain;
  }
  get paging(): HwptPaging {
    return this;
  }
  destroy(): void {
    const { ioas } = this;
    const at = ioas.hwpts.indexOf(this);
    if (at >= 0) {
      ioas.hwpts.splice(at, 1);
      ioas.table.removeDomain(this.domain);
    }
    if (this.#domain) this.free();
    ioas.users--;
  }
}

/** Stage 1 that user space owns, on a nesting parent. */
export class HwptNested extends Hwpt {
  readonly parent: HwptPaging;
  readonly viommu: Viommu | undefined;
  #domain: NestedDomain | undefined;

  constructor(parent: HwptPaging, viommu: Viommu | undefined, flags: number) {
    super(parent.context);
    this.parent = parent;
    this.viommu = viommu;
    this.pasidCompatible = (flags & uapi.IOMMU_HWPT_ALLOC_PASID) !== 0;
    (viommu ?? parent).users++;
  }
  get domain(): NestedDomain {
    return this.#domain!;
  }
  setDomain(domain: NestedDomain): void {
    this.#domain = domain;
  }
  get paging(): HwptPaging {
    return this.parent;
  }
  destroy(): void {
    if (this.#domain) this.free();
    (this.viommu ?? this.parent).users--;
  }
}

const pagingFlags =
  uapi.IOMMU_HWPT_ALLOC_NEST_PARENT |
  uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING |
  uapi.IOMMU_HWPT_FAULT_ID_VALID |
  uapi.IOMMU_HWPT_ALLOC_PASID;
const nestedFlags = uapi.IOMMU_HWPT_FAULT_ID_VALID | uapi.IOMMU_HWPT_ALLOC_PASID;

/**
 * `iommufd_hwpt_paging_alloc`: a domain of the device's driver, filled with the IOAS. With `attachPasid` the device is
 * attached before it is filled (automatic domains). The id is reserved, not finalized.
 */
export function allocPaging(
  ioas: Ioas,
  device: Device,
  flags: number,
  data: UserData | undefined,
  attachPasid?: number,
): HwptPaging | number {
  const { context } = ioas;
  const { driver, iommu } = device.physical;
  if (flags & ~pagingFlags) return errno.EOPNOTSUPP;
  if (flags & uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING && !driver.capabilities(iommu).dirtyTracking)
    return errno.EOPNOTSUPP;
  if (flags & uapi.IOMMU_HWPT_FAULT_ID_VALID && flags & uapi.IOMMU_HWPT_ALLOC_NEST_PARENT) return errno.EOPNOTSUPP;
  const hwpt = new HwptPaging(ioas, flags);
  let rc = context.allocate(hwpt);
  if (rc !== 0) {
    ioas.users--;
    return rc;
  }
  const domain = context.kernel.allocator.fails()
    ? errno.ENOMEM
    : driver.allocPaging(iommu, flags & ~uapi.IOMMU_HWPT_FAULT_ID_VALID, data);
  if (typeof domain === 'number') rc = domain;
  else {
    hwpt.setDomain(domain);
    // Before the first mapping: some formats have a bit for it in every entry.
    hwpt.enforcesCacheCoherency = domain.enforceCacheCoherency?.() ?? false;
    if (attachPasid !== undefined) rc = attachHwpt(hwpt, device, attachPasid);
    if (rc === 0) {
      rc = ioas.table.addDomain(domain);
      if (rc === 0) {
        ioas.hwpts.push(hwpt);
        return hwpt;
      }
      if (attachPasid !== undefined) detachHwpt(device, attachPasid);
    }
  }
  context.objects.abortAndDestroy(hwpt);
  return rc;
}

/** `iommufd_hwpt_nested_alloc`: on a parent directly. */
export function allocNested(parent: HwptPaging, device: Device, flags: number, data: UserData): HwptNested | number {
  const { driver, iommu } = device.physical;
  if (flags & ~nestedFlags || data.length === 0 || !driver.allocNested) return errno.EOPNOTSUPP;
  if (parent.auto || !parent.nestParent || parent.domain.driver !== driver) return errno.EINVAL;
  return finishNested(new HwptNested(parent, undefined, flags), () =>
    driver.allocNested!(iommu, parent.domain, flags & ~uapi.IOMMU_HWPT_FAULT_ID_VALID, data),
  );
}

/** `iommufd_viommu_alloc_hwpt_nested`. */
export function allocNestedOnViommu(viommu: Viommu, flags: number, data: UserData): HwptNested | number {
  if (flags & ~nestedFlags || data.length === 0) return errno.EOPNOTSUPP;
  const { driverViommu } = viommu;
  if (!driverViommu.allocNested) return errno.EOPNOTSUPP;
  return finishNested(new HwptNested(viommu.parent, viommu, flags), () =>
    driverViommu.allocNested!(flags & ~uapi.IOMMU_HWPT_FAULT_ID_VALID, data),
  );
}

function finishNested(hwpt: HwptNested, make: () => NestedDomain | number): HwptNested | number {
  const { context } = hwpt;
  const rc = context.allocate(hwpt);
  if (rc !== 0) {
    (hwpt.viommu ?? hwpt.parent).users--;
    return rc;
  }
  const domain = context.kernel.allocator.fails() ? errno.ENOMEM : make();
  if (typeof domain === 'number') {
    context.objects.abortAndDestroy(hwpt);
    return domain;
  }
  hwpt.setDomain(domain);
  return hwpt;
}
