import {
  vfioUapi as uapi,
  vfio_device_attach_iommufd_pt,
  vfio_device_bind_iommufd,
  vfio_device_detach_iommufd_pt,
  vfio_device_info,
} from '#iommufd/uapi/vfio';
import { errno } from '#vmm/base/errno';
import { field, parts, plainSet } from '#vmm/base/saved';
import { copyStruct, offsets } from '../command.ts';
import { Context } from '../context.ts';
import { OpenFile } from '../file.ts';
import type { Kernel } from '../kernel.ts';
import {
  type Device,
  attachDevice,
  attachedId,
  bindDevice,
  detachDevice,
  replaceDevice,
  unbindDevice,
} from '../objects/device.ts';
import { ridPasid } from '../objects/group.ts';
import type { PhysicalDevice } from '../physical-device.ts';

/** A device that vfio-pci drives: one bound user at a time. */
export class VfioDevice {
  readonly physical: PhysicalDevice;
  readonly reset: () => void;
  open = false;

  constructor(physical: PhysicalDevice, reset: () => void) {
    this.physical = physical;
    this.reset = reset;
  }
}

const bind = offsets(vfio_device_bind_iommufd);
const attach = offsets(vfio_device_attach_iommufd_pt);
const detach = offsets(vfio_device_detach_iommufd_pt);
const info = offsets(vfio_device_info);
const bytes = new Uint8Array(64);
const view = new DataView(bytes.buffer);
const u32 = (offset: number): number => view.getUint32(offset, true);

/** An open /dev/vfio/devices/vfioN (drivers/vfio/device_cdev.c). Nothing works on it before BIND_IOMMUFD. */
export class VfioDeviceFile extends OpenFile {
  readonly #kernel: Kernel;
  readonly #vfio: VfioDevice;
  #context: Context | undefined;
  #device: Device | undefined;
  #attached = false;
  readonly #pasids = new Set<number>();
  /** Of a bound device; what it is attached to is the context's. */
  override readonly saved = parts({
    attached: field(
      () => this.#attached,
      (value) => (this.#attached = value),
    ),
    pasids: plainSet(() => this.#pasids),
  });

  constructor(kernel: Kernel, vfio: VfioDevice) {
    super();
    this.#kernel = kernel;
    this.#vfio = vfio;
  }

  override ioctl(request: number, argument: number): number {
    const row = requests.get(request);
    if (!row) return this.#device ? -errno.ENOTTY : -errno.EINVAL;
    if (!this.#device && row.name !== 'VFIO_DEVICE_BIND_IOMMUFD') return -errno.EINVAL;
    const result = -row.run(this, argument);
    this.#kernel.countVfio(row.name, this.#vfio.physical.host.name, result);
    return result;
  }

  bind(argument: number): number {
    const { memory, files } = this.#kernel;
    const argsz = memory.readU32(argument);
    if (argsz < 0) return errno.EFAULT;
    if (argsz < bind.token_uuid_ptr) return errno.EINVAL;
    const rc = copyStruct(memory, argument, argsz, bytes, vfio_device_bind_iommufd.size);
    if (rc !== 0) return rc;
    const fd = view.getInt32(bind.iommufd, true);
    const flags = u32(bind.flags);
    if (fd < 0 || (flags & ~uapi.VFIO_DEVICE_BIND_FLAG_TOKEN) !== 0) return errno.EINVAL;
    if (this.#device) return errno.EINVAL;
    // Tokens belong to physical functions with virtual ones: none here.
    if (flags & uapi.VFIO_DEVICE_BIND_FLAG_TOKEN) return errno.EINVAL;
    const context = files.get(fd);
    if (!context) return errno.EBADF;
    if (!(context instanceof Context)) return errno.EBADFD;
    if (this.#vfio.open) return errno.EINVAL;
    const device = bindDevice(context, this.#vfio.physical);
    if (typeof device === 'number') return device;
    view.setUint32(0, device.id, true);
    if (memory.write(argument + bind.out_devid, bytes, 4) > 0) {
      unbindDevice(device);
      return errno.EFAULT;
    }
    context.get();
    this.#context = context;
    this.#device = device;
    this.#vfio.open = true;
    return 0;
  }

  attach(argument: number): number {
    const { memory } = this.#kernel;
    const device = this.#device!;
    const rc = this.#copy(argument, attach.pasid, attach.pasid + 4, uapi.VFIO_DEVICE_ATTACH_PASID);
    if (rc !== 0) return rc;
    const id = u32(attach.pt_id);
    const failed =
      u32(attach.flags) & uapi.VFIO_DEVICE_ATTACH_PASID
        ? this.#attachPasid(u32(attach.pasid), id)
        : this.#attachRid(id);
    if (failed) return failed;
    view.setUint32(0, attachedId(), true);
    if (memory.write(argument + attach.pt_id, bytes, 4) === 0) return 0;
    if (this.#attached) detachDevice(device, ridPasid);
    this.#attached = false;
    return errno.EFAULT;
  }
  #attachRid(id: number): number {
    const device = this.#device!;
    const rc = this.#attached ? replaceDevice(device, ridPasid, id) : attachDevice(device, ridPasid, id);
    if (rc === 0) this.#attached = true;
    return rc;
  }
  #attachPasid(pasid: number, id: number): number {
    const device = this.#device!;
    // PASID 0 is how the kernel names the RID itself.
    if (this.#pasids.has(pasid)) return replaceDevice(device, pasid, id);
    if (pasid === ridPasid || pasid >= 2 ** 31) return errno.EINVAL;
    const rc = attachDevice(device, pasid, id);
    if (rc === 0) this.#pasids.add(pasid);
    return rc;
  }

  detach(argument: number): number {
    const device = this.#device!;
    const rc = this.#copy(argument, detach.flags + 4, detach.pasid + 4, uapi.VFIO_DEVICE_DETACH_PASID);
    if (rc !== 0) return rc;
    if (u32(detach.flags) & uapi.VFIO_DEVICE_DETACH_PASID) {
      const pasid = u32(detach.pasid);
      if (this.#pasids.delete(pasid)) detachDevice(device, pasid);
    } else if (this.#attached) {
      detachDevice(device, ridPasid);
      this.#attached = false;
    }
    return 0;
  }

  /** The first `minimum` bytes, and up to `extended` when `flag` is set; unknown flags are EINVAL. */
  #copy(argument: number, minimum: number, extended: number, flag: number): number {
    const { memory } = this.#kernel;
    if (memory.read(argument, bytes, minimum) > 0) return errno.EFAULT;
    const argsz = u32(0);
    const flags = u32(4);
    if (argsz < minimum || (flags & ~flag) !== 0) return errno.EINVAL;
    if (!(flags & flag)) return 0;
    if (argsz < extended) return errno.EINVAL;
    return memory.read(argument, bytes, extended) > 0 ? errno.EFAULT : 0;
  }

  info(argument: number): number {
    const { memory } = this.#kernel;
    if (memory.read(argument, bytes, info.cap_offset) > 0) return errno.EFAULT;
    const argsz = u32(0);
    if (argsz < info.cap_offset) return errno.EINVAL;
    view.setUint32(info.flags, uapi.VFIO_DEVICE_FLAGS_PCI | uapi.VFIO_DEVICE_FLAGS_RESET, true);
    view.setUint32(info.num_regions, uapi.VFIO_PCI_NUM_REGIONS, true);
    view.setUint32(info.num_irqs, uapi.VFIO_PCI_NUM_IRQS, true);
    view.setUint32(info.cap_offset, 0, true);
    const length = Math.min(argsz, vfio_device_info.size);
    return memory.write(argument, bytes, length) > 0 ? errno.EFAULT : 0;
  }

  reset(): number {
    this.#vfio.reset();
    return 0;
  }

  protected override release(): void {
    const device = this.#device;
    if (!device) return;
    for (const pasid of this.#pasids) detachDevice(device, pasid);
    if (this.#attached) detachDevice(device, ridPasid);
    this.#device = undefined;
    this.#vfio.open = false;
    this.#vfio.reset();
    unbindDevice(device);
    this.#context!.put();
  }
}

/** Requests of a VFIO device fd. */
const requests = new Map<number, { name: string; run: (file: VfioDeviceFile, argument: number) => number }>([
  [uapi.VFIO_DEVICE_BIND_IOMMUFD, { name: 'VFIO_DEVICE_BIND_IOMMUFD', run: (f, a) => f.bind(a) }],
  [uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, { name: 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', run: (f, a) => f.attach(a) }],
  [uapi.VFIO_DEVICE_DETACH_IOMMUFD_PT, { name: 'VFIO_DEVICE_DETACH_IOMMUFD_PT', run: (f, a) => f.detach(a) }],
  [uapi.VFIO_DEVICE_GET_INFO, { name: 'VFIO_DEVICE_GET_INFO', run: (f, a) => f.info(a) }],
  [uapi.VFIO_DEVICE_RESET, { name: 'VFIO_DEVICE_RESET', run: (f) => f.reset() }],
]);
