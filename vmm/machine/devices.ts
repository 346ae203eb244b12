import type { Clock } from '#vmm/base/clock';
import type { Trace } from '#vmm/base/events';
import type { PacketBackend, PciFunction, StorageBackend } from '#vmm/base/ports';
import { hub } from '#devices/backends/packet/hub';
import { loopback } from '#devices/backends/packet/loopback';
import { exerciser } from '#devices/exerciser/device';
import { nic } from '#devices/nic/device';
import { nvme } from '#devices/nvme/device';
import type { DiskConfig, MachineConfig, NicConfig } from '../config/schema.ts';

/** A device of the configuration: the function, and where the guest finds it. */
export interface PlacedFunction {
  readonly id: string;
  /** PCI device number on bus 0. */
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
  /** Looks at the frames of a card (a capture). */
  readonly wrapNetwork?: (name: string, backend: PacketBackend) => PacketBackend;
}

const unplugged: PacketBackend = { send: () => {}, onFrame: undefined, linkUp: false };

/** One end of a wire for each NIC, in the order of the configuration. */
const packetBackends = (nics: readonly NicConfig[], open: DeviceSources['openNetwork']): readonly PacketBackend[] => {
  const hubs = new Map<string, PacketBackend[]>();
  for (const { backend, hub: name } of nics) {
    if (backend !== 'hub' || hubs.has(name)) continue;
    const members = nics.filter((other) => other.backend === 'hub' && other.hub === name);
    hubs.set(name, [...hub(members.length)]);
  }
  return nics.map((nic) => {
    const { backend, hub: name } = nic;
    if (backend === 'loopback') return loopback();
    if (backend === 'stream' || backend === 'dgram') return open(nic);
    return backend === 'none' ? { ...unplugged } : hubs.get(name)!.shift()!;
  });
};

const macBytes = (mac: string): Uint8Array => Uint8Array.from(mac.split(':'), (octet) => Number.parseInt(octet, 16));

/** Builds every configured device; `disks` collects the opened backends, to be closed with the machine. */
export const buildDevices = (
  config: MachineConfig,
  { clock, trace, openDisk, openNetwork, wrapNetwork }: DeviceSources,
  disks: StorageBackend[],
): readonly PlacedFunction[] => {
  const wires = packetBackends(config.nics, openNetwork).map(
    (wire, i) => wrapNetwork?.(config.nics[i]!.id, wire) ?? wire,
  );
  return [
    ...config.disks.map((disk) => {
      const backend = openDisk(disk);
      disks.push(backend);
      const { id, address: slot, iommu, serial = id, 'pasid-bits': pasidBits } = disk;
      return { id, slot, iommu, function: nvme({ name: id, clock, trace, backend, serial, pasidBits }) };
    }),
    ...config.nics.map(({ id, address: slot, iommu, mac }, i) => ({
      id,
      slot,
      iommu,
      function: nic({ name: id, clock, trace, backend: wires[i]!, mac: macBytes(mac) }),
    })),
    ...config.exercisers.map(({ id, address: slot, iommu, 'pasid-bits': pasidBits }) => ({
      id,
      slot,
      iommu,
      function: exerciser({ name: id, clock, trace, pasidBits }),
    })),
  ];
};
