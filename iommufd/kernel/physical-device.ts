import type { HostDevice, IommuDevice, IommuDriver, PageRequest } from './iommu-ops.ts';
import type { Igroup } from './objects/group.ts';

/** `struct iommu_group`: devices that the IOMMU cannot keep apart. One context owns it at a time. */
export class PhysicalGroup {
  readonly devices: PhysicalDevice[] = [];
  /** Whoever claimed DMA ownership, and how often. */
  owner: unknown;
  owners = 0;
  /** The owner's half, while a context has devices of the group bound. */
  igroup: Igroup | undefined;

  claim(owner: unknown): boolean {
    if (this.owners > 0 && this.owner !== owner) return false;
    this.owner = owner;
    this.owners++;
    return true;
  }
  unclaim(): void {
    if (--this.owners === 0) this.owner = undefined;
  }
}

/** A device of the host behind an IOMMU. */
export class PhysicalDevice {
  readonly host: HostDevice;
  readonly driver: IommuDriver;
  readonly iommu: IommuDevice;
  readonly group: PhysicalGroup;
  /** Page requests of groups whose last request has not come yet. */
  partial: PageRequest[] = [];

  constructor(host: HostDevice, driver: IommuDriver, iommu: IommuDevice, group: PhysicalGroup) {
    this.host = host;
    this.driver = driver;
    this.iommu = iommu;
    this.group = group;
    group.devices.push(this);
  }
}
