/** What can be made to go wrong around a guest: one table, which the library, scenarios and the help read. */
import * as v from 'valibot';
import { errno } from '#vmm/base/errno';
import { type StorageBackend, StorageError, noPasid } from '#vmm/base/ports';
import { ioctls } from '#iommufd/kernel/ioctls';
import { vfioUapi } from '#iommufd/uapi/vfio';
import { shown } from '../config/issues.ts';
import { choice, flag, integer, text } from '../config/values.ts';
import { doc, hex64, virtualTime } from '../config/more-values.ts';
import { intercept } from './intercept.ts';
import type { Machine } from './machine.ts';
import { MachineError } from './machine-error.ts';

/** Takes an injection back; doing it twice, or after it is over, does nothing. */
export type Undo = () => void;

const ioctlNames: readonly string[] = [
  ...Object.keys(ioctls),
  'VFIO_DEVICE_BIND_IOMMUFD',
  'VFIO_DEVICE_ATTACH_IOMMUFD_PT',
  'VFIO_DEVICE_DETACH_IOMMUFD_PT',
  'VFIO_DEVICE_RESET',
];
const requestOf = (name: string): number =>
  (ioctls as Readonly<Record<string, { readonly request: number }>>)[name]?.request ??
  Number((vfioUapi as Readonly<Record<string, unknown>>)[name]);

const device = () => doc('id of the device', text({ max: 32, what: 'the id of a device', placeholder: 'id' }));
const optionalDevice = () =>
  v.optional(doc('id of the device (default: any)', text({ max: 32, what: 'the id of a device', placeholder: 'id' })));
const nth = (what: string) =>
  v.optional(doc(`which ${what} from now on is the first to be hit`, integer({ min: 1, max: 1e9 })), 1);
const times = (what: string) => v.optional(doc(`how many ${what}s are hit`, integer({ min: 1, max: 1e9 })), 1);
const longest = 1e13;

// prettier-ignore
const schemas = {
  ioctl: v.object({
    name: doc('which call the kernel refuses', choice(ioctlNames)),
    errno: doc('what it answers', choice(Object.keys(errno))),
    nth: nth('call'), times: times('call'),
  }),
  'page-response': v.object({
    outcome: doc('what happens to a page group response on its way to the device', choice(['lost', 'late', 'doubled'])),
    by: v.optional(doc('how late, or how long after the first the second comes', virtualTime({ min: 1, max: longest })), 1_000_000),
    device: optionalDevice(), nth: nth('response'), times: times('response'),
  }),
  'queue-overflow': v.object({
    queue: doc('which queue has no room', choice(['fault', 'page-request', 'veventq'])),
    for: v.optional(doc('veventq: how long the VMM does not read it', virtualTime({ min: 1, max: longest })), 1_000_000),
  }),
  'torn-write': v.object({
    address: doc('guest-physical address of an 8-byte entry', hex64()),
    value: doc('what is written there, its low half first', hex64()),
    after: v.optional(doc('how long the high half takes', virtualTime({ min: 1, max: longest })), 1_000_000),
  }),
  'disk-error': v.object({
    disk: doc('id of the disk', text({ max: 32, what: 'the id of a disk', placeholder: 'id' })),
    on: v.optional(doc('which operation fails', choice(['read', 'write', 'flush'])), 'read'),
    nth: nth('operation'), times: times('operation'),
  }),
  link: v.object({
    nic: doc('id of the network card', text({ max: 32, what: 'the id of a network card', placeholder: 'id' })),
    up: doc('on plugs the cable in, off pulls it', flag()),
  }),
  'page-request': v.object({
    device: device(),
    address: doc('the page that the device asks for', hex64()),
    pasid: v.optional(doc('its PASID', integer({ min: 0, max: 0xf_ffff }))),
    group: v.optional(doc('page request group index', integer({ min: 0, max: 511 })), 0),
    write: v.optional(doc('the device wants to write', flag()), true),
    last: v.optional(doc('last request of its group', flag()), true),
  }),
} as const;

type Schemas = typeof schemas;
/** Kinds of injections. */
export type InjectionKind = keyof Schemas;
/** What a kind takes. */
export type InjectionOptions<K extends InjectionKind> = v.InferInput<Schemas[K]>;
type Judged<K extends InjectionKind> = v.InferOutput<Schemas[K]>;

interface Injection<K extends InjectionKind> {
  readonly doc: string;
  readonly schema: Schemas[K];
  readonly run: (machine: Machine, options: Judged<K>) => Undo;
}

const tell = (machine: Machine, kind: InjectionKind, state: 'armed' | 'hit' | 'over', detail: string): void => {
  if (machine.trace.on) machine.trace.emit('machine.inject', { kind, state, detail });
};

/** Counts uses: true for the `nth` and the `times - 1` behind it; ends itself then. */
const window = ({ nth: first, times: count }: { readonly nth: number; readonly times: number }) => {
  let seen = 0;
  return {
    hits: (): boolean => ++seen >= first && seen < first + count,
    isOver: (): boolean => seen >= first + count - 1,
  };
};

const hostDevice = (machine: Machine, id: string) => {
  const found = machine.host.devices.find(({ placed }) => placed.id === id);
  const ids = machine.host.devices.map(({ placed }) => placed.id).join(', ') || 'none';
  if (!found) throw new MachineError([`inject: expected the id of a device (${ids}), found ${JSON.stringify(id)}`]);
  return found;
};

function injectIoctl(machine: Machine, options: Judged<'ioctl'>): Undo {
  const request = requestOf(options.name);
  const code = errno[options.errno as keyof typeof errno];
  const { hits, isOver } = window(options);
  const undo = intercept(machine.host.kernel, 'ioctl', (original) => (fd, asked, argument) => {
    if (asked !== request || !hits()) return original(fd, asked, argument);
    tell(machine, 'ioctl', 'hit', `${options.name}: ${options.errno}`);
    if (isOver()) undo();
    return -code;
  });
  return undo;
}

function injectPageResponse(machine: Machine, options: Judged<'page-response'>): Undo {
  const rid = options.device === undefined ? undefined : hostDevice(machine, options.device).hostRid;
  const { hits, isOver } = window(options);
  const undo = intercept(machine.host.link, 'respond', (original) => (message) => {
    if ((rid !== undefined && message.rid !== rid) || !hits()) return original(message);
    tell(machine, 'page-response', 'hit', options.outcome);
    if (options.outcome === 'doubled') original(message);
    if (options.outcome !== 'lost') machine.clock.schedule(options.by, () => original({ ...message }));
    if (isOver()) undo();
  });
  return undo;
}

const viommuOf = (machine: Machine) => {
  const { viommu } = machine.assignment;
  if (!viommu) throw new MachineError(['inject: queue-overflow needs a vIOMMU and a device behind it']);
  return viommu;
};

/** Each queue's way to have no room. The guest's queues look as if the record before the missing one was the last. */
const overflows: Readonly<Record<'fault' | 'page-request' | 'veventq', (machine: Machine, ns: number) => Undo>> = {
  fault: (machine) => {
    viommuOf(machine).frontEnd.faultsLost();
    tell(machine, 'queue-overflow', 'hit', 'fault');
    return () => {};
  },
  'page-request': (machine) => {
    viommuOf(machine).frontEnd.pageRequestsLost();
    tell(machine, 'queue-overflow', 'hit', 'page-request');
    return () => {};
  },
  veventq: (machine, ns) => {
    const viommu = viommuOf(machine);
    const undo = intercept(viommu, 'readEvents', () => () => {});
    const timer = machine.clock.schedule(ns, () => {
      undo();
      tell(machine, 'queue-overflow', 'over', 'veventq');
      viommu.readEvents();
    });
    return () => {
      timer.cancel();
      undo();
    };
  },
};

function injectTornWrite(machine: Machine, { address, value, after }: Judged<'torn-write'>): Undo {
  if (address % 8n !== 0n)
    throw new MachineError([`inject: expected torn-write.address a multiple of 8, found 0x${address.toString(16)}`]);
  const half = (at: bigint, word: bigint): void => {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, Number(word & 0xffff_ffffn), true);
    try {
      machine.writeMemory(Number(at), bytes);
    } catch (error) {
      if (error instanceof RangeError) throw new MachineError([`inject: torn-write: ${error.message}`]);
      throw error;
    }
  };
  half(address, value);
  tell(machine, 'torn-write', 'hit', `low half of 0x${address.toString(16)}`);
  const timer = machine.clock.schedule(after, () => {
    half(address + 4n, value >> 32n);
    tell(machine, 'torn-write', 'over', `high half of 0x${address.toString(16)}`);
  });
  return () => timer.cancel();
}

function injectDiskError(machine: Machine, options: Judged<'disk-error'>): Undo {
  const disk = machine.disks.get(options.disk);
  const ids = [...machine.disks.keys()].join(', ') || 'none';
  if (!disk)
    throw new MachineError([`inject: expected the id of a disk (${ids}), found ${JSON.stringify(options.disk)}`]);
  const { hits, isOver } = window(options);
  const undos: Undo[] = [];
  const undo = (): void => {
    for (const one of undos.splice(0)) one();
  };
  const fail = (): void => {
    if (!hits()) return;
    tell(machine, 'disk-error', 'hit', `${options.disk}: ${options.on}`);
    if (isOver()) undo();
    throw new StorageError('io', `${options.disk}: ${options.on} fails as injected`);
  };
  // A vector is one operation; backends without it are asked piece by piece.
  const names: Readonly<Record<'read' | 'write' | 'flush', readonly (keyof StorageBackend)[]>> = {
    read: ['read', 'readVector'],
    write: ['write', 'writeVector'],
    flush: ['flush'],
  };
  type Operation = (...args: unknown[]) => unknown;
  for (const name of names[options.on]) {
    if (typeof disk[name] !== 'function') continue;
    undos.push(
      intercept(disk as unknown as Record<string, Operation>, name, (original) => (...args) => {
        fail();
        return original!(...args);
      }),
    );
  }
  return undo;
}

function injectLink(machine: Machine, { nic, up }: Judged<'link'>): Undo {
  const wire = machine.wires.get(nic);
  const ids = [...machine.wires.keys()].join(', ') || 'none';
  if (!wire)
    throw new MachineError([`inject: expected the id of a network card (${ids}), found ${JSON.stringify(nic)}`]);
  const undo = intercept(wire, 'linkUp', () => up);
  tell(machine, 'link', 'hit', `${nic} ${up ? 'up' : 'down'}`);
  wire.onLinkChange?.();
  return () => {
    undo();
    wire.onLinkChange?.();
  };
}

function injectPageRequest(machine: Machine, options: Judged<'page-request'>): Undo {
  const { port } = hostDevice(machine, options.device);
  tell(machine, 'page-request', 'hit', `${options.device} 0x${options.address.toString(16)}`);
  port.pageRequest({
    pasid: options.pasid ?? noPasid,
    privileged: false,
    execute: false,
    hi: Number(options.address >> 32n),
    lo: Number(options.address & 0xffff_f000n),
    read: true,
    write: options.write,
    last: options.last,
    group: options.group,
  });
  return () => {};
}

/** THE table. */
// prettier-ignore
export const injections: { readonly [K in InjectionKind]: Injection<K> } = {
  ioctl:            { doc: 'the host kernel refuses a call of the VMM',                  schema: schemas.ioctl,            run: injectIoctl },
  'page-response':  { doc: 'a page group response is lost, late or doubled',             schema: schemas['page-response'],  run: injectPageResponse },
  'queue-overflow': { doc: 'a queue of faults, page requests or events has no room',     schema: schemas['queue-overflow'], run: (machine, { queue, for: ns }) => overflows[queue](machine, ns) },
  'torn-write':     { doc: 'an 8-byte entry of a table is written in two halves',        schema: schemas['torn-write'],     run: injectTornWrite },
  'disk-error':     { doc: 'the storage behind a disk fails',                            schema: schemas['disk-error'],     run: injectDiskError },
  link:             { doc: 'the cable of a network card is pulled or plugged in',        schema: schemas.link,             run: injectLink },
  'page-request':   { doc: 'a device asks for a page by PRI, whatever its program does', schema: schemas['page-request'],   run: injectPageRequest },
};

/** Judges the options and arms the injection. */
export function inject<K extends InjectionKind>(machine: Machine, kind: K, options: InjectionOptions<K>): Undo {
  const { schema, run } = injections[kind];
  const judged = v.safeParse(schema, options);
  if (!judged.success)
    throw new MachineError(
      judged.issues.map((issue) => {
        const key = (issue.path ?? []).map((item) => String(item.key)).join('.');
        return `inject: expected ${kind}${key === '' ? '' : `.${key}`}: ${issue.message}, found ${shown(issue.input)}`;
      }),
    );
  tell(machine, kind, 'armed', '');
  return run(machine, judged.output as Judged<K>);
}
