import type { Clock } from '#vmm/base/clock';
import type { Trace } from '#vmm/base/events';
import type { PacketBackend, PciFunction, StorageBackend } from '#vmm/base/ports';
import { Hub } from '#devices/backends/packet/hub';
import { loopback } from '#devices/backends/packet/loopback';
import { exerciser } from '#devices/exerciser/device';
import { nic } from '#devices/nic/device';
import { nvme } from '#devices/nvme/device';
import type { DeviceConfigs, DiskConfig, ExerciserConfig, MachineConfig, NicConfig } from '../config/schema.ts';

/** A device of the configuration: the function, and where the guest finds it. */
export interface PlacedFunction {
  readonly id: string;
  /** PCI device number on bus 0; 0: it is behind a root port. */
  readonly slot: number;
  /** Behind the vIOMMU. */
  readonly iommu: boolean;
  readonly function: PciFunction;
}

export interface DeviceSources {
  readonly clock: Clock;
  readonly trace: Trace;
  readonly openDisk: (disk: DiskConfig) => StorageBackend;
  /** A wire that leaves the process: backends stream and dgram. */
  readonly openNetwork: (nic: NicConfig) => PacketBackend;
  readonly closeNetwork?: ((wire: PacketBackend) => void) | undefined;
  /** Looks at the frames of a card (a capture). */
  readonly wrapNetwork?: ((name: string, backend: PacketBackend) => PacketBackend) | undefined;
}

const macBytes = (mac: string): Uint8Array => Uint8Array.from(mac.split(':'), (octet) => Number.parseInt(octet, 16));

/** What `device_add` calls the kinds of devices, and the list of the configuration that each belongs to. */
export const deviceDrivers = { nvme: 'disks', nic: 'nics', exerciser: 'exercisers' } as const satisfies Record<
  string,
  keyof DeviceConfigs
>;
export type DeviceDriver = keyof typeof deviceDrivers;

/** Makes devices, and holds what is behind them: disks and wires, by the devices' ids. */
export class Devices {
  readonly disks = new Map<string, StorageBackend>();
  readonly wires = new Map<string, PacketBackend>();
  readonly #sources: DeviceSources;
  readonly #hubs = new Map<string, Hub>();
  /** What a card's end of the world is given up by. */
  readonly #leave = new Map<string, () => void>();

  constructor(sources: DeviceSources) {
    this.#sources = sources;
  }

  /** Every device of a configuration: disks first, then network cards, then exercisers. */
  all(config: MachineConfig): readonly PlacedFunction[] {
    return [
      ...config.disks.map((disk) => this.#place(disk, this.disk(disk))),
      ...config.nics.map((card) => this.#place(card, this.nic(card))),
      ...config.exercisers.map((one) => this.#place(one, this.exerciser(one))),
    ];
  }

  #place({ id, address, iommu }: { id: string; address: number; iommu: boolean }, fn: PciFunction): PlacedFunction {
    return { id, slot: address, iommu, function: fn };
  }

  disk(config: DiskConfig): PciFunction {
    const { clock, trace, openDisk } = this.#sources;
    const { id, serial = id, 'pasid-bits': pasidBits } = config;
    const backend = openDisk(config);
    this.disks.set(id, backend);
    return nvme({ name: id, clock, trace, backend, serial, pasidBits });
  }

  nic(config: NicConfig): PciFunction {
    const { clock, trace, wrapNetwork } = this.#sources;
    const { id, mac } = config;
    const end = this.#end(config);
    const backend = wrapNetwork?.(id, end) ?? end;
    this.wires.set(id, backend);
    return nic({ name: id, clock, trace, backend, mac: macBytes(mac) });
  }

  exerciser({ id, 'pasid-bits': pasidBits }: ExerciserConfig): PciFunction {
    const { clock, trace } = this.#sources;
    return exerciser({ name: id, clock, trace, pasidBits });
  }

  /** A device of any kind, by what `device_add` calls it. */
  make<D extends DeviceDriver>(driver: D, config: DeviceConfigs[(typeof deviceDrivers)[D]][number]): PciFunction {
    if (driver === 'nvme') return this.disk(config as DiskConfig);
    return driver === 'nic' ? this.nic(config as NicConfig) : this.exerciser(config as ExerciserConfig);
  }

  /** The card's end of its wire. */
  #end(config: NicConfig): PacketBackend {
    const { id, backend, hub: name } = config;
    if (backend === 'loopback') return loopback();
    if (backend === 'none') return { send: () => {}, onFrame: undefined, linkUp: false };
    if (backend === 'stream' || backend === 'dgram') {
      const { openNetwork, closeNetwork } = this.#sources;
      const wire = openNetwork(config);
      this.#leave.set(id, () => closeNetwork?.(wire));
      return wire;
    }
    let hub = this.#hubs.get(name);
    if (!hub) this.#hubs.set(name, (hub = new Hub()));
    const segment = hub;
    const end = segment.join();
    this.#leave.set(id, () => segment.leave(end));
    return end;
  }

  /** The device is gone: its disk is flushed and closed, its wire cut. */
  release(id: string): void {
    const disk = this.disks.get(id);
    this.disks.delete(id);
    this.wires.delete(id);
    this.#leave.get(id)?.();
    this.#leave.delete(id);
    disk?.close();
  }

  /** Flushes and closes every disk; wires that leave the process are closed by whoever opened them. */
  close(): void {
    for (const disk of this.disks.values()) disk.close();
  }
}
