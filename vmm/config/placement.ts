import type { MachineConfig, SchemaOutput } from './schema.ts';

/** Takes the first of `candidate(0)`, `candidate(1)`, … that nobody has, and notes it. */
function claim<T>(taken: Set<T>, candidate: (index: number) => T): T {
  for (let index = 0; ; index++) {
    const value = candidate(index);
    if (taken.has(value)) continue;
    taken.add(value);
    return value;
  }
}

const macPrefix = '52:54:00';
const firstMac = 0x123456;
const macText = (index: number): string =>
  [16, 8, 0].reduce(
    (text, shift) => `${text}:${(((firstMac + index) >> shift) & 0xff).toString(16).padStart(2, '0')}`,
    macPrefix,
  );

/** The hot-plug ports of a machine: names and PCI device numbers that no device has, in order. */
export function placePorts(config: MachineConfig): readonly { readonly id: string; readonly address: number }[] {
  const devices = [...config.disks, ...config.nics, ...config.exercisers];
  const ids = new Set(devices.map(({ id }) => id));
  const slots = new Set([...devices.map(({ address }) => address), config.viommu.address]);
  return Array.from({ length: config['hotplug-ports'] }, () => ({
    id: claim(ids, (index) => `port${index}`),
    address: claim(slots, (index) => index + 1)!,
  }));
}

/** Gives the devices that lack them a name, a PCI device number and a MAC address: disks first, then NICs, in the order given. */
export function placeDevices(config: SchemaOutput): MachineConfig {
  const devices = [...config.disks, ...config.nics, ...config.exercisers];
  const ids = new Set(devices.map((device) => device.id));
  const slots = new Set([...devices.map((device) => device.address), config.viommu.address]);
  const macs = new Set(config.nics.map((nic) => nic.mac));
  const place = <T extends { readonly id?: string | undefined; readonly address?: number | undefined }>(
    device: T,
    kind: string,
  ) => ({
    ...device,
    id: device.id ?? claim(ids, (index) => `${kind}${index}`)!,
    address: device.address ?? claim(slots, (index) => index + 1)!,
  });
  // First: an operating system shuts devices down from the last to the first, and those behind an IOMMU need it until then.
  const { viommu } = config;
  const address = viommu.bus === 'pci' ? (viommu.address ?? claim(slots, (index) => index + 1)!) : undefined;
  return {
    ...config,
    viommu: { ...viommu, ...(address === undefined ? {} : { address }) },
    disks: config.disks.map((disk) => place(disk, 'nvme')),
    nics: config.nics.map((nic) => ({ ...place(nic, 'net'), mac: nic.mac ?? claim(macs, macText)! })),
    exercisers: config.exercisers.map((one) => place(one, 'exerciser')),
  };
}
