/** How each event is told to a person: which layer speaks, and its sentence. What is not here is told in general terms. */
import type { FieldValue } from '#vmm/base/events';
import { bdf, hex } from '#vmm/base/address';

export type Fields = Readonly<Record<string, FieldValue>>;

/** Depth of indentation follows the way of a DMA: guest → vIOMMU → iommufd → hardware. */
export const layers = {
  guest: { depth: 0, label: 'guest' },
  device: { depth: 1, label: 'device' },
  viommu: { depth: 1, label: 'vIOMMU' },
  iommufd: { depth: 2, label: 'iommufd' },
  hardware: { depth: 3, label: 'host' },
} as const;
export type Layer = keyof typeof layers;

export interface Telling {
  readonly layer: Layer | ((fields: Fields) => Layer);
  readonly say: (fields: Fields) => string;
  /** Events with the same key are the same kind of thing: after the first few of a step only their number is told. */
  readonly kind: (fields: Fields) => string;
}

/** Events that come in thousands: told once a step, as a sum a device. */
export interface Sum {
  /** The device, and what it did: `nvme0` → `commands`. */
  readonly device: (fields: Fields) => string;
  readonly what: string;
  /** Splits the count: 64 read, 2 flush. */
  readonly split?: (fields: Fields) => string;
  readonly bytes?: (fields: Fields) => number;
}

const text = (value: FieldValue | undefined): string =>
  value === undefined ? '' : typeof value === 'bigint' ? hex(value) : String(value);
const address = (value: FieldValue | undefined): string =>
  typeof value === 'string' || value === undefined ? text(value) : hex(value);
const named = (fields: Fields, key: string, prefix = ''): string => {
  const value = text(fields[key]);
  return value === '' || value === '-1' ? '' : ` ${prefix}${value}`;
};
/** The front end is the same code for silicon and for the model; `unit` tells them apart. */
const unitLayer = (fields: Fields): Layer => (text(fields['unit']).startsWith('host') ? 'hardware' : 'viommu');

// prettier-ignore
export const tellings: Readonly<Record<string, Telling>> = {
  'iommu.command': {
    layer: unitLayer,
    say: (f) => `${text(f['command'])}${named(f, 'operands')}${f['outcome'] === 'ok' ? '' : named(f, 'outcome', '→ ')}`,
    kind: (f) => text(f['command']),
  },
  'iommu.fault': {
    layer: unitLayer,
    say: (f) => `fault: ${text(f['name'])} (cause ${text(f['cause'])}) by ${bdf(Number(f['rid']))} at IOVA ${address(f['iova'])}${f['recorded'] === 0 ? ', not recorded' : ''}`,
    kind: (f) => `fault: ${text(f['name'])}`,
  },
  'iommu.page-request': {
    layer: unitLayer,
    say: (f) => `page request by ${bdf(Number(f['rid']))} at ${address(f['address'])}${named(f, 'outcome', '→ ')}`,
    kind: () => 'page request',
  },
  'iommu.interrupt': {
    layer: unitLayer,
    say: (f) => `interrupt: ${text(f['cause'])}${named(f, 'message', '→ ')}`,
    kind: (f) => `interrupt: ${text(f['cause'])}`,
  },
  'iommu.invalidate': {
    layer: 'hardware',
    say: (f) => `${text(f['command'])} dropped ${text(f['entries'])} cached translations`,
    kind: (f) => text(f['command']),
  },
  'iommu.walk': {
    layer: 'hardware',
    say: (f) => `walk for ${bdf(Number(f['rid']))}: IOVA ${address(f['iova'])} → GPA ${address(f['gpa'])} → HPA ${address(f['hpa'])} (${text(f['path'])}, ${text(f['references'])} memory references)`,
    kind: (f) => `walks for ${bdf(Number(f['rid']))}`,
  },
  'host.fault': {
    layer: 'hardware',
    say: (f) => `refused a DMA of ${bdf(Number(f['rid']))}: cause ${text(f['cause'])}${f['guest'] === 1 ? ', for the guest to know' : ''}`,
    kind: (f) => `refused: cause ${text(f['cause'])}`,
  },
  'iommufd.ioctl': {
    layer: 'iommufd',
    say: (f) => `${text(f['name'])}(${text(f['in']).replaceAll(' ', ', ')}) = ${text(f['result'])}${f['out'] === '' ? '' : ` {${text(f['out']).replaceAll(' ', ', ')}}`}`,
    kind: (f) => text(f['name']),
  },
  'iommufd.read': {
    layer: 'iommufd',
    say: (f) => `read(fd ${text(f['fd'])}) = ${text(f['result'])}`,
    kind: () => 'read',
  },
  'iommufd.write': {
    layer: 'iommufd',
    say: (f) => `write(fd ${text(f['fd'])}) = ${text(f['result'])}`,
    kind: () => 'write',
  },
  'viommu.context': {
    layer: 'viommu',
    say: (f) => `device context of ${bdf(Number(f['rid']))}: ${text(f['state'])}${named(f, 'detail')}`,
    kind: () => 'device context',
  },
  'viommu.fault': {
    layer: 'viommu',
    say: (f) => `passes the guest a fault: ${text(f['name'])} (cause ${text(f['cause'])}) by ${bdf(Number(f['rid']))} at IOVA ${address(f['iova'])}`,
    kind: (f) => `fault passed on: ${text(f['name'])}`,
  },
  'viommu.refused': {
    layer: 'viommu',
    say: (f) => `the host refused ${text(f['call'])}: ${text(f['errno'])}`,
    kind: (f) => `refused ${text(f['call'])}`,
  },
  'pci.bar': {
    layer: 'device',
    say: (f) => `${text(f['name'])}: BAR ${text(f['bar'])} at ${address(f['address'])}, ${text(f['bytes'])} bytes`,
    kind: () => 'BAR placed',
  },
  'pci.bus-master': {
    layer: 'device',
    say: (f) => `${text(f['name'])}: ${f['enabled'] === 1 ? 'may do DMA now' : 'may no longer do DMA'}`,
    kind: (f) => `${text(f['name'])} bus master`,
  },
  'pci.reset': {
    layer: 'device',
    say: (f) => `${text(f['name'])}: reset (${text(f['cause'])})`,
    kind: (f) => `${text(f['name'])} reset`,
  },
  'nvme.ready': {
    layer: 'device',
    say: (f) => `${text(f['device'])}: ready, admin queues at IOVA ${address(f['asq'])} and ${address(f['acq'])}`,
    kind: (f) => `${text(f['device'])} ready`,
  },
  'nvme.queue': {
    layer: 'device',
    say: (f) => `${text(f['device'])}: ${text(f['what'])} queue ${text(f['qid'])}, ${text(f['entries'])} entries at IOVA ${address(f['address'])}`,
    kind: (f) => `${text(f['device'])} queue`,
  },
  'nvme.reset': {
    layer: 'device',
    say: (f) => `${text(f['device'])}: reset (${text(f['cause'])})`,
    kind: (f) => `${text(f['device'])} reset`,
  },
  'nic.reset': {
    layer: 'device',
    say: (f) => `${text(f['device'])}: reset (${text(f['by'])})`,
    kind: (f) => `${text(f['device'])} reset`,
  },
  'nic.link': {
    layer: 'device',
    say: (f) => `${text(f['device'])}: link ${f['up'] === 1 ? 'up' : 'down'}`,
    kind: (f) => `${text(f['device'])} link`,
  },
};

const device = (fields: Fields): string => text(fields['device'] ?? fields['name']);

// prettier-ignore
export const sums: Readonly<Record<string, Sum>> = {
  'nvme.command': { device, what: 'commands', split: (f) => text(f['name']) },
  'nic.transmit': { device, what: 'frames sent', bytes: (f) => Number(f['bytes']) },
  'nic.receive':  { device, what: 'frames received', bytes: (f) => Number(f['bytes']) },
  'nic.drop':     { device, what: 'frames dropped', split: (f) => text(f['reason']) },
  'pci.message':  { device, what: 'MSI-X messages' },
};
