import type { Clock } from '#vmm/base/clock';
import { invariant } from '#vmm/base/invariant';
import type { HostMemory } from '#vmm/base/memory';
import type { Trace } from '#vmm/base/events';
import { Iommufd } from '#iommufd/client/iommufd';
import { describeHostError, type Result } from '#iommufd/client/result';
import { VfioDevice } from '#iommufd/client/vfio-device';
import type { Kernel } from '#iommufd/kernel/kernel';
import { extensionUapi, iommu_hw_info_riscv } from '#iommufd/uapi/extensions';
import { iommufdUapi } from '#iommufd/uapi/iommufd';
import { RiscvViommu } from '#viommu/riscv/device';
import { type AssignedDevice, Host } from '#viommu/riscv/host';
import type { HostDevice } from './host-side.ts';
import type { GuestMemory } from './guest-memory.ts';
import { layout } from './layout.ts';
import type { PciIommu } from './pci-iommu.ts';

/** Fault events that may wait unread; more are counted as lost. */
const eventDepth = 256;
/** More than a guest can have outstanding, so that none is ever lost. */
const invalidationEvents = 64;
/** Width of guest-physical addresses: the nesting parent is Sv39x4. */
const guestAddressBits = 41;

const must = <T>(result: Result<T>): { readonly ok: true } & T => {
  if (!result.ok) invariant(false, `start-up: ${describeHostError(result.error)}`);
  return result;
};

export interface AssignmentOptions {
  readonly kernel: Kernel;
  readonly memory: HostMemory;
  readonly guestMemory: GuestMemory;
  /** Interrupt files: guest-physical and host-physical address of each hart's page. */
  readonly interruptFiles: readonly { readonly gpa: number; readonly hpa: number }[];
  readonly devices: readonly HostDevice[];
  /** The guest's requester id of a device. */
  readonly guestRid: (device: HostDevice) => number;
  readonly hasViommu: boolean;
  /** The vIOMMU is a PCI Express function. */
  readonly pciIommu?: PciIommu | undefined;
  readonly clock: Clock;
  readonly trace: Trace;
}

export interface Assignment {
  readonly iommufd: Iommufd;
  readonly ioasId: number;
  readonly parentId: number | undefined;
  readonly viommu: RiscvViommu | undefined;
  close(): void;
}

/**
 * What a VMM does at start-up, as QEMU would: opens iommufd, binds the devices, maps guest memory and the interrupt
 * files at their guest-physical addresses, and stands a vIOMMU on a nesting parent. After it every change comes from a
 * guest's command.
 */
export const assignDevices = (options: AssignmentOptions): Assignment => {
  const { kernel, memory, devices, trace } = options;
  const { iommufd } = must(Iommufd.open(kernel));
  const { ioasId } = must(iommufd.ioasAlloc());

  const ramFd = kernel.memfd(0, { hpa: memory.guestBase, bytes: memory.guestBytes });
  const ram = { ioasId, fd: ramFd, start: 0n, bytes: BigInt(memory.guestBytes), iova: BigInt(layout.ram.base) };
  must(iommufd.ioasMapFile(ram));
  for (const { gpa, hpa } of options.interruptFiles) {
    const address = kernel.map({ bytes: 4096, mmio: hpa, pinnable: true });
    must(iommufd.ioasMap({ ioasId, address, bytes: 4096n, iova: BigInt(gpa) }));
  }

  const bound = devices.map((device) => {
    const { device: vfio } = must(VfioDevice.open(kernel, device.vfioName));
    const { devId } = must(vfio.bind(iommufd));
    return { device, vfio, devId };
  });
  const close = (): void => {
    for (const { vfio } of bound) vfio.close();
    iommufd.close();
    kernel.close(ramFd);
  };
  const behind = bound.filter(({ device }) => options.hasViommu && device.placed.iommu);
  // Without a vIOMMU the guest's device addresses are guest-physical: the second stage is all there is.
  for (const { vfio } of bound.filter((one) => !behind.includes(one))) must(vfio.attach(ioasId));
  if (!options.hasViommu || behind.length === 0)
    return { iommufd, ioasId, parentId: undefined, viommu: undefined, close };

  const first = behind[0]!;
  const parentFlags = iommufdUapi.IOMMU_HWPT_ALLOC_NEST_PARENT;
  const { hwptId: parentId } = must(iommufd.hwptAlloc({ devId: first.devId, ptId: ioasId, flags: parentFlags }));
  const type = extensionUapi.IOMMU_VIOMMU_TYPE_RISCV;
  const { viommuId } = must(iommufd.viommuAlloc({ type, devId: first.devId, hwptId: parentId }));
  const { fd: eventFd } = must(iommufd.veventqAlloc(viommuId, extensionUapi.IOMMU_VEVENTQ_TYPE_RISCV, eventDepth));
  const assigned: AssignedDevice[] = behind.map(({ device, vfio, devId }) => {
    const deviceId = options.guestRid(device);
    must(iommufd.vdeviceAlloc(viommuId, devId, BigInt(deviceId)));
    return { deviceId, devId, vfio, pri: device.placed.function.pri !== undefined };
  });
  const functions = behind.map(({ device }) => device.placed.function);
  const hasAts = functions.some(({ ats }) => ats !== undefined);
  const invalidationFd = hasAts
    ? must(iommufd.veventqAlloc(viommuId, extensionUapi.IOMMU_VEVENTQ_TYPE_RISCV_INVALIDATION, invalidationEvents)).fd
    : undefined;
  const faults = functions.some(({ pri }) => pri !== undefined) ? must(iommufd.faultQueueAlloc()) : undefined;
  const info = must(iommufd.getHwInfo(first.devId));
  const { capabilities: hostCapabilities } = iommu_hw_info_riscv.decode(info.data);
  const host = new Host({
    iommufd,
    viommuId,
    parentId,
    eventFd,
    ...(faults ? { faults } : {}),
    ...(invalidationFd === undefined ? {} : { invalidationFd }),
    trace,
  });
  const viommu = new RiscvViommu({
    host,
    hostCapabilities,
    guestAddressBits,
    devices: assigned,
    memory: options.pciIommu?.memory ?? options.guestMemory,
    ...(options.pciIommu ? { messages: options.pciIommu.messages } : {}),
    after: (ns, run) => options.clock.schedule(ns, run),
    trace,
  });
  // The real VMM would sleep in poll(2): here the kernel says when an fd has become readable.
  const fds: [number, () => void][] = [[eventFd, () => viommu.readEvents()]];
  if (faults) fds.push([faults.fd, () => viommu.readPageRequests()]);
  if (invalidationFd !== undefined) fds.push([invalidationFd, () => viommu.readInvalidations()]);
  const stops = fds.map(([fd, wake]) => kernel.watch(fd, wake));
  return {
    iommufd,
    ioasId,
    parentId,
    viommu,
    close: () => {
      for (const stop of stops) stop();
      close();
      for (const [fd] of fds) kernel.close(fd);
    },
  };
};
