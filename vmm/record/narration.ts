/**
 * How each event is told to a person: which layer speaks, its sentence, and what it led to. Debug events that have no
 * row here are not told; others without a row are told in general terms.
 */
import type { FieldValue } from '#vmm/base/events';
import { bdf, hex } from '#vmm/base/address';

export type Fields = Readonly<Record<string, FieldValue>>;

/** Depth of indentation follows the way of a request: guest → vIOMMU → iommufd → hardware. */
export const layers = {
  device: { depth: 1, label: 'device' },
  viommu: { depth: 1, label: 'vIOMMU' },
  /** What a vIOMMU does because of something that it told before. */
  effect: { depth: 2, label: 'vIOMMU' },
  iommufd: { depth: 2, label: 'iommufd' },
  hardware: { depth: 3, label: 'host' },
} as const;
export type Layer = keyof typeof layers;

/** What people call the requester with this id: `nvme0`, or `00:01.0`. */
export type NameOf = (rid: number) => string;

export interface Telling {
  /** Undefined: not told. */
  readonly layer: Layer | ((fields: Fields) => Layer | undefined);
  readonly say: (fields: Fields, name: NameOf) => string;
  /** Events with the same kind are the same sort of thing: after the first few of a step only their number is told. */
  readonly kind: (fields: Fields, name: NameOf) => string;
  /** An event is emitted when it is over: those of these layers just before it, at the same instant, belong to it. */
  readonly adopts?: readonly Layer[];
  /** How many of a kind are told one by one in each step (default 2). */
  readonly each?: number;
}

/** Events that come in thousands: told once a step, as a sum a device. */
export interface Sum {
  readonly device: (fields: Fields) => string;
  /** What it did, once and often. */
  readonly what: readonly [one: string, many: string];
  /** Splits the count: 64 read, 2 flush. */
  readonly split?: (fields: Fields) => string;
  readonly bytes?: (fields: Fields) => number;
}

const text = (value: FieldValue | undefined): string =>
  value === undefined ? '' : typeof value === 'bigint' ? hex(value) : String(value);
const address = (value: FieldValue | undefined): string =>
  typeof value === 'string' || value === undefined ? text(value) : hex(value);
const after = (value: FieldValue | undefined, prefix: string): string => {
  const said = text(value);
  return said === '' ? '' : `${prefix}${said}`;
};
/** ` PASID 3`; nothing for requests without one. */
const pasid = (value: FieldValue | undefined): string =>
  value === undefined || Number(value) < 0 ? '' : ` PASID ${text(value)}`;
/** The front end is the same code for silicon and for the model; of silicon the effects are told instead. */
const modelOnly = (fields: Fields): Layer | undefined => (fields['unit'] === 'host' ? undefined : 'viommu');

/** Operands that say only that another one is valid, or which addresses the guest chose to be told at. */
const operands = (value: FieldValue | undefined): string =>
  text(value)
    .split(' ')
    .filter((operand) => !/^(AV|PSCV|GV|DV|PV|PR|PW|DATA)=/.test(operand))
    .join(' ');
/** Members of a structure that say where and how long the rest is. */
const argument = (value: FieldValue | undefined): string =>
  text(value)
    .split(' ')
    .filter((member) => !/^(data_uptr|data_len|data_type|entry_len|__reserved)=/.test(member))
    .join(', ');

// prettier-ignore
export const tellings: Readonly<Record<string, Telling>> = {
  'iommu.command': {
    layer: modelOnly,
    say: (f) => `${text(f['command'])}${f['command'] === 'IOFENCE.C' ? '' : after(operands(f['operands']), ' ')}${f['outcome'] === 'done' ? '' : after(f['outcome'], ' → ')}`,
    kind: (f) => text(f['command']),
    adopts: ['effect', 'iommufd', 'hardware'],
  },
  'viommu.context': {
    layer: 'effect',
    say: (f, name) => `device context of ${name(Number(f['rid']))}: ${text(f['state'])}${after(f['detail'], ', ')}`,
    kind: () => 'device context',
    adopts: ['iommufd', 'hardware'],
  },
  'iommufd.ioctl': {
    layer: 'iommufd',
    say: (f) => `${text(f['name'])}(${argument(f['in'])}) = ${text(f['result'])}${f['out'] === '' ? '' : ` {${argument(f['out'])}}`}`,
    kind: (f) => text(f['name']),
    adopts: ['hardware'],
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
    adopts: ['hardware'],
  },
  'iommu.invalidate': {
    layer: 'hardware',
    say: (f) => `${text(f['command'])} drops ${text(f['entries'])} cached ${text(f['command']).startsWith('IODIR') ? 'contexts' : 'translations'}`,
    kind: (f) => text(f['command']),
  },
  'iommu.walk': {
    layer: 'hardware',
    say: (f, name) => `first DMA of ${name(Number(f['rid']))} here: IOVA ${address(f['iova'])} → GPA ${address(f['gpa'])} → HPA ${address(f['hpa'])} (${text(f['path'])} walk, ${text(f['references'])} memory references)`,
    kind: (f, name) => `walk for ${name(Number(f['rid']))}`,
    each: 1,
  },
  'iommu.fault': {
    layer: (f) => (f['unit'] === 'host' ? 'hardware' : 'viommu'),
    say: (f, name) => `${f['unit'] === 'host' ? 'refuses' : 'fault record for the guest:'} ${name(Number(f['rid']))} at IOVA ${address(f['iova'])}: ${text(f['name'])} (cause ${text(f['cause'])})${f['recorded'] === 0 ? ', not recorded' : ''}`,
    kind: (f) => `fault: ${text(f['name'])}`,
    adopts: ['effect'],
  },
  'iommu.interrupt': {
    layer: (f) => (f['unit'] === 'host' ? undefined : 'effect'),
    say: (f) => `interrupt ${text(f['cause'])}${after(f['message'], ' → MSI to ')}`,
    kind: (f) => `interrupt ${text(f['cause'])}`,
  },
  'iommu.page-request': {
    layer: (f) => (f['unit'] === 'host' ? 'hardware' : 'viommu'),
    say: (f, name) => `page request of ${name(Number(f['rid']))} at ${address(f['address'])}${after(f['outcome'], ' → ')}`,
    kind: () => 'page request',
  },
  'viommu.page-response': {
    layer: 'effect',
    say: (f, name) => `page request group ${text(f['group'])} of ${name(Number(f['rid']))}${pasid(f['pasid'])} ${text(f['outcome'])}, response code ${text(f['code'])}`,
    kind: () => 'page response',
    adopts: ['iommufd', 'hardware'],
  },
  'viommu.events-lost': {
    layer: 'viommu',
    say: (f) => `the host dropped fault events before number ${text(f['sequence'])}: the guest sees an overflow`,
    kind: () => 'lost fault events',
  },
  'host.page-requests-lost': {
    layer: 'hardware',
    say: () => 'the host’s page-request queue overflowed',
    kind: () => 'lost page requests',
  },
  'ats.translation': {
    layer: 'hardware',
    say: (f, name) => `${name(Number(f['rid']))}${pasid(f['pasid'])} asks for a translation of IOVA ${address(f['iova'])}: ${f['rights'] === '' ? 'nothing granted' : `${address(f['address'])}, rights ${text(f['rights'])}`} (${text(f['status'])})`,
    kind: () => 'translation request',
  },
  'ats.invalidate': {
    layer: 'hardware',
    say: (f, name) => `${name(Number(f['rid']))}${pasid(f['pasid'])} is told to forget translations (itag ${text(f['itag'])})`,
    kind: () => 'device invalidation',
  },
  'ats.completion': {
    layer: 'hardware',
    say: (f, name) => `${name(Number(f['rid']))} and invalidation itag ${text(f['itag'])}: ${text(f['outcome'])}`,
    kind: () => 'invalidation completion',
  },
  'ats.unexpected-completion': {
    layer: 'hardware',
    say: (f, name) => `${name(Number(f['rid']))} completed an invalidation that nobody waits for (itag ${text(f['itag'])})`,
    kind: () => 'unexpected completion',
  },
  'pri.response': {
    layer: 'hardware',
    say: (f, name) => `${name(Number(f['rid']))}${pasid(f['pasid'])} gets the answer to page request group ${text(f['group'])}: code ${text(f['code'])}`,
    kind: () => 'page response message',
  },
  'check.stale-translation': {
    layer: 'hardware',
    say: (f, name) => `a stale ${text(f['cache'])} entry was served to ${name(Number(f['rid']))}${pasid(f['pasid'])} for IOVA ${address(f['iova'])}: ${text(f['served'])}, but the tables say ${text(f['now'])}${after(f['missing'], '; missing: ')}`,
    kind: () => 'stale translation',
  },
  'machine.inject': {
    layer: 'hardware',
    say: (f) => `injected ${text(f['kind'])}: ${text(f['state'])}${after(f['detail'], ', ')}`,
    kind: (f) => `injected ${text(f['kind'])}`,
  },
  'exerciser.reset': {
    layer: 'device',
    say: (f) => `${text(f['device'])}: reset (${text(f['by'])})`,
    kind: (f) => `${text(f['device'])} reset`,
  },
  'exerciser.queue-error': {
    layer: 'device',
    say: (f) => `${text(f['device'])}: queue ${text(f['queue'])} stopped with error ${text(f['error'])}`,
    kind: (f) => `${text(f['device'])} queue error`,
  },
  'exerciser.page-response': {
    layer: 'device',
    say: (f) => `${text(f['device'])}: page request group ${text(f['group'])}${pasid(f['pasid'])} answered with code ${text(f['code'])}`,
    kind: (f) => `${text(f['device'])} page response`,
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
    say: (f) => `${text(f['device'])}: queue ${text(f['qid'])}, ${text(f['what'])}, ${text(f['entries'])} entries at IOVA ${address(f['address'])}`,
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
  'nic.dma-fault': {
    layer: 'device',
    say: (f) => `${text(f['device'])}: its DMA of ${text(f['bytes'])} bytes at IOVA ${address(f['address'])} was refused (${text(f['what'])})`,
    kind: (f) => `${text(f['device'])} refused`,
  },
};

/** Events that another one tells already, or that every device shows in its sum. */
export const untold: ReadonlySet<string> = new Set(['viommu.fault', 'dma.read', 'dma.write', 'dma.message']);

const device = (fields: Fields): string => text(fields['device'] ?? fields['name']);

// prettier-ignore
export const sums: Readonly<Record<string, Sum>> = {
  'nvme.command': { device, what: ['command', 'commands'], split: (f) => text(f['name']) },
  'nic.transmit': { device, what: ['frame sent', 'frames sent'], bytes: (f) => Number(f['bytes']) },
  'nic.receive':  { device, what: ['frame received', 'frames received'], bytes: (f) => Number(f['bytes']) },
  'nic.drop':     { device, what: ['frame dropped', 'frames dropped'], split: (f) => text(f['reason']) },
  'exerciser.transaction': { device, what: ['transaction', 'transactions'], split: (f) => `${text(f['operation'])}: ${text(f['status'])}`, bytes: (f) => Number(f['bytes']) },
  'pci.message':  { device, what: ['MSI-X message', 'MSI-X messages'] },
};

/** `00:01.0`, where nobody knows a better name. */
export const plainName: NameOf = (rid) => bdf(rid);
