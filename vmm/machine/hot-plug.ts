/** Devices that come and go while the guest runs. */
import { type Rid, rid } from '#vmm/base/address';
import type { Trace } from '#vmm/base/events';
import type { PciFunction } from '#vmm/base/ports';
import { type Data, listOf, recordOf, SavedError, within } from '#vmm/base/saved';
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
  card: Card | undefined;
}
interface Card extends PluggedDevice {
  readonly id: string;
  readonly device: HostDevice;
}

/** A device that was plugged in: what it was made from. */
export interface PluggedDevice {
  readonly driver: DeviceDriver;
  readonly settings: DeviceConfigs[keyof DeviceConfigs][number];
}

/**
 * Devices as `JSON.stringify` wrote `HotPlug.plugged`, for a machine of this configuration.
 * @throws SavedError
 */
export function parsePlugged(text: string, config: MachineConfig): readonly PluggedDevice[] {
  const { disks, nics, exercisers } = config;
  let present: DeviceConfigs = { disks, nics, exercisers };
  return (JSON.parse(text) as { readonly driver: DeviceDriver; readonly settings: object }[]).map((one) => {
    const { driver } = one;
    const list = deviceDrivers[driver];
    const keys = Object.fromEntries(Object.entries(one.settings).filter(([key]) => key !== 'address'));
    const parsed = parseDevice(list, keys, config, present);
    if (!parsed.ok) throw new SavedError('a device that was plugged in is not one of this program');
    present = { ...present, [list]: [...present[list], parsed.device] };
    return { driver, settings: parsed.device };
  });
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
    const device = this.#assign(placed);
    this.#plug(port, { driver: driver as DeviceDriver, settings, id, device });
    this.#tell(id, port, 'plugged in');
    return id;
  }

  #assign(placed: PlacedFunction): HostDevice {
    const { host, assignment, devices } = this.#parts;
    const device = host.add(placed);
    const error = assignment().add(device);
    if (error) {
      host.remove(device);
      devices.release(placed.id);
      throw new MachineError([`${placed.id}: ${describeHostError(error)}`]);
    }
    return device;
  }

  #plug(port: Port, card: Card): void {
    const { assignment, pci, isRunning } = this.#parts;
    const { driver, settings, device } = card;
    const list = deviceDrivers[driver];
    port.card = card;
    this.#present = { ...this.#present, [list]: [...this.#present[list], settings] };
    const named = (address: Rid | undefined): void => assignment().rename(device, address);
    pci.plugBehind(port.rid, 0, device.placed.function, device.port, named, !isRunning());
  }

  /** Ports with something in them, in the order in which it came. */
  #taken(): { readonly port: Port; readonly card: Card }[] {
    const { devices } = this.#parts.host;
    return this.#ports
      .flatMap((port) => (port.card ? [{ port, card: port.card }] : []))
      .toSorted((a, b) => devices.indexOf(a.card.device) - devices.indexOf(b.card.device));
  }

  /** The devices in ports, in the order in which they came. */
  get plugged(): readonly PluggedDevice[] {
    return this.#taken().map(({ card: { driver, settings } }) => ({ driver, settings }));
  }

  /** Where they are, and what everybody calls them. */
  save(): Data {
    return this.#taken().map(({ port, card: { id, device } }) => ({
      id,
      port: port.id,
      hostRid: device.hostRid,
      guestRid: device.guestRid,
      names: this.#parts.assignment().namesOf(device),
    }));
  }

  /**
   * Makes the devices of `plugged` again, each in its port and under its names; their states are restored with those of
   * all others. @throws SavedError
   */
  restore(plugged: readonly PluggedDevice[], data: Data): void {
    const items = listOf(data);
    if (items.length !== plugged.length)
      throw new SavedError(`expected ${plugged.length} devices in ports, found ${items.length}`);
    for (const [i, one] of plugged.entries()) within(one.settings.id, () => this.#makeAgain(one, items[i]));
  }

  #makeAgain({ driver, settings }: PluggedDevice, data: Data): void {
    const { host, assignment, devices } = this.#parts;
    const { id } = settings;
    const saved = recordOf(data);
    const port = this.#ports.find((one) => one.id === saved['port']);
    if (!port || port.card || saved['id'] !== id) throw new SavedError('expected a free port that it was in');
    const hostRid = rid(Number(saved['hostRid']));
    if (host.devices.some((device) => device.hostRid === hostRid))
      throw new SavedError('its place on the host is taken');
    let fn: PciFunction;
    try {
      fn = devices.make(driver, settings);
    } catch (error) {
      devices.release(id);
      throw error;
    }
    const device = host.add({ id, slot: 0, iommu: settings.iommu, function: fn }, hostRid);
    const { guestRid } = saved;
    device.guestRid = guestRid === undefined ? undefined : rid(Number(guestRid));
    assignment().addAgain(device, saved['names']);
    this.#plug(port, { driver, settings, id, device });
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
