/** `--at`: where a run is stopped to look at it. */
import { nearest } from '#vmm/config/nearest';
import type { Until } from '#vmm/machine/machine';
import { catalogue } from '#vmm/record/catalogue';
import { CommandError } from './exit.ts';

interface PointKind {
  readonly placeholder: string;
  readonly doc: string;
  /** Undefined: not a value of this kind. */
  readonly parse: (text: string) => Until | undefined;
}

const count = (text: string): number | undefined => {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(value) ? value : undefined;
};
const timeUnits: Readonly<Record<string, number>> = { ns: 1, us: 1e3, ms: 1e6, s: 1e9 };
const time = (text: string): number | undefined => {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)(ns|us|ms|s)$/.exec(text) ?? [];
  return digits === undefined ? undefined : Number(digits) * timeUnits[unit!]!;
};

// prettier-ignore
const kinds: Readonly<Record<string, PointKind>> = {
  console:      { placeholder: 'TEXT', doc: 'the guest wrote this on its console', parse: (text) => (text === '' ? undefined : { console: text }) },
  event:        { placeholder: 'NAME', doc: 'the first event of this name (see iommulab trace list)', parse: (text) => (catalogue.has(text) ? { event: text } : undefined) },
  instructions: { placeholder: 'N', doc: 'so many instructions were executed', parse: (text) => { const n = count(text); return n === undefined ? undefined : { instructions: n }; } },
  time:         { placeholder: 'T', doc: 'so much virtual time has passed (ns, us, ms, s)', parse: (text) => { const ns = time(text); return ns === undefined ? undefined : { virtualNs: ns }; } },
};

export const stopPointHelp = (option = '--at'): string =>
  [
    `Points of ${option}:`,
    ...Object.entries(kinds).map(([name, { placeholder, doc }]) => `  ${`${name}:${placeholder}`.padEnd(16)} ${doc}`),
    `  ${'end'.padEnd(16)} the guest has ended${option === '--at' ? ' (the default)' : ''}`,
  ].join('\n');

/** Undefined: the end of the run. */
export function parseStopPoint(text: string, option = '--at'): Until | undefined {
  if (text === 'end') return undefined;
  const colon = text.indexOf(':');
  const name = colon < 0 ? text : text.slice(0, colon);
  const kind = Object.hasOwn(kinds, name) ? kinds[name] : undefined;
  const until = kind && colon >= 0 ? kind.parse(text.slice(colon + 1)) : undefined;
  if (until) return until;
  const forms = [...Object.entries(kinds).map(([key, { placeholder }]) => `${key}:${placeholder}`), 'end'];
  const near = kind === kinds['event'] ? nearest(text.slice(colon + 1), [...catalogue.keys()]) : undefined;
  const hint = near === undefined ? '' : ` (did you mean event:${near}?)`;
  throw new CommandError('usage', `${option}: expected ${forms.join(', ')}, found ${JSON.stringify(text)}${hint}`);
}
