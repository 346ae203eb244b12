import { errno } from '#vmm/base/errno';
import { noPasid } from '#vmm/base/ports';
import type { Context } from '../context.ts';
import type { Domain } from '../iommu-ops.ts';
import type { PhysicalDevice, PhysicalGroup } from '../physical-device.ts';
import type { Device } from './device.ts';
import type { Hwpt, HwptPaging } from './hwpt.ts';

/** PASID 0 stands for the RID itself, as in the kernel (IOMMU_NO_PASID). */
export const ridPasid = 0;

/** What page requests of an attachment are answered through; a new one whenever the attachment changes. */
export interface AttachHandle {
  readonly device: Device;
  readonly hwpt: Hwpt;
}
interface Attachment {
  hwpt: Hwpt;
  handle: AttachHandle;
  readonly devices: Set<Device>;
}

/** `struct iommufd_group`: the attachments of a group's devices, one per PASID. */
export class Igroup {
  readonly group: PhysicalGroup;
  readonly context: Context;
  users = 0;
  readonly attachments = new Map<number, Attachment>();

  constructor(context: Context, group: PhysicalGroup) {
    this.context = context;
    this.group = group;
  }

  static get(context: Context, group: PhysicalGroup): Igroup {
    let igroup = context.groups.get(group);
    if (!igroup) context.groups.set(group, (igroup = new Igroup(context, group)));
    igroup.users++;
    return igroup;
  }
  put(): void {
    if (--this.users > 0) return;
    this.context.groups.delete(this.group);
  }
}

/** Tells the driver; all devices of the group or none. `domain` undefined detaches. */
function setDomain(device: Device, pasid: number, domain: Domain | undefined, old: Domain | undefined): number {
  const { devices } = device.physical.group;
  const driverPasid = pasid === ridPasid ? noPasid : pasid;
  if (domain) {
    if (domain.driver !== device.physical.driver) return errno.EINVAL;
    if (pasid !== ridPasid)
      for (const { iommu } of devices) if (iommu.maxPasids > 0 && pasid >= iommu.maxPasids) return errno.EINVAL;
  }
  const done: PhysicalDevice[] = [];
  for (const physical of devices) {
    if (pasid !== ridPasid && physical.iommu.maxPasids === 0) continue;
    const rc = physical.driver.attach(physical.iommu, driverPasid, domain, old);
    if (rc !== 0) {
      for (const undo of done) undo.driver.attach(undo.iommu, driverPasid, old, domain);
      return rc;
    }
    // Halves of groups that were meant for what was attached before.
    if (pasid === ridPasid) physical.partial = [];
    done.push(physical);
  }
  return 0;
}

/** RID and PASID domains of a device must all be made for PASIDs once one is attached. */
function checkPasid(hwpt: Hwpt, igroup: Igroup, pasid: number): number {
  if (pasid === ridPasid) {
    if (!hwpt.pasidCompatible)
      for (const other of igroup.attachments.keys()) if (other !== ridPasid) return errno.EINVAL;
    return 0;
  }
  if (!hwpt.pasidCompatible) return errno.EINVAL;
  const rid = igroup.attachments.get(ridPasid);
  return rid && !rid.hwpt.pasidCompatible ? errno.EINVAL : 0;
}

/** Forbids the device's reserved regions in an IOAS (`iopt_table_enforce_dev_resv_regions`). */
function reserveRegions(hwpt: HwptPaging, device: Device): number {
  const { table } = hwpt.ioas;
  const { driver, iommu } = device.physical;
  for (const region of driver.reservedRegions(iommu)) {
    if (region.kind === 'direct-relaxable') continue;
    const rc = table.reserve(region.first, region.last, device.physical);
    if (rc !== 0) {
      table.unreserve(device.physical);
      return rc;
    }
  }
  return 0;
}

/** `iommufd_hw_pagetable_attach`. */
export function attachHwpt(hwpt: Hwpt, device: Device, pasid: number): number {
  const { igroup } = device;
  const attachment = igroup.attachments.get(pasid);
  if (attachment?.devices.has(device)) return errno.EBUSY;
  if (attachment && attachment.hwpt !== hwpt) return errno.EINVAL;
  const reserve = pasid === ridPasid;
  if (reserve) {
    const rc = reserveRegions(hwpt.paging, device);
    if (rc !== 0) return rc;
  }
  if (attachment) attachment.devices.add(device);
  else {
    let rc = checkPasid(hwpt, igroup, pasid);
    // The attach handle.
    if (rc === 0 && hwpt.context.kernel.allocator.fails()) rc = errno.ENOMEM;
    if (rc === 0) rc = setDomain(device, pasid, hwpt.domain, undefined);
    if (rc !== 0) {
      if (reserve) hwpt.paging.ioas.table.unreserve(device.physical);
      return rc;
    }
    igroup.group.igroup = igroup;
    igroup.attachments.set(pasid, { hwpt, handle: { device, hwpt }, devices: new Set([device]) });
  }
  hwpt.users++;
  return 0;
}

/** Gives up an attachment's reference; an automatic table goes with its last one. */
export function putHwpt(hwpt: Hwpt): void {
  if (hwpt === hwpt.paging && hwpt.paging.auto) hwpt.context.objects.putAndTryDestroy(hwpt);
  else hwpt.users--;
}

/** `iommufd_hw_pagetable_detach`; false when nothing was attached. */
export function detachHwpt(device: Device, pasid: number): boolean {
  const { igroup } = device;
  const attachment = igroup.attachments.get(pasid);
  if (!attachment?.devices.has(device)) return false;
  const { hwpt, handle } = attachment;
  attachment.devices.delete(device);
  if (attachment.devices.size === 0) {
    setDomain(device, pasid, undefined, hwpt.domain);
    igroup.attachments.delete(pasid);
    hwpt.fault?.respondFor(handle);
  }
  if (pasid === ridPasid) hwpt.paging.ioas.table.unreserve(device.physical);
  putHwpt(hwpt);
  return true;
}

/** `iommufd_device_do_replace`: the old table, whose reference the caller puts; undefined: nothing changed; an errno. */
export function replaceHwpt(hwpt: Hwpt, device: Device, pasid: number): Hwpt | undefined | number {
  const { igroup } = device;
  const attachment = igroup.attachments.get(pasid);
  if (!attachment?.devices.has(device)) return errno.EINVAL;
  const old = attachment.hwpt;
  if (old === hwpt) return undefined;
  const { ioas } = hwpt.paging;
  const oldIoas = old.paging.ioas;
  const moves = pasid === ridPasid && ioas !== oldIoas;
  if (moves)
    for (const current of attachment.devices) {
      const rc = reserveRegions(hwpt.paging, current);
      if (rc !== 0) {
        for (const undo of attachment.devices) ioas.table.unreserve(undo.physical);
        return rc;
      }
    }
  let rc = checkPasid(hwpt, igroup, pasid);
  if (rc === 0 && hwpt.context.kernel.allocator.fails()) rc = errno.ENOMEM;
  if (rc === 0) rc = setDomain(device, pasid, hwpt.domain, old.domain);
  if (rc !== 0) {
    if (moves) for (const undo of attachment.devices) ioas.table.unreserve(undo.physical);
    return rc;
  }
  old.fault?.respondFor(attachment.handle);
  if (moves) for (const current of attachment.devices) oldIoas.table.unreserve(current.physical);
  attachment.hwpt = hwpt;
  attachment.handle = { device, hwpt };
  const { size } = attachment.devices;
  hwpt.users += size;
  old.users -= size - 1;
  return old;
}
