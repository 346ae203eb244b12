/** What the control socket can be asked: one table, from which `query-commands`, `ctl --help` and the tests derive. */
import { noPasid } from '#vmm/base/ports';
import { explanationLines } from '#iommufd/host/riscv/explain';
import { pciListing } from '#vmm/bus/pci/listing';
import { findInspection, inspectionNames } from '#vmm/inspect/inspections';
import type { InjectionKind, InjectionOptions } from '#vmm/machine/inject';
import { injections } from '#vmm/machine/inject';
import { deviceDrivers } from '#vmm/machine/devices';
import type { Machine } from '#vmm/machine/machine';
import { MachineError } from '#vmm/machine/machine-error';

/** The run that is controlled. */
export interface ControlTarget {
  readonly machine: Machine;
  readonly isStopped: boolean;
  readonly version: string;
  stop(): void;
  cont(): void;
  quit(): void;
  /** Writes the machine, as it is between two of its instructions, into a file. @throws MachineError */
  save(path: string): { readonly path: string; readonly bytes: number };
}

/** What was asked for cannot be had: told to the client as it is. */
export class ControlError extends Error {
  override readonly name = 'ControlError';
  /** QMP's class of the error. */
  readonly kind: 'GenericError' | 'CommandNotFound' | 'DeviceNotFound';
  constructor(message: string, kind: ControlError['kind'] = 'GenericError') {
    super(message);
    this.kind = kind;
  }
}

export type Arguments = Readonly<Record<string, unknown>>;

export interface Verb {
  readonly doc: string;
  /** Argument → sentence; those with `?` may be left out. `*` takes any others. */
  readonly args: Readonly<Record<string, string>>;
  readonly run: (target: ControlTarget, args: Arguments) => unknown;
}

const text = (args: Arguments, name: string, expected: string): string => {
  const value = args[name];
  if (typeof value !== 'string') throw new ControlError(`${name}: expected ${expected}, found ${shown(value)}`);
  return value;
};
const shown = (value: unknown): string => {
  if (value === undefined) return 'nothing';
  if (typeof value === 'object') return value === null ? 'null' : 'an object or a list';
  const said = JSON.stringify(value);
  return said.length > 60 ? `${said.slice(0, 60)}…` : said;
};

function injectFault(machine: Machine, { kind, ...options }: Arguments): unknown {
  const kinds = Object.keys(injections);
  if (typeof kind !== 'string' || !kinds.includes(kind))
    throw new ControlError(`kind: expected one of ${kinds.join(', ')}, found ${shown(kind)}`);
  try {
    machine.inject(kind as InjectionKind, options as InjectionOptions<InjectionKind>);
  } catch (error) {
    if (error instanceof MachineError) throw new ControlError(error.message);
    throw error;
  }
  return {};
}

/** What a verb does with the machine; what the machine says to it is told to the client. */
function attempt<T>(act: () => T): T {
  try {
    return act();
  } catch (error) {
    if (error instanceof MachineError) throw new ControlError(error.problems.join('; '));
    throw error;
  }
}

const isOn = (args: Arguments, name: string): boolean => {
  const { [name]: value = false } = args;
  if (typeof value !== 'boolean') throw new ControlError(`${name}: expected true or false, found ${shown(value)}`);
  return value;
};

/** 64-bit addresses are text, as JSON has no such numbers. */
function addressOf(value: unknown): bigint {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return BigInt(value);
  if (typeof value === 'string' && /^(?:0x[0-9a-f]{1,16}|\d{1,20})$/i.test(value) && BigInt(value) >> 64n === 0n)
    return BigInt(value);
  throw new ControlError(`address: expected an address of 64 bits such as "0x40000000", found ${shown(value)}`);
}

function explain(machine: Machine, args: Arguments): unknown {
  const device = text(args, 'device', 'the id of a device');
  const address = addressOf(args['address']);
  const { pasid = noPasid } = args;
  if (pasid !== noPasid && !(Number.isInteger(pasid) && (pasid as number) >= 0 && (pasid as number) < 2 ** 20))
    throw new ControlError(`pasid: expected a whole number from 0 to ${2 ** 20 - 1}, found ${shown(pasid)}`);
  const [write, privileged, isData] = [isOn(args, 'write'), isOn(args, 'privileged'), isOn(args, 'json')];
  const told = attempt(() => machine.explain({ device, address, pasid: pasid as number, write, privileged }));
  return isData ? told : explanationLines(told);
}

function deviceAdd(machine: Machine, args: Arguments): unknown {
  const driver = text(args, 'driver', `one of ${Object.keys(deviceDrivers).join(', ')}`);
  const bus = args['bus'] === undefined ? undefined : text(args, 'bus', 'the id of a hot-plug port');
  const keys = Object.fromEntries(Object.entries(args).filter(([key]) => key !== 'driver' && key !== 'bus'));
  return { id: attempt(() => machine.deviceAdd(driver, keys, bus)) };
}

function deviceDel(machine: Machine, args: Arguments): unknown {
  const id = text(args, 'id', 'the id of a device');
  const surprise = isOn(args, 'surprise');
  if (!machine.host.devices.some(({ placed }) => placed.id === id))
    throw new ControlError(`id: there is no device ${shown(id)}`, 'DeviceNotFound');
  attempt(() => machine.deviceDel(id, { surprise }));
  return {};
}

// prettier-ignore
export const verbs: Readonly<Record<string, Verb>> = {
  qmp_capabilities:  { doc: 'accepted for clients of QMP; there is nothing to agree on', args: { '*': '' }, run: () => ({}) },
  'query-commands':  { doc: 'the verbs of this table', args: {}, run: () => Object.entries(verbs).map(([name, { doc, args }]) => ({ name, doc, arguments: args })) },
  'query-version':   { doc: 'the version of iommulab', args: {}, run: ({ version }) => ({ version }) },
  'query-status':    { doc: 'whether the guest runs, and how far it has come', args: {}, run: ({ machine, isStopped }) => ({ status: isStopped ? 'paused' : 'running', running: !isStopped, instructions: machine.instructions, virtualNs: machine.clock.now }) },
  'query-stats':     { doc: 'counters since power-on: DMA, IOTLB, commands, ioctls', args: {}, run: ({ machine }) => machine.stats() },
  'query-pci':       { doc: 'functions of the PCI bus, as lspci -vv tells them', args: {}, run: ({ machine }) => pciListing(machine.pci.functions()) },
  'query-injections': { doc: 'kinds of faults that inject knows', args: {}, run: () => Object.entries(injections).map(([kind, { doc }]) => ({ kind, doc })) },
  stop:              { doc: 'pause the guest', args: {}, run: (target) => { target.stop(); return {}; } },
  cont:              { doc: 'let the guest go on', args: {}, run: (target) => { target.cont(); return {}; } },
  quit:              { doc: 'end the run, with everything written and closed', args: {}, run: (target) => { target.quit(); return {}; } },
  inspect:           { doc: 'look at the machine (see iommulab inspect)', args: { what: `one of ${inspectionNames.join(', ')}` },
                       run: ({ machine }, args) => {
                         const what = text(args, 'what', `one of ${inspectionNames.join(', ')}`);
                         const inspection = findInspection(what);
                         if (!inspection) throw new ControlError(`what: expected one of ${inspectionNames.join(', ')}, found ${shown(what)}`);
                         return inspection.read(machine);
                       } },
  explain:           { doc: 'how an access of a device would be translated now, entry by entry', args: { device: 'its id', address: 'as the device sees memory, 0x… as text', 'pasid?': 'its PASID', 'write?': 'true: a write', 'privileged?': 'true: with the rights of a supervisor', 'json?': 'true: as data, not as lines' }, run: ({ machine }, args) => explain(machine, args) },
  inject:            { doc: 'make something go wrong', args: { kind: `one of ${Object.keys(injections).join(', ')}`, '*': 'what the kind takes (see query-injections)' }, run: ({ machine }, args) => injectFault(machine, args) },
  snapshot:          { doc: 'save the machine; iommulab resume takes it up again', args: { file: 'where to' }, run: (target, args) => attempt(() => target.save(text(args, 'file', 'the path of a file'))) },
  device_add:        { doc: 'plug a device into a hot-plug port (--hotplug-ports)', args: { driver: `one of ${Object.keys(deviceDrivers).join(', ')}`, 'bus?': 'the port (query-ports); default: the first free one', '*': 'keys of --disk, --nic or --exerciser' }, run: ({ machine }, args) => deviceAdd(machine, args) },
  device_del:        { doc: 'ask the guest for a device; the event DEVICE_DELETED tells when it is gone', args: { id: 'which', 'surprise?': 'true: tear it out at once' }, run: ({ machine }, args) => deviceDel(machine, args) },
  'query-ports':     { doc: 'hot-plug ports, and what is in them', args: {}, run: ({ machine }) => machine.hotPlug.ports().map(({ id, device = '', isAsked }) => ({ port: id, device, state: device === '' ? 'empty' : isAsked ? 'asked for' : 'there' })) },
};

/** Asks for one verb. @throws ControlError */
export function runVerb(target: ControlTarget, name: string, args: Arguments): unknown {
  const verb = Object.hasOwn(verbs, name) ? verbs[name] : undefined;
  if (!verb) throw new ControlError(`there is no verb ${shown(name)}: see query-commands`, 'CommandNotFound');
  const known = Object.keys(verb.args).map((key) => key.replace('?', ''));
  if (!known.includes('*'))
    for (const key of Object.keys(args))
      if (!known.includes(key))
        throw new ControlError(`${name}: expected ${known.length === 0 ? 'no arguments' : known.join(', ')}, found ${shown(key)}`); // prettier-ignore
  return verb.run(target, args);
}
