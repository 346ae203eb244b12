/** Devices that come and go while the guest runs. */
import { type Rid, rid } from '#vmm/base/address';
import type { Trace } from '#vmm/base/events';
import type { PciFunction } from '#vmm/base/ports';
import { describeHostError } from '#iommufd/client/result';
import type { PciHost } from '../bus/pci/host.ts';
import { parseDevice } from '../config/device.ts';
import { issueText } from '../config/issues.ts';
import { placePorts } from '../config/placement.ts';
import type { DeviceConfigs, MachineConfig } from '../config/schema.ts';
import type { Assignment } from './assignment.ts';
import { type DeviceDriver, deviceDrivers, type Devices, type PlacedFunction } from './devices.ts';
import type { HostDevice, HostSide } from './host-side.ts';
import { MachineError } from './machine-error.ts';

/** A hot-plug port, and what is in its slot. */
interface Port {
  readonly id: string;
  readonly rid: Rid;
  card: { readonly driver: DeviceDriver; readonly id: string; readonly device: HostDevice } | undefined;
}

export interface HotPlugParts {
  readonly config: MachineConfig;
  readonly pci: PciHost;
  readonly host: HostSide;
  readonly assignment: () => Assignment;
  readonly devices: Devices;
  readonly trace: Trace;
  /** The guest has executed something. */
  readonly isRunning: () => boolean;
}

/** A root port as the host's kernel sees it: a function that sends an interrupt message now and then. */
const portFunction = (name: string): PciFunction => ({
  name,
  vendorId: 0x1b36,
  deviceId: 0x000c,
  classCode: 0x060400,
  revision: 0,
  subsystemVendorId: 0,
  subsystemId: 0,
  bars: [],
  flr: false,
  connect: () => {},
  reset: () => {},
  busMaster: () => {},
});

/** The host's side of a machine's ports: their interrupt messages are DMA, and pass the vIOMMU as any other. */
export const portsOf = (config: MachineConfig): readonly PlacedFunction[] =>
  placePorts(config).map(({ id, address }) => ({ id, slot: address, iommu: true, function: portFunction(id) }));

export class HotPlug {
  /** Told when the guest has let a device go, or it was torn out; by then nothing is left of it. */
  onDeleted: ((id: string) => void) | undefined;
  readonly #parts: HotPlugParts;
  readonly #ports: readonly Port[];
  /** The devices that are there now. */
  #present: DeviceConfigs;

  constructor(parts: HotPlugParts) {
    this.#parts = parts;
    const { config, host, pci } = parts;
    const { disks, nics, exercisers } = config;
    this.#present = { disks, nics, exercisers };
    this.#ports = placePorts(config).map(({ id, address }, index) => {
      const { port } = host.devices.find(({ placed }) => placed.id === id)!;
      pci.plugRootPort(rid(address << 3), id, { number: index + 1, port });
      const made: Port = { id, rid: rid(address << 3), card: undefined };
      pci.hotPlugSlot(made.rid)!.onRelease = () => this.#takeOut(made);
      return made;
    });
  }

  /** The devices that are there now, by their lists of the configuration. */
  get present(): DeviceConfigs {
    return this.#present;
  }

  /** Ports, and the id of the device in each. */
  ports(): readonly { readonly id: string; readonly device: string | undefined; readonly isAsked: boolean }[] {
    return this.#ports.map(({ id, rid: address, card }) => ({
      id,
      device: card?.id,
      isAsked: this.#parts.pci.hotPlugSlot(address)!.isAsked,
    }));
  }

  /**
   * Plugs a device into the first free port, or into `bus`; `keys` are those of its list in the configuration.
   * Returns its id.
   * @throws MachineError where there is no free port, for keys that are wrong, and for what the host refuses
   */
  add(driver: string, keys: unknown, bus?: string): string {
    if (!Object.hasOwn(deviceDrivers, driver))
      throw new MachineError([
        `driver: expected one of ${Object.keys(deviceDrivers).join(', ')}, found ${JSON.stringify(driver)}`,
      ]);
    const list = deviceDrivers[driver as DeviceDriver];
    const { config, devices } = this.#parts;
    const parsed = parseDevice(list, keys, config, this.#present);
    if (!parsed.ok) throw new MachineError(parsed.issues.map((issue) => issueText(issue)));
    const { device: settings } = parsed;
    const { id } = settings;
    if (this.#ports.some((port) => port.id === id))
      throw new MachineError([`id: expected an id that nothing else has, found ${JSON.stringify(id)}, a port`]);
    const port = this.#freePort(bus);
    let fn: PciFunction;
    try {
      fn = devices.make(driver as DeviceDriver, settings);
    } catch (error) {
      // Whatever the host says of a file or a socket; a device that was not made leaves nothing open.
      devices.release(id);
      throw new MachineError([`${id}: ${(error as Error).message}`]);
    }
    const placed: PlacedFunction = { id, slot: 0, iommu: settings.iommu, function: fn };
    this.#plug(port, driver as DeviceDriver, placed);
    this.#present = { ...this.#present, [list]: [...this.#present[list], settings] };
    this.#tell(id, port, 'plugged in');
    return id;
  }

  #plug(port: Port, driver: DeviceDriver, placed: PlacedFunction): void {
    const { host, assignment, pci, devices } = this.#parts;
    const device = host.add(placed);
    const error = assignment().add(device);
    if (error) {
      host.remove(device);
      devices.release(placed.id);
      throw new MachineError([`${placed.id}: ${describeHostError(error)}`]);
    }
    port.card = { driver, id: placed.id, device };
    const named = (address: Rid | undefined): void => assignment().rename(device, address);
    pci.plugBehind(port.rid, 0, placed.function, device.port, named, !this.#parts.isRunning());
  }

  #freePort(bus: string | undefined): Port {
    const ids = this.#ports.map(({ id }) => id).join(', ');
    if (this.#ports.length === 0)
      throw new MachineError(['expected a free hot-plug port, found a machine without any (--hotplug-ports)']);
    if (bus === undefined) {
      const free = this.#ports.find(({ card }) => !card);
      if (!free) throw new MachineError([`expected a free hot-plug port, found all of them taken (${ids})`]);
      return free;
    }
    const port = this.#ports.find(({ id }) => id === bus);
    if (!port) throw new MachineError([`bus: expected one of ${ids}, found ${JSON.stringify(bus)}`]);
    if (port.card) throw new MachineError([`bus: expected a free port, found ${bus}, which ${port.card.id} is in`]);
    return port;
  }

  /**
   * Asks the guest for a device (attention button); `onDeleted` tells when it has let it go. `surprise`: it is torn out
   * now, whatever it does.
   * @throws MachineError where it is in no slot, or was asked for already
   */
  remove(id: string, surprise = false): void {
    const port = this.#ports.find(({ card }) => card?.id === id);
    if (!port) {
      const there = this.#ports.flatMap(({ card }) => (card ? [card.id] : [])).join(', ') || 'none';
      throw new MachineError([`id: expected a device in a hot-plug slot (${there}), found ${JSON.stringify(id)}`]);
    }
    if (surprise) return this.#takeOut(port);
    const slot = this.#parts.pci.hotPlugSlot(port.rid)!;
    if (slot.isAsked)
      throw new MachineError([`${id}: the guest was asked for it already (surprise takes it out at once)`]);
    this.#tell(id, port, 'asked for');
    slot.askForRemoval();
  }

  /** Silences the device, gives back what it had of the host, and closes what was behind it. */
  #takeOut(port: Port): void {
    const { driver, id, device } = port.card!;
    const { pci, assignment, host, devices } = this.#parts;
    port.card = undefined;
    pci.unplugBehind(port.rid, 0);
    assignment().remove(device);
    host.remove(device);
    devices.release(id);
    const list = deviceDrivers[driver];
    this.#present = { ...this.#present, [list]: this.#present[list].filter((one) => one.id !== id) };
    this.#tell(id, port, 'gone');
    this.onDeleted?.(id);
  }

  #tell(device: string, port: Port, state: string): void {
    const { trace } = this.#parts;
    if (trace.on) trace.emit('machine.device', { device, port: port.id, state });
  }
}
