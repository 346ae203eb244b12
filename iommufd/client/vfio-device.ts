import {
  vfioUapi as K,
  vfio_device_attach_iommufd_pt,
  vfio_device_bind_iommufd,
  vfio_device_detach_iommufd_pt,
} from '#iommufd/uapi/vfio';
import { Arguments } from './arguments.ts';
import type { IommufdHost } from './host.ts';
import type { Iommufd } from './iommufd.ts';
import { type Result, refused } from './result.ts';

/** An open /dev/vfio/devices/vfioN: a device of the host that the process drives itself. */
export class VfioDevice {
  readonly host: IommufdHost;
  readonly fd: number;
  readonly #args: Arguments;

  private constructor(host: IommufdHost, fd: number, at: number | undefined) {
    this.host = host;
    this.fd = fd;
    this.#args = new Arguments(host, at);
  }

  /** `name`: vfio0 … `at`: where its arguments lay, in a process that is taken up again. */
  static open(host: IommufdHost, name: string, at?: number): Result<{ readonly device: VfioDevice }> {
    const fd = host.open(`/dev/vfio/devices/${name}`);
    return fd < 0 ? refused(`open(${name})`, fd) : { ok: true, device: new VfioDevice(host, fd, at) };
  }
  /** Address of the arguments of its calls. */
  get place(): number {
    return this.#args.address;
  }
  close(): void {
    this.host.close(this.fd);
  }

  /** Puts the device under an iommufd; until it is attached its DMA is blocked. */
  bind(iommufd: Iommufd): Result<{ readonly devId: number }> {
    const layout = vfio_device_bind_iommufd;
    const rc = this.#args.call(this.fd, K.VFIO_DEVICE_BIND_IOMMUFD, layout, {
      argsz: layout.offset('token_uuid_ptr'),
      iommufd: iommufd.fd,
    });
    if (rc < 0) return refused('VFIO_DEVICE_BIND_IOMMUFD', rc);
    return { ok: true, devId: this.#args.u32(layout.offset('out_devid')) };
  }

  /** Attaches, or replaces what is attached; to an IOAS or a page table. `ptId`: the table in use now. */
  attach(ptId: number, pasid?: number): Result<{ readonly ptId: number }> {
    const layout = vfio_device_attach_iommufd_pt;
    const rc = this.#args.call(this.fd, K.VFIO_DEVICE_ATTACH_IOMMUFD_PT, layout, {
      argsz: layout.size,
      flags: pasid === undefined ? 0 : K.VFIO_DEVICE_ATTACH_PASID,
      pt_id: ptId,
      pasid: pasid ?? 0,
    });
    if (rc < 0) return refused('VFIO_DEVICE_ATTACH_IOMMUFD_PT', rc, `pt_id=${ptId}`);
    return { ok: true, ptId: this.#args.u32(layout.offset('pt_id')) };
  }

  /** Back to blocked DMA. */
  detach(pasid?: number): Result {
    const layout = vfio_device_detach_iommufd_pt;
    const rc = this.#args.call(this.fd, K.VFIO_DEVICE_DETACH_IOMMUFD_PT, layout, {
      argsz: layout.size,
      flags: pasid === undefined ? 0 : K.VFIO_DEVICE_DETACH_PASID,
      pasid: pasid ?? 0,
    });
    return rc < 0 ? refused('VFIO_DEVICE_DETACH_IOMMUFD_PT', rc) : { ok: true };
  }

  reset(): Result {
    const rc = this.host.ioctl(this.fd, K.VFIO_DEVICE_RESET, 0);
    return rc < 0 ? refused('VFIO_DEVICE_RESET', rc) : { ok: true };
  }
}
