/** Every event as a call: who made it, what it was, with what, how it came out and how long it took. */
import type { FieldValue, TraceEvent } from '#vmm/base/events';
import { bdf } from '#vmm/base/address';
import { catalogue, formatField } from './catalogue.ts';
import type { Spans } from './spans.ts';

export interface Call {
  /** `guest/nvme0`, `vmm/iommufd`. */
  readonly who: string;
  readonly name: string;
  /** `hwpt_id: 5, entries: 2`. */
  readonly args: string;
  /** Empty where the event has none. */
  readonly result: string;
  readonly isError: boolean;
  /** Virtual nanoseconds; undefined for what takes no time or does not tell. */
  readonly durationNs: number | undefined;
}

type Fields = TraceEvent['fields'];

/** Which fields of an event are its name, its arguments, its result and its duration. */
interface Shape {
  readonly who?: string;
  readonly call?: string;
  /** A field that holds `key=value key=value`. */
  readonly args?: string;
  readonly result?: string;
  readonly more?: string;
  readonly duration?: string;
  /** Results that are no errors. */
  readonly good?: RegExp;
}

// prettier-ignore
const shapes: Readonly<Record<string, Shape>> = {
  'iommufd.ioctl':         { who: 'vmm/iommufd', call: 'name', args: 'in', result: 'result', more: 'out', good: /^\d+$/ },
  'iommufd.read':          { who: 'vmm/iommufd', result: 'result', good: /^\d+$/ },
  'iommufd.write':         { who: 'vmm/iommufd', result: 'result', good: /^\d+$/ },
  'iommu.command':         { call: 'command', args: 'operands', result: 'outcome', good: /^done$/ },
  'iommu.page-request':    { result: 'outcome', good: /^queued$/ },
  'viommu.page-response':  { result: 'outcome', good: /^(?!unmatched)/ },
  'nvme.command':          { call: 'name', result: 'status', good: /^(?:ok|success|0)/i },
  'exerciser.transaction': { call: 'operation', result: 'status', duration: 'latency_ns', good: /^(?:ok|success|done)/i },
  'ats.translation':       { result: 'status', good: /^success$/ },
  'ats.completion':        { result: 'outcome', good: /^(?:done|completed|ok)/ },
  'iommu.fault':           { good: /^$/ },
};
/** Events that are errors whatever their fields say; by name, once it was looked at. */
const knownErrors = new Map<string, boolean>();
/** A file may hold any names. */
const mostKnown = 4096;
const alwaysErrors = /(?:^|[.-])(?:fault|refused|lost|error)(?:$|-)|^iommu\.bad-access$/;

/** Fields that say who it was, in the order in which they are looked for. */
const actors: readonly (readonly [field: string, who: (value: FieldValue) => string])[] = [
  ['unit', (unit) => (unit === 'host' ? 'host/iommu' : `guest/${unit}`)],
  ['device', (device) => `guest/${device}`],
  ['region', (region) => `guest/${region}`],
  ['rid', (rid) => `host/${typeof rid === 'number' ? bdf(rid) : rid}`],
  ['function', (id) => `guest/${typeof id === 'number' ? bdf(id) : id}`],
  ['file', (file) => `guest/${file}`],
];

function whoOf(event: TraceEvent, shape: Shape | undefined): string {
  if (shape?.who !== undefined) return shape.who;
  for (const [field, who] of actors) {
    const value = event.fields[field];
    if (value !== undefined) return who(value);
  }
  return event.name.split('.', 1)[0]!;
}

const pairs = (text: string): string => text.replaceAll(/(\S+?)=(\S+) ?/g, '$1: $2, ').replace(/, $/, '');

const told = new Set(['unit', 'device', 'region']);
function argsOf(event: TraceEvent, shape: Shape | undefined): string {
  if (shape?.args !== undefined) return pairs(String(event.fields[shape.args] ?? ''));
  const kinds = catalogue.get(event.name)?.fields;
  const { call, result, duration } = shape ?? {};
  let out = '';
  for (const key in event.fields) {
    if (told.has(key) || key === call || key === result || key === duration) continue;
    out += `${out === '' ? '' : ', '}${key}: ${formatField(kinds?.[key], event.fields[key]!)}`;
  }
  return out;
}

const text = (fields: Fields, key: string | undefined): string =>
  key === undefined || fields[key] === undefined ? '' : String(fields[key]);

/** What the event is called: its ioctl, its command, or its own name. */
export const callName = ({ name, fields }: TraceEvent): string => {
  const call = text(fields, shapes[name]?.call);
  return call === '' ? name : call;
};

export function isErrorEvent({ name, fields }: TraceEvent): boolean {
  let isAlways = knownErrors.get(name);
  if (isAlways === undefined) {
    isAlways = alwaysErrors.test(name) || catalogue.get(name)?.level === 'warning';
    if (knownErrors.size < mostKnown) knownErrors.set(name, isAlways);
  }
  if (isAlways) return true;
  const shape = shapes[name];
  if (shape?.good && shape.result !== undefined) return !shape.good.test(text(fields, shape.result));
  return typeof fields['faults'] === 'number' && fields['faults'] > 0;
}

/** How long what ends with this event took; `spans` must have seen the events before it. */
export function durationOf(event: TraceEvent, spans: Spans): number | undefined {
  const own = shapes[event.name]?.duration;
  if (own !== undefined) return Number(event.fields[own]);
  const span = spans.end(event);
  spans.begin(event);
  return span && event.time - span.from;
}

export function callOf(event: TraceEvent, durationNs: number | undefined): Call {
  const shape = shapes[event.name];
  const result = text(event.fields, shape?.result);
  const more = text(event.fields, shape?.more);
  return {
    who: whoOf(event, shape),
    name: callName(event),
    args: argsOf(event, shape),
    result: more === '' ? result : `${result} {${pairs(more)}}`,
    isError: isErrorEvent(event),
    durationNs,
  };
}
