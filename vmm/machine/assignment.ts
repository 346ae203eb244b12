import type { Clock } from '#vmm/base/clock';
import type { Rid } from '#vmm/base/address';
import { invariant } from '#vmm/base/invariant';
import type { HostMemory } from '#vmm/base/memory';
import type { Trace } from '#vmm/base/events';
import { type Data, recordOf, SavedError } from '#vmm/base/saved';
import { Iommufd } from '#iommufd/client/iommufd';
import { describeHostError, type HostError, type Result } from '#iommufd/client/result';
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
const stopMarkers = 64;
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
  readonly hasViommu: boolean;
  /** The vIOMMU is a PCI Express function. */
  readonly pciIommu?: PciIommu | undefined;
  /** Devices of any kind may still come. */
  readonly hasSlots: boolean;
  readonly clock: Clock;
  readonly trace: Trace;
}

export interface Assignment {
  readonly iommufd: Iommufd;
  readonly ioasId: number;
  readonly parentId: number | undefined;
  readonly viommu: RiscvViommu | undefined;
  /** A device comes: it is bound, and attached as far as the guest knows it. The error leaves nothing behind. */
  add(device: HostDevice): HostError | undefined;
  /** What the VMM and the kernel call a device that came while the guest ran. */
  namesOf(device: HostDevice): Data;
  /** `add` of such a device to a machine that is taken up again: everything gets the names that it had. @throws SavedError */
  addAgain(device: HostDevice, names: Data): void;
  /** The guest calls a device something else from now on, or nothing at all. */
  rename(device: HostDevice, guestRid: Rid | undefined): void;
  /** A device goes: everything that it has under way is ended, and given back. */
  remove(device: HostDevice): void;
  close(): void;
}

interface Bound {
  readonly device: HostDevice;
  readonly vfio: VfioDevice;
  readonly devId: number;
  /** Behind the vIOMMU. */
  readonly isBehind: boolean;
  /** Its virtual device, and the guest's name that it has there. */
  virtual: { readonly vdeviceId: number; readonly deviceId: number } | undefined;
}

/** Descriptor, address of its calls' arguments, and objects of a device. */
interface Names {
  readonly fd: number;
  readonly place: number;
  readonly devId: number;
  readonly vdeviceId: number | undefined;
}

const namesIn = (data: Data): Names => {
  const { fd, place, devId, vdeviceId } = recordOf(data);
  return {
    fd: Number(fd),
    place: Number(place),
    devId: Number(devId),
    vdeviceId: vdeviceId === undefined ? undefined : Number(vdeviceId),
  };
};

/**
 * What a VMM does at start-up, as QEMU would: opens iommufd, binds the devices, maps guest memory and the interrupt
 * files at their guest-physical addresses, and stands a vIOMMU on a nesting parent. After it every change comes from a
 * guest's command, or from a device that is plugged in or taken out.
 */
export const assignDevices = (options: AssignmentOptions): Assignment => {
  const { kernel, memory, trace } = options;
  const { iommufd } = must(Iommufd.open(kernel));
  const { ioasId } = must(iommufd.ioasAlloc());

  const ramFd = kernel.memfd(0, { hpa: memory.guestBase, bytes: memory.guestBytes });
  const ram = { ioasId, fd: ramFd, start: 0n, bytes: BigInt(memory.guestBytes), iova: BigInt(layout.ram.base) };
  must(iommufd.ioasMapFile(ram));
  for (const { gpa, hpa } of options.interruptFiles) {
    const address = kernel.map({ bytes: 4096, mmio: hpa, pinnable: true });
    must(iommufd.ioasMap({ ioasId, address, bytes: 4096n, iova: BigInt(gpa) }));
  }

  const all: Bound[] = [];
  const bind = (device: HostDevice, names?: Names): Result<{ readonly bound: Bound }> => {
    const open = (): ReturnType<typeof VfioDevice.open> => VfioDevice.open(kernel, device.vfioName, names?.place);
    const opened = names ? kernel.openingAs(names.fd, open) : open();
    if (!opened.ok) return opened;
    const vfio = opened.device;
    const join = (): ReturnType<VfioDevice['bind']> => vfio.bind(iommufd);
    const bound = names ? kernel.makingAs(iommufd.fd, names.devId, join) : join();
    if (!bound.ok) {
      vfio.close();
      return bound;
    }
    const isBehind = options.hasViommu && device.placed.iommu;
    // Without a vIOMMU the guest's device addresses are guest-physical: the second stage is all there is.
    const attached = isBehind ? undefined : vfio.attach(ioasId);
    if (attached && !attached.ok) {
      vfio.close();
      return attached;
    }
    const one: Bound = { device, vfio, devId: bound.devId, isBehind, virtual: undefined };
    all.push(one);
    return { ok: true, bound: one };
  };
  for (const device of options.devices) must(bind(device));
  const find = (device: HostDevice): Bound | undefined => all.find((one) => one.device === device);
  const namesOf = (device: HostDevice): Data => {
    const { vfio, devId, virtual } = find(device)!;
    return { fd: vfio.fd, place: vfio.place, devId, vdeviceId: virtual?.vdeviceId };
  };
  const bindAgain = (device: HostDevice, names: Names): Bound => {
    const result = bind(device, names);
    if (!result.ok) throw new SavedError(`${device.placed.id}: ${describeHostError(result.error)}`);
    return result.bound;
  };
  const release = (bound: Bound): void => {
    all.splice(all.indexOf(bound), 1);
    bound.vfio.close();
  };
  const close = (): void => {
    for (const { vfio } of all) vfio.close();
    iommufd.close();
    kernel.close(ramFd);
  };
  const behind = all.filter(({ isBehind }) => isBehind);
  const first = behind[0];
  if (!first) {
    const add = (device: HostDevice): HostError | undefined => {
      const result = bind(device);
      return result.ok ? undefined : result.error;
    };
    const remove = (device: HostDevice): void => {
      const bound = find(device);
      if (bound) release(bound);
    };
    const rename = (device: HostDevice, guestRid: Rid | undefined): void => void (device.guestRid = guestRid);
    const addAgain = (device: HostDevice, names: Data): void => void bindAgain(device, namesIn(names));
    return { iommufd, ioasId, parentId: undefined, viommu: undefined, add, namesOf, addAgain, rename, remove, close };
  }

  const parentFlags = iommufdUapi.IOMMU_HWPT_ALLOC_NEST_PARENT;
  const { hwptId: parentId } = must(iommufd.hwptAlloc({ devId: first.devId, ptId: ioasId, flags: parentFlags }));
  const type = extensionUapi.IOMMU_VIOMMU_TYPE_RISCV;
  const { viommuId } = must(iommufd.viommuAlloc({ type, devId: first.devId, hwptId: parentId }));
  const { fd: eventFd } = must(iommufd.veventqAlloc(viommuId, extensionUapi.IOMMU_VEVENTQ_TYPE_RISCV, eventDepth));
  /** Gives the device the name that the guest has for it; undefined where it has none. */
  const name = (bound: Bound): Result<{ readonly assigned: AssignedDevice | undefined }> => {
    const { device, devId, vfio } = bound;
    const deviceId = device.guestRid;
    if (deviceId === undefined) return { ok: true, assigned: undefined };
    const made = iommufd.vdeviceAlloc(viommuId, devId, BigInt(deviceId));
    if (!made.ok) return made;
    bound.virtual = { vdeviceId: made.vdeviceId, deviceId };
    return { ok: true, assigned: { deviceId, devId, vfio, pri: device.placed.function.pri !== undefined } };
  };
  const assigned = behind.map((bound) => must(name(bound)).assigned).filter((one) => one !== undefined);
  const functions = behind.map(({ device }) => device.placed.function);
  const hasAts = options.hasSlots || functions.some(({ ats }) => ats !== undefined);
  const invalidationFd = hasAts
    ? must(iommufd.veventqAlloc(viommuId, extensionUapi.IOMMU_VEVENTQ_TYPE_RISCV_INVALIDATION, invalidationEvents)).fd
    : undefined;
  const hasPri = options.hasSlots || functions.some(({ pri }) => pri !== undefined);
  const faults = hasPri ? must(iommufd.faultQueueAlloc()) : undefined;
  const stopMarkerFd = hasPri
    ? must(iommufd.veventqAlloc(viommuId, extensionUapi.IOMMU_VEVENTQ_TYPE_RISCV_STOP_MARKER, stopMarkers)).fd
    : undefined;
  const info = must(iommufd.getHwInfo(first.devId));
  const { capabilities: hostCapabilities } = iommu_hw_info_riscv.decode(info.data);
  const host = new Host({
    iommufd,
    viommuId,
    parentId,
    eventFd,
    ...(faults ? { faults } : {}),
    ...(invalidationFd === undefined ? {} : { invalidationFd }),
    ...(stopMarkerFd === undefined ? {} : { stopMarkerFd }),
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
  if (stopMarkerFd !== undefined) fds.push([stopMarkerFd, () => viommu.readStopMarkers()]);
  const stops = fds.map(([fd, wake]) => kernel.watch(fd, wake));

  const arrive = (bound: Bound): HostError | undefined => {
    const named = name(bound);
    if (!named.ok) return named.error;
    if (named.assigned) viommu.addDevice(named.assigned);
    return undefined;
  };
  const leave = (bound: Bound): void => {
    const { virtual } = bound;
    if (!virtual) return;
    bound.virtual = undefined;
    viommu.removeDevice(virtual.deviceId);
    // First, since the id of a virtual device that its device takes along would never be used again.
    iommufd.destroy(virtual.vdeviceId);
  };
  /** Two devices of one name: the second gets it when the first has given it up. */
  const arriveLate = (): void => {
    for (const bound of all) if (bound.isBehind && !bound.virtual) arrive(bound);
  };
  return {
    iommufd,
    ioasId,
    parentId,
    viommu,
    add: (device) => {
      const result = bind(device);
      if (!result.ok) return result.error;
      const error = result.bound.isBehind ? arrive(result.bound) : undefined;
      if (error) release(result.bound);
      return error;
    },
    namesOf,
    addAgain: (device, data) => {
      const names = namesIn(data);
      const { vdeviceId } = names;
      const bound = bindAgain(device, names);
      if (vdeviceId === undefined) return;
      const error = kernel.makingAs(iommufd.fd, vdeviceId, () => arrive(bound));
      if (error) throw new SavedError(`${device.placed.id}: ${describeHostError(error)}`);
    },
    rename: (device, guestRid) => {
      // A machine that is taken up again gives it the name that it has.
      if (device.guestRid === guestRid) return;
      const bound = find(device);
      if (bound) leave(bound);
      device.guestRid = guestRid;
      arriveLate();
    },
    remove: (device) => {
      const bound = find(device);
      if (!bound) return;
      leave(bound);
      release(bound);
      arriveLate();
    },
    close: () => {
      for (const stop of stops) stop();
      close();
      for (const [fd] of fds) kernel.close(fd);
    },
  };
};
