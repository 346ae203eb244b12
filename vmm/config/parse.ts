import * as v from 'valibot';
import type { ConfigIssue, PathStep } from './issues.ts';
import { pathText, shown } from './issues.ts';
import type { Key, Shape } from './keys.ts';
import { machineKeys } from './keys.ts';
import { nearest } from './nearest.ts';
import { placeDevices } from './placement.ts';
import type { MachineConfig, SchemaOutput } from './schema.ts';
import { machineSchema, maxDevices } from './schema.ts';

export type ParsedConfig =
  | { readonly ok: true; readonly config: MachineConfig }
  | { readonly ok: false; readonly issues: readonly ConfigIssue[] };
/** Line and column, in the file, of what is at a path: its value, or the key itself. */
export type Locate = (
  path: readonly PathStep[],
  what: 'key' | 'value',
) => { readonly line: number; readonly column: number } | undefined;

/** Notes one problem. */
export type Report = (
  path: readonly PathStep[],
  expected: string,
  received: string,
  suggestion?: string,
  what?: 'key' | 'value',
) => void;

const keyOf = (shape: Shape | undefined, step: PathStep): Shape | undefined =>
  shape?.kind === 'list'
    ? shape.item
    : shape?.kind === 'group'
      ? shape.keys.find((key) => key.name === step)?.shape
      : undefined;

/** Keys that the schema does not know, of which valibot would name only the first, and lists that it takes for groups. */
function findUnknown(shape: Shape, value: unknown, path: readonly PathStep[], report: Report): void {
  if (typeof value !== 'object' || value === null) return;
  if (shape.kind === 'list' && Array.isArray(value)) {
    for (const [index, item] of value.entries()) findUnknown(shape.item, item, [...path, index], report);
  }
  if (shape.kind !== 'group') return;
  if (Array.isArray(value)) return report(path, 'a group of keys', shown(value));
  const names = shape.keys.map((key) => key.name);
  for (const [name, item] of Object.entries(value)) {
    const known = keyOf(shape, name);
    if (known) findUnknown(known, item, [...path, name], report);
    else
      report(
        [...path, name],
        `one of the keys ${names.join(', ')}`,
        `the key ${shown(name)}`,
        nearest(name, names),
        'key',
      );
  }
}

function expectation(shape: Shape | undefined): string {
  if (shape?.kind === 'scalar') return shape.facts.expected;
  return shape?.kind === 'list' ? 'a list' : 'a group of keys';
}

/** Which ends a network card's wire has. */
const wireEnds: Readonly<
  Record<string, { readonly expected: string; readonly fits: (local: boolean, remote: boolean) => boolean }>
> = {
  stream: { expected: 'either local or remote with backend=stream', fits: (local, remote) => local !== remote },
  dgram: { expected: 'local and remote with backend=dgram', fits: (local, remote) => local && remote },
};

/** What no single key can say. Looks only at what is well formed. */
export function crossCheck(config: Partial<SchemaOutput>, report: Report): void {
  if (config.image !== undefined && config.kernel !== undefined)
    report(['kernel'], 'either image or kernel', 'both', undefined);
  for (const [index, nic] of (Array.isArray(config.nics) ? config.nics : []).entries()) {
    if (typeof nic !== 'object' || nic === null) continue;
    const { backend, local, remote } = nic;
    const ends = wireEnds[backend] ?? {
      expected: `neither local nor remote with backend=${backend}`,
      fits: (a, b) => !a && !b,
    };
    const given = [local === undefined ? '' : 'local', remote === undefined ? '' : 'remote'].filter(
      (name) => name !== '',
    );
    if (!ends.fits(local !== undefined, remote !== undefined))
      report(['nics', index], ends.expected, given.join(' and ') || 'neither');
    if (backend === 'dgram' && [local, remote].some((end) => /^[./]/.test(end ?? '')))
      report(['nics', index], 'host:port with backend=dgram', 'the path of a socket');
  }
  const groups = [
    ['disks', Array.isArray(config.disks) ? config.disks : []],
    ['nics', Array.isArray(config.nics) ? config.nics : []],
    ['exercisers', Array.isArray(config.exercisers) ? config.exercisers : []],
  ] as const;
  const ids = new Map<string, string>();
  const slots = new Map<number, string>();
  const macs = new Map<string, string>();
  let count = 0;
  for (const [name, devices] of groups) {
    for (const [index, device] of devices.entries()) {
      count++;
      if (typeof device !== 'object' || device === null) continue;
      const here = pathText([name, index]);
      const once = <T>(seen: Map<T, string>, key: string, value: T | undefined, what: string): void => {
        if (value === undefined || value === null) return;
        const first = seen.get(value);
        if (first === undefined) seen.set(value, here);
        else report([name, index, key], `${what} that no other device has`, `${shown(value)}, which ${first} has too`);
      };
      once(ids, 'id', device.id, 'an id');
      once(slots, 'address', device.address, 'a PCI device number');
      once(macs, 'mac', 'mac' in device ? device.mac : undefined, 'a MAC address');
    }
  }
  const viommu = config.viommu as Partial<SchemaOutput['viommu']> | undefined;
  if (viommu?.bus === 'pci') {
    count++;
    if (viommu.model === 'none') report(['viommu', 'bus'], 'platform with model=none', shown('pci'));
    const first = viommu.address === undefined ? undefined : slots.get(viommu.address);
    if (first !== undefined)
      report(
        ['viommu', 'address'],
        'a PCI device number that no device has',
        `${viommu.address}, which ${first} has too`,
      );
  } else if (viommu?.address !== undefined)
    report(['viommu', 'address'], 'bus=pci with an address', `bus=${viommu.bus ?? 'platform'}`);
  const ports = Number(config['hotplug-ports'] ?? 0);
  if (count > maxDevices) report(['disks'], `at most ${maxDevices} devices`, `${count} of them`);
  else if (count + ports > maxDevices)
    report(['hotplug-ports'], `at most ${maxDevices - count} ports beside ${count} devices`, `${ports}`);
}

/** What a schema says of raw values: every problem at once, and what it yields where there is none. */
export function judge<const S extends v.GenericSchema & { readonly entries: object }>(
  schema: S,
  keys: readonly Key[],
  input: unknown,
  locate?: Locate,
): { readonly issues: ConfigIssue[]; readonly report: Report; readonly output: v.InferOutput<S> } {
  const issues: ConfigIssue[] = [];
  const report: Report = (path, expected, received, suggestion, what = 'value') =>
    issues.push({
      path: pathText(path),
      expected,
      received,
      ...(suggestion === undefined ? {} : { suggestion }),
      ...locate?.(path, what),
    });
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    report([], 'a group of keys', shown(input));
    return { issues, report, output: {} };
  }
  const whole: Shape = { kind: 'group', keys };
  findUnknown(whole, input, [], report);
  const isTold = (path: string): boolean =>
    issues.some((issue) => path === issue.path || path.startsWith(`${issue.path}.`));
  const result = v.safeParse(schema, input);
  for (const issue of result.issues ?? []) {
    const path = (issue.path ?? []).map((item) => item.key as PathStep);
    // What is in a list that should be a group is of no interest.
    if (isTold(pathText(path))) continue;
    let shape: Shape | undefined = whole;
    for (const step of path) shape = keyOf(shape, step);
    const last = issue.path?.at(-1);
    const missing = last?.type === 'object' && last.origin === 'key';
    const received = missing ? 'nothing' : shown(issue.input);
    const words = shape?.kind === 'scalar' ? (shape.facts.words ?? []) : [];
    report(
      path,
      expectation(shape),
      received,
      typeof issue.input === 'string' ? nearest(issue.input, words) : undefined,
    );
  }
  return { issues, report, output: result.output as v.InferOutput<S> };
}

/** Judges raw values by the schema and fills in the defaults. */
export function parseConfig(input: unknown, locate?: Locate): ParsedConfig {
  const { issues, report, output } = judge(machineSchema, machineKeys, input, locate);
  crossCheck(output as Partial<SchemaOutput>, report);
  if (issues.length > 0) return { ok: false, issues };
  return { ok: true, config: placeDevices(output) };
}
