import type { Clock } from '#vmm/base/clock';
import type { Trace } from '#vmm/base/events';
import { invariant } from '#vmm/base/invariant';
import { field, parts, type Saved } from '#vmm/base/saved';
import { bdf } from '#vmm/base/address';
import type { HostMemory } from '#vmm/base/memory';
import { rid, type Rid } from '#vmm/base/address';
import { RiscvIommuDriver } from '#iommufd/kernel/drivers/riscv/driver';
import { Kernel } from '#iommufd/kernel/kernel';
import { DeviceLink } from '#iommufd/host/riscv/device-link';
import { RiscvIommu } from '#iommufd/host/riscv/iommu';
import { RiscvTransactionPort } from '#iommufd/host/riscv/transaction-port';
import { capabilities } from '#iommufd/arch/riscv/registers';
import type { PlacedFunction } from './devices.ts';

/** What the host's silicon offers; a guest is offered a part of it (viommu/riscv/device). */
const siliconCapabilities = capabilities.encode({
  version: 0x10n,
  Sv39: 1n,
  Sv48: 1n,
  Sv57: 1n,
  Svpbmt: 1n,
  Sv39x4: 1n,
  Sv48x4: 1n,
  Sv57x4: 1n,
  MSI_FLAT: 1n,
  MSI_MRIF: 1n,
  AMO_HWAD: 1n,
  ATS: 1n,
  T2GPA: 1n,
  IGS: 2n,
  HPM: 1n,
  DBG: 1n,
  PAS: 46n,
  PD8: 1n,
  PD17: 1n,
  PD20: 1n,
  NL: 1n,
  S: 1n,
});

/** Devices of the host sit on a bus of its own, so that a guest's numbers and the host's are never the same. */
const hostBus = 0x30;
/** From the silicon's wire to the driver's handler thread, ns. */
const interruptNs = 2_000;

/** A device of the host: what the kernel and the hardware call it. */
export interface HostDevice {
  readonly placed: PlacedFunction;
  readonly hostRid: Rid;
  /** What the guest calls it; undefined behind a root port whose bus the guest has not numbered. */
  guestRid: Rid | undefined;
  readonly vfioName: string;
  /** Its way to memory. */
  readonly port: RiscvTransactionPort;
}

/** The host: silicon, and the kernel with its IOMMU driver, as the VMM process finds them. */
export interface HostSide {
  readonly silicon: RiscvIommu;
  /** Between the silicon and the devices: ATS and PRI messages. */
  readonly link: DeviceLink;
  readonly driver: RiscvIommuDriver;
  readonly kernel: Kernel;
  /** In the order in which they came. */
  readonly devices: readonly HostDevice[];
  /** Faults of devices that have gone. */
  readonly goneFaults: () => number;
  /** What is not the parts' own. */
  readonly saved: Saved;
  /** A device comes: the kernel knows it, and nobody has it yet. `hostRid`: one that is free; default: the first. */
  add(placed: PlacedFunction, hostRid?: Rid): HostDevice;
  /** A device goes; no process has it any more. */
  remove(device: HostDevice): void;
}

export const buildHost = (
  memory: HostMemory,
  functions: readonly PlacedFunction[],
  clock: Clock,
  trace: Trace,
): HostSide => {
  let driver: RiscvIommuDriver | undefined = undefined;
  const link = new DeviceLink({ after: (ns, run) => clock.schedule(ns, run), trace });
  const silicon = new RiscvIommu({
    host: memory,
    capabilities: siliconCapabilities,
    devices: link,
    // Wires are read only once the driver enables interrupts, so it is there by then.
    wire: (vector: number, level: boolean) => driver?.interrupt(vector, level),
    trace,
    unit: 'host',
  });
  link.silicon = silicon;
  const made = new RiscvIommuDriver({
    registers: silicon.registers,
    memory,
    defer: (work) => clock.schedule(interruptNs, work),
    invalidations: link,
    trace,
  });
  driver = made;
  const kernel = new Kernel({ memory, trace });
  const devices: HostDevice[] = [];
  let goneFaults = 0;
  const firstFree = (): Rid => {
    let index = 0;
    const ridOf = (i: number): Rid => rid((hostBus << 8) + (i << 3));
    while (devices.some(({ hostRid }) => hostRid === ridOf(index))) index++;
    return ridOf(index);
  };
  const add = (placed: PlacedFunction, hostRid = firstFree()): HostDevice => {
    const index = (hostRid - (hostBus << 8)) >> 3;
    const vfioName = `vfio${index}`;
    const { ats, pri, pasid } = placed.function;
    const rc = kernel.registerDevice({
      name: placed.id,
      vfioName,
      rid: hostRid,
      iommu: made,
      ats: ats !== undefined,
      pri: pri !== undefined,
      pasidBits: pasid?.bits ?? 0,
      pasidExec: pasid?.execute === true,
      pasidPriv: pasid?.privileged === true,
      reset: () => placed.function.reset(),
    });
    invariant(rc === 0, `the host kernel refused ${placed.id}: errno ${rc}`);
    const port = new RiscvTransactionPort(silicon, memory, hostRid, link);
    const device: HostDevice = {
      placed,
      hostRid,
      guestRid: placed.slot === 0 ? undefined : rid(placed.slot << 3),
      vfioName,
      port,
    };
    devices.push(device);
    return device;
  };
  const remove = (device: HostDevice): void => {
    link.detach(device.hostRid);
    silicon.check?.deviceGone(device.hostRid);
    const rc = kernel.unregisterDevice(device.vfioName);
    invariant(rc === 0, `the host kernel kept ${device.placed.id}: errno ${rc}`);
    goneFaults += device.port.counters.faults;
    devices.splice(devices.indexOf(device), 1);
  };
  for (const placed of functions) add(placed);
  const saved = parts({
    goneFaults: field(
      () => goneFaults,
      (value) => (goneFaults = value),
    ),
  });
  return { silicon, link, driver: made, kernel, devices, goneFaults: () => goneFaults, saved, add, remove };
};

/** How the guest addresses a device, for people. */
export const guestAddress = ({ guestRid }: HostDevice): string => (guestRid === undefined ? '' : bdf(guestRid));
