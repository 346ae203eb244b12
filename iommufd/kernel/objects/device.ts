import { iommu_hw_info, iommufdUapi as uapi } from '#iommufd/uapi/iommufd';
import { errno } from '#vmm/base/errno';
import { type Command, offsets } from '../command.ts';
import type { Context } from '../context.ts';
import type { PhysicalDevice } from '../physical-device.ts';
import { Igroup, attachHwpt, detachHwpt, putHwpt, replaceHwpt } from './group.ts';
import { Hwpt, allocPaging } from './hwpt.ts';
import { Ioas } from './ioas.ts';
import { KernelObject } from './object.ts';
import type { Vdevice } from './vdevice.ts';

/** The binding of a physical device to a context: `struct iommufd_device`. */
export class Device extends KernelObject {
  readonly physical: PhysicalDevice;
  readonly igroup: Igroup;
  /** Its virtual identity, if it has one. */
  vdevice: Vdevice | undefined;
  /** Real devices keep the context's file open; the selftest's do not. */
  readonly #holdsContext: boolean;

  constructor(context: Context, physical: PhysicalDevice, holdsContext: boolean) {
    super(context);
    this.physical = physical;
    this.igroup = Igroup.get(context, physical.group);
    this.#holdsContext = holdsContext;
    if (holdsContext) context.get();
  }

  override preDestroy(): void {
    // The virtual device cannot outlive the real one: its id becomes a tombstone.
    const { vdevice, context } = this;
    if (!vdevice) return;
    vdevice.users++;
    context.objects.destroyOwned(vdevice, true);
  }
  destroy(): void {
    this.physical.group.unclaim();
    this.igroup.put();
    if (this.#holdsContext) this.context.put();
  }
}

/** `iommufd_device_bind`: claims the device for the context. */
export function bindDevice(context: Context, physical: PhysicalDevice, holdsContext = true): Device | number {
  if (!physical.driver.capabilities(physical.iommu).cacheCoherency) return errno.EINVAL;
  if (!physical.group.claim(context)) return errno.EBUSY;
  if (context.kernel.allocator.fails()) {
    physical.group.unclaim();
    return errno.ENOMEM;
  }
  const device = new Device(context, physical, holdsContext);
  const rc = context.allocate(device);
  if (rc !== 0) {
    device.destroy();
    return rc;
  }
  // Whoever bound it is a user until `unbindDevice`.
  device.users++;
  context.objects.finalize(device);
  return device;
}

/** `iommufd_device_unbind`: everything must have been detached. */
export function unbindDevice(device: Device): void {
  device.context.objects.destroyOwned(device);
}

/** The page table that the last successful attach or replace chose. */
let chosen = 0;
export const attachedId = (): number => chosen;

type Change = (hwpt: Hwpt, device: Device, pasid: number) => Hwpt | undefined | number;
const attach: Change = (hwpt, device, pasid) => attachHwpt(hwpt, device, pasid) || undefined;

interface Changed {
  /** The table in use now. */
  readonly id: number;
  /** What was in use before, to be put. */
  readonly old: Hwpt | undefined;
}

/** `iommufd_device_auto_get_domain`: the first automatic table that suits the device, or a new one. */
function autoAttach(ioas: Ioas, device: Device, pasid: number, change: Change): Changed | number {
  const { objects } = device.context;
  for (const hwpt of ioas.hwpts) {
    if (!hwpt.auto) continue;
    const old = change(hwpt, device, pasid);
    if (old === errno.EINVAL) continue;
    return typeof old === 'number' ? old : { id: hwpt.id, old };
  }
  const immediate = change === attach;
  const hwpt = allocPaging(ioas, device, 0, undefined, immediate ? pasid : undefined);
  if (typeof hwpt === 'number') return hwpt;
  const old = immediate ? undefined : change(hwpt, device, pasid);
  if (typeof old === 'number') {
    objects.abortAndDestroy(hwpt);
    return old;
  }
  hwpt.auto = true;
  objects.finalize(hwpt);
  return { id: hwpt.id, old };
}

/** `iommufd_device_change_pt`. */
function changeTable(device: Device, pasid: number, id: number, change: Change): number {
  const target = device.context.objects.get(id);
  if (!target) return errno.ENOENT;
  // The table or IOAS must not go with the old attachment.
  target.users++;
  let changed: Changed | number = errno.EINVAL;
  if (target instanceof Hwpt) {
    const old = change(target, device, pasid);
    changed = typeof old === 'number' ? old : { id, old };
  } else if (target instanceof Ioas) changed = autoAttach(target, device, pasid, change);
  target.users--;
  if (typeof changed === 'number') return changed;
  if (changed.old) putHwpt(changed.old);
  chosen = changed.id;
  return 0;
}

/** `iommufd_device_attach`: to a page table, or to an IOAS (then `attachedId` tells the table that was chosen). */
export function attachDevice(device: Device, pasid: number, id: number): number {
  const rc = changeTable(device, pasid, id, attach);
  if (rc === 0) device.users++;
  return rc;
}

/** `iommufd_device_replace`: without a moment in which neither is in effect. */
export function replaceDevice(device: Device, pasid: number, id: number): number {
  return changeTable(device, pasid, id, replaceHwpt);
}

/** `iommufd_device_detach`. */
export function detachDevice(device: Device, pasid: number): void {
  if (detachHwpt(device, pasid)) device.users--;
}

const info = offsets(iommu_hw_info);
const zeroes = new Uint8Array(4096);

export function getHwInfo(context: Context, command: Command): number {
  const flags = command.u32(info.flags);
  if (flags & ~uapi.IOMMU_HW_INFO_FLAG_INPUT_TYPE) return errno.EOPNOTSUPP;
  const reserved = info.__reserved;
  if (command.bytes[reserved] || command.bytes[reserved + 1] || command.bytes[reserved + 2]) return errno.EOPNOTSUPP;
  const wanted = flags & uapi.IOMMU_HW_INFO_FLAG_INPUT_TYPE ? command.u32(info.out_data_type) : 0;
  const device = context.objects.find(command.u32(info.dev_id), Device);
  if (!device) return errno.ENOENT;
  const { driver, iommu } = device.physical;
  let type: number = uapi.IOMMU_HW_INFO_TYPE_NONE;
  let data = new Uint8Array(0);
  if (driver.hwInfo) {
    if (context.kernel.allocator.fails()) return errno.ENOMEM;
    const result = driver.hwInfo(iommu, wanted);
    if (typeof result === 'number') return result;
    ({ type } = result);
    data = result.bytes as typeof data;
  }
  const { memory } = context.kernel;
  const address = command.pointer(info.data_uptr);
  const room = command.u32(info.data_len);
  const copied = Math.min(room, data.length);
  if (memory.write(address, data, copied) > 0) return errno.EFAULT;
  for (let at = copied; at < room; at += zeroes.length)
    if (memory.write(address + at, zeroes, Math.min(zeroes.length, room - at)) > 0) return errno.EFAULT;
  command.setU32(info.out_data_type, type);
  command.setU32(info.data_len, data.length);
  const capabilities = driver.capabilities(iommu);
  let bits = 0;
  if (capabilities.dirtyTracking) bits |= uapi.IOMMU_HW_CAP_DIRTY_TRACKING;
  if (!capabilities.ats) bits |= uapi.IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED;
  let pasidBits = 0;
  if (iommu.maxPasids > 0) {
    pasidBits = Math.floor(Math.log2(iommu.maxPasids));
    if (device.physical.host.pasidExec) bits |= uapi.IOMMU_HW_CAP_PCI_PASID_EXEC;
    if (device.physical.host.pasidPriv) bits |= uapi.IOMMU_HW_CAP_PCI_PASID_PRIV;
  }
  command.setU64(info.out_capabilities, BigInt(bits));
  command.setU8(info.out_max_pasid_log2, pasidBits);
  return command.respond();
}
