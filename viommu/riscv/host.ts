import { quiet, type Trace } from '#vmm/base/events';
import { errno, errnoName } from '#vmm/base/errno';
import type { Iommufd, PageFault } from '#iommufd/client/iommufd';
import type { HostError } from '#iommufd/client/result';
import type { VfioDevice } from '#iommufd/client/vfio-device';
import {
  extensionUapi,
  iommu_hwpt_riscv,
  iommu_vevent_riscv,
  iommu_viommu_riscv_invalidate,
} from '#iommufd/uapi/extensions';

/** A device of the host that the guest owns. */
export interface AssignedDevice {
  /** What the guest calls it: its RISC-V device_id, a PCI requester id. */
  readonly deviceId: number;
  /** Its iommufd device object, and the VFIO device it came from. */
  readonly devId: number;
  readonly vfio: VfioDevice;
  /** Offers PRI: its page requests can be given to the guest. */
  readonly pri?: boolean;
}

/** Bytes read from the fault queue at once, when a group of page requests is larger than what suffices else. */
const largestGroupBytes = 1 << 18;

export interface HostOptions {
  readonly iommufd: Iommufd;
  /** The vIOMMU object, the nesting parent it stands on, and the fd of its fault events. */
  readonly viommuId: number;
  readonly parentId: number;
  readonly eventFd: number;
  /** The fault queue for page requests, where some device has PRI. */
  readonly faults?: { readonly faultId: number; readonly fd: number };
  /** The fd that tells of completed device invalidations, where some device has ATS. */
  readonly invalidationFd?: number;
  /** The fd that tells of Stop Markers, where some device has PRI. */
  readonly stopMarkerFd?: number;
  readonly trace?: Trace;
}

/** The calls that a RISC-V vIOMMU makes, in its own terms. A refusal is traced and answered, never thrown. */
export class Host {
  readonly #options: HostOptions;
  readonly #trace: Trace;

  constructor(options: HostOptions) {
    this.#options = options;
    this.#trace = options.trace ?? quiet;
  }

  #refused({ ioctl, errno }: HostError): void {
    if (this.#trace.on) this.#trace.emit('viommu.refused', { call: ioctl, errno: errnoName(errno) });
  }

  /**
   * A nested page table for the guest's device context (its doublewords); undefined when the host refuses it.
   * `pageRequests`: the guest wants to be told of them.
   */
  allocNested(device: AssignedDevice, words: readonly bigint[], pageRequests: boolean): number | undefined {
    const [tc = 0n, , ta = 0n, fsc = 0n, msiptp = 0n, msi_addr_mask = 0n, msi_addr_pattern = 0n] = words;
    const bytes = iommu_hwpt_riscv.encode({ tc, ta, fsc, msiptp, msi_addr_mask, msi_addr_pattern });
    const data = { type: extensionUapi.IOMMU_HWPT_DATA_RISCV, bytes };
    const { iommufd, viommuId, faults } = this.#options;
    const faultId = pageRequests && device.pri === true && faults ? { faultId: faults.faultId } : {};
    const result = iommufd.hwptAlloc({ devId: device.devId, ptId: viommuId, data, ...faultId });
    if (result.ok) return result.hwptId;
    this.#refused(result.error);
    return undefined;
  }

  /** The device translates through this table from now on, instead of whatever it had. */
  attach(device: AssignedDevice, hwptId: number): boolean {
    const result = device.vfio.attach(hwptId);
    if (!result.ok) this.#refused(result.error);
    return result.ok;
  }

  /** Second stage only: the device's addresses are guest-physical. */
  attachParent(device: AssignedDevice): boolean {
    return this.attach(device, this.#options.parentId);
  }

  /** Every DMA of the device is refused from now on. */
  detach(device: AssignedDevice): void {
    const result = device.vfio.detach();
    if (!result.ok) this.#refused(result.error);
  }

  destroy(hwptId: number): void {
    const result = this.#options.iommufd.destroy(hwptId);
    if (!result.ok) this.#refused(result.error);
  }

  /** Forwards `count` raw commands. One that the host refuses does not keep the rest from being done; false if any. */
  invalidate(commands: Uint8Array, count: number): boolean {
    let isDone = true;
    const { size } = iommu_viommu_riscv_invalidate;
    const type = extensionUapi.IOMMU_VIOMMU_INVALIDATE_DATA_RISCV;
    for (let done = 0; done < count;) {
      const result = this.#options.iommufd.hwptInvalidate(
        this.#options.viommuId,
        type,
        commands.subarray(done * size),
        size,
      );
      if (result.ok) return isDone;
      this.#refused(result.error);
      isDone = false;
      done += result.done + 1;
    }
    return isDone;
  }

  /** Takes what the fault queue holds, in whole groups. */
  readFaults(each: (faults: readonly PageFault[]) => void): void {
    const { iommufd, faults } = this.#options;
    if (!faults) return;
    for (;;) {
      let result = iommufd.readFaults(faults.fd);
      if (!result.ok && result.error.errno === errno.EINVAL) result = iommufd.readFaults(faults.fd, largestGroupBytes);
      if (!result.ok) return this.#refused(result.error);
      if (result.faults.length === 0) return;
      each(result.faults);
    }
  }

  /** Answers a group of page requests: IOMMUFD_PAGE_RESP_SUCCESS or _INVALID. */
  respondFault(cookie: number, code: number): void {
    const { iommufd, faults } = this.#options;
    if (!faults) return;
    const result = iommufd.respondFault(faults.fd, cookie, code);
    if (!result.ok) this.#refused(result.error);
  }

  /** Takes what is told of device invalidations. */
  readInvalidations(eventBytes: number, each: (bytes: Uint8Array) => void): void {
    this.#readAll(this.#options.invalidationFd, eventBytes, each);
  }

  /** Takes what is told of Stop Markers; those that were lost on the way nobody waits for. */
  readStopMarkers(eventBytes: number, each: (bytes: Uint8Array) => void): void {
    this.#readAll(this.#options.stopMarkerFd, eventBytes, each);
  }

  #readAll(fd: number | undefined, eventBytes: number, each: (bytes: Uint8Array) => void): void {
    if (fd === undefined) return;
    for (;;) {
      const result = this.#options.iommufd.readEvents(fd, eventBytes);
      if (!result.ok) return this.#refused(result.error);
      if (result.events.length === 0) return;
      for (const event of result.events) if (!event.lost) each(event.data);
    }
  }

  /** Takes what the fault event queue holds: records in order, and the places where some were lost. */
  readEvents(record: (bytes: Uint8Array) => void, lost: (sequence: number) => void): void {
    for (;;) {
      const result = this.#options.iommufd.readEvents(this.#options.eventFd, iommu_vevent_riscv.size);
      if (!result.ok) return this.#refused(result.error);
      if (result.events.length === 0) return;
      for (const event of result.events)
        if (event.lost) lost(event.sequence);
        else record(event.data);
    }
  }
}
