/** Everything that `iommulab inspect` and the control socket can look at. */
import { hex } from '#vmm/base/address';
import { commands as architecture } from '#iommufd/arch/riscv/commands';
import { commands as guestCommands, type GuestCommand } from '#viommu/riscv/commands';
import { pciListing } from '#vmm/bus/pci/listing';
import { layout } from '#vmm/machine/layout';
import { deviceTable } from './device-table.ts';
import { ofMachine, type Inspection } from './inspection.ts';
import { iotlb } from './iotlb.ts';
import { objects } from './objects.ts';
import { pageTable } from './page-table.ts';
import { queueTable } from './queues.ts';
import { registers } from './registers.ts';

const pci = ofMachine({
  doc: 'Functions of the guest’s PCI bus: identity, BARs, capabilities.',
  columns: { address: 'text', line: 'text' },
  read: ({ pci: host }) => {
    let address = '';
    return pciListing(host.functions()).map((line) => {
      if (!line.startsWith('\t')) address = line.split(' ')[0]!;
      return { address, line: line.trim() };
    });
  },
  text: ({ pci: host }) => pciListing(host.functions()),
});

const commands: Inspection = {
  doc: 'Commands of the guest’s command queue, and the iommufd calls that each leads to.',
  columns: { command: 'text', opcode: 'text', spec: 'text', calls: 'text', when: 'text', executed: 'int' },
  needsRun: false,
  read: (machine) =>
    Object.entries<GuestCommand>(guestCommands).map(([command, { spec, issues, deferred }]) => {
      const { opcode, func3 } = architecture[command as keyof typeof architecture];
      return {
        command,
        opcode: `${opcode}/${func3}`,
        spec,
        calls: issues.join(', ') || 'none',
        when: issues.length === 0 ? '' : deferred ? 'by the next IOFENCE.C' : 'at once',
        executed: machine?.assignment.viommu?.commandCounts[command] ?? 0,
      };
    }),
};

const memoryMap: Inspection = {
  doc: 'Guest-physical addresses: what may lie there, and in a machine what does.',
  columns: { first: 'text', last: 'text', bytes: 'bytes', name: 'text', doc: 'text' },
  needsRun: false,
  read: (machine) => {
    const docs: Readonly<Record<string, { readonly doc: string }>> = layout;
    const ram = { name: 'ram', base: layout.ram.base, bytes: machine?.config.memory ?? layout.ram.bytes };
    const regions = machine
      ? [...machine.bus.regions(), ram]
      : Object.entries(layout).map(([name, region]) => ({ name, ...region }));
    return regions
      .toSorted((a, b) => a.base - b.base)
      .map(({ name, base, bytes }) => ({
        first: hex(base),
        last: hex(base + bytes - 1),
        bytes,
        name,
        doc: docs[name]?.doc ?? Object.values(layout).find((r) => r.base <= base && base < r.base + r.bytes)?.doc ?? '',
      }));
  },
};

/** In the order in which a DMA meets them. */
// prettier-ignore
export const inspections = {
  registers, 'device-table': deviceTable, 'page-table': pageTable, iotlb, objects, queues: queueTable, pci, commands,
  'memory-map': memoryMap,
} as const satisfies Record<string, Inspection>;
export type InspectionName = keyof typeof inspections;
export const inspectionNames = Object.keys(inspections) as InspectionName[];

/** `registers` from what a person typed; undefined for anything else. */
export const findInspection = (name: string): Inspection | undefined =>
  Object.hasOwn(inspections, name) ? inspections[name as InspectionName] : undefined;
