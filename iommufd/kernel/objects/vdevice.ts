import { iommu_vdevice_alloc } from '#iommufd/uapi/iommufd';
import { errno } from '#vmm/base/errno';
import { type Command, offsets } from '../command.ts';
import type { Context } from '../context.ts';
import type { IommuDevice, Vdevice as DriverVdevice } from '../iommu-ops.ts';
import { Device } from './device.ts';
import { KernelObject } from './object.ts';
import { Viommu } from './viommu.ts';

/** A device under the id that the guest knows it by: `struct iommufd_vdevice`. */
export class Vdevice extends KernelObject implements DriverVdevice {
  readonly viommu: Viommu;
  readonly owner: Device;
  readonly virtId: bigint;
  #known = false;

  constructor(viommu: Viommu, owner: Device, virtId: bigint) {
    super(viommu.context);
    this.viommu = viommu;
    this.owner = owner;
    this.virtId = virtId;
    viommu.users++;
    owner.vdevice = this;
  }
  get device(): IommuDevice {
    return this.owner.physical.iommu;
  }

  /** Makes the id known; EEXIST when it is taken, or the driver's refusal. */
  register(): number {
    const { viommu } = this;
    if (viommu.vdevices.has(this.virtId)) return errno.EEXIST;
    const rc = viommu.driverViommu.vdeviceInit?.(this) ?? 0;
    if (rc !== 0) return rc;
    viommu.addDevice(this);
    this.#known = true;
    return 0;
  }

  destroy(): void {
    const { viommu } = this;
    if (this.#known) {
      viommu.driverViommu.vdeviceDestroy?.(this);
      viommu.removeDevice(this);
    }
    viommu.users--;
    this.owner.vdevice = undefined;
  }
}

const alloc = offsets(iommu_vdevice_alloc);
export function vdeviceAlloc(context: Context, command: Command): number {
  const { objects } = context;
  const viommu = objects.find(command.u32(alloc.viommu_id), Viommu);
  if (!viommu) return errno.ENOENT;
  const device = objects.find(command.u32(alloc.dev_id), Device);
  if (!device) return errno.ENOENT;
  if (viommu.driver !== device.physical.driver) return errno.EINVAL;
  if (device.vdevice) return errno.EEXIST;
  const vdevice = new Vdevice(viommu, device, command.u64(alloc.virt_id));
  let rc = context.allocate(vdevice);
  if (rc !== 0) {
    vdevice.destroy();
    return rc;
  }
  rc = vdevice.register();
  if (rc === 0) {
    command.setU32(alloc.out_vdevice_id, vdevice.id);
    rc = command.respond();
  }
  if (rc !== 0) objects.abortAndDestroy(vdevice);
  else objects.finalize(vdevice);
  return rc;
}
