import { iommu_viommu_alloc, iommufdUapi as uapi } from '#iommufd/uapi/iommufd';
import { errno } from '#vmm/base/errno';
import { part, parts } from '#vmm/base/saved';
import { type Command, offsets } from '../command.ts';
import type { Context } from '../context.ts';
import type { Errno, IommuDevice, IommuDriver, ViommuCore, Viommu as DriverViommu } from '../iommu-ops.ts';
import { UserStruct } from '../user-data.ts';
import { Device } from './device.ts';
import { HwptPaging } from './hwpt.ts';
import { KernelObject } from './object.ts';
import type { Vdevice } from './vdevice.ts';
import type { EventQueue } from './veventq.ts';

/** A slice of a physical IOMMU given to a VM: `struct iommufd_viommu`. */
export class Viommu extends KernelObject implements ViommuCore {
  readonly parent: HwptPaging;
  readonly driver: IommuDriver;
  readonly vdevices = new Map<bigint, Vdevice>();
  readonly #ids = new Map<IommuDevice, bigint>();
  readonly queues: EventQueue[] = [];
  #driverViommu: DriverViommu | undefined;
  override readonly saved = parts({
    driver: part(() => ({ saved: this.driverViommu.saved ?? parts({}) })),
  });

  constructor(parent: HwptPaging, driver: IommuDriver) {
    super(parent.context);
    this.parent = parent;
    this.driver = driver;
    parent.users++;
  }
  get driverViommu(): DriverViommu {
    return this.#driverViommu!;
  }
  setDriver(viommu: DriverViommu): void {
    this.#driverViommu = viommu;
  }

  findDevice(virtId: bigint): IommuDevice | undefined {
    return this.vdevices.get(virtId)?.device;
  }
  virtualId(device: IommuDevice): bigint | undefined {
    return this.#ids.get(device);
  }
  addDevice(vdevice: Vdevice): void {
    this.vdevices.set(vdevice.virtId, vdevice);
    this.#ids.set(vdevice.device, vdevice.virtId);
  }
  removeDevice(vdevice: Vdevice): void {
    this.vdevices.delete(vdevice.virtId);
    this.#ids.delete(vdevice.device);
  }
  reportVevent(type: number, bytes: Uint8Array): Errno {
    const queue = this.queues.find((q) => q.type === type);
    if (!queue) return errno.EOPNOTSUPP;
    return queue.report(bytes);
  }
  allocMmap(hpa: number, bytes: number): { readonly offset: number } | Errno {
    return this.context.mmaps.allocate(this, hpa, bytes);
  }
  releaseMmap(offset: number): void {
    this.context.mmaps.release(offset);
  }

  destroy(): void {
    this.#driverViommu?.destroy?.();
    this.parent.users--;
  }
}

const alloc = offsets(iommu_viommu_alloc);
export function viommuAlloc(context: Context, command: Command): number {
  const type = command.u32(alloc.type);
  if (command.u32(alloc.flags) !== 0 || type === uapi.IOMMU_VIOMMU_TYPE_DEFAULT) return errno.EOPNOTSUPP;
  const { objects } = context;
  const device = objects.find(command.u32(alloc.dev_id), Device);
  if (!device) return errno.ENOENT;
  const { driver, iommu } = device.physical;
  if (!driver.viommuInit || !driver.viommuSupports?.(iommu, type)) return errno.EOPNOTSUPP;
  const parent = objects.find(command.u32(alloc.hwpt_id), HwptPaging);
  if (!parent) return errno.ENOENT;
  if (!parent.nestParent) return errno.EINVAL;
  const viommu = new Viommu(parent, driver);
  let rc = context.allocate(viommu);
  if (rc !== 0) {
    parent.users--;
    return rc;
  }
  const length = command.u32(alloc.data_len);
  const data =
    length > 0 ? new UserStruct(context.kernel.memory, command.pointer(alloc.data_uptr), type, length) : undefined;
  const result = context.kernel.allocator.fails()
    ? errno.ENOMEM
    : driver.viommuInit(iommu, type, parent.domain, data, viommu);
  if (typeof result === 'number') rc = result;
  else {
    viommu.setDriver(result);
    command.setU32(alloc.out_viommu_id, viommu.id);
    rc = command.respond();
  }
  if (rc !== 0) objects.abortAndDestroy(viommu);
  else objects.finalize(viommu);
  return rc;
}
