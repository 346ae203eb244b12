import type { Key } from '../config/keys.ts';
import { keysOfSchema } from '../config/keys.ts';
import { type ConfigIssue, shown } from '../config/issues.ts';
import { nearest } from '../config/nearest.ts';
import { crossCheck, judge, type Locate, type Report } from '../config/parse.ts';
import { placeDevices } from '../config/placement.ts';
import type { MachineConfig, SchemaOutput } from '../config/schema.ts';
import { parseYaml } from '../config/yaml.ts';
import { catalogue } from '../record/catalogue.ts';
import { scenarioSchema, type Step, type StepKind, stepSchemas } from './schema.ts';

/** One step, and where it stands in its file. */
export interface PlacedStep {
  readonly kind: StepKind;
  readonly step: Step;
  /** 1-based; undefined for a scenario that was not read from text. */
  readonly line?: number;
}

/** A scenario that was judged: a machine and what to do with it. */
export interface Scenario {
  readonly name: string | undefined;
  readonly claim: string | undefined;
  readonly skip: boolean;
  readonly config: MachineConfig;
  readonly steps: readonly PlacedStep[];
}
export type ParsedScenario =
  { readonly ok: true; readonly scenario: Scenario } | { readonly ok: false; readonly issues: readonly ConfigIssue[] };

/** The top-level keys of a scenario file. */
const scenarioKeys: readonly Key[] = keysOfSchema(scenarioSchema);

/** Steps that are a group of one of several kinds, and what those are called. */
const kindsOf: Readonly<Record<string, string>> = { inject: 'injection', 'device-add': 'driver' };
const ofOneKind = Object.keys(kindsOf);

/** The key that a plain value stands for: `expect-console: text` is `expect-console: { text: text }`. */
const firstKeys: Readonly<Record<string, string>> = Object.fromEntries(
  keysOfSchema({ entries: stepSchemas }).flatMap(({ name, shape }) =>
    shape.kind === 'group' && !ofOneKind.includes(name) ? [[name, shape.keys[0]!.name]] : [],
  ),
);

const isGroup = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const spelledOut = (step: unknown): unknown =>
  isGroup(step)
    ? Object.fromEntries(
        Object.entries(step).map(([kind, value]) => [
          kind,
          firstKeys[kind] !== undefined && ['string', 'number', 'boolean'].includes(typeof value)
            ? { [firstKeys[kind]]: value }
            : value,
        ]),
      )
    : step;

/** Groups of which one key must be there: what they are called, and their keys. */
function checkOne(
  group: unknown,
  names: readonly string[],
  path: readonly (string | number)[],
  what: string,
  report: Report,
): void {
  if (!isGroup(group)) return;
  const given = Object.keys(group);
  // A key that is unknown has been told already.
  if (given.length === 1 || (given.length === 0 && names.length === 0)) return;
  report(path, `one ${what} (${names.join(', ')})`, given.length === 0 ? 'nothing' : given.join(' and '));
}

/** What no single key of a step can say. */
function crossCheckStep(step: unknown, index: number, report: Report): void {
  const path = ['steps', index];
  checkOne(step, Object.keys(stepSchemas), path, 'step', report);
  if (!isGroup(step)) return;
  const steps = scenarioKeys.find(({ name }) => name === 'steps')!.shape;
  const item = steps.kind === 'list' && steps.item.kind === 'group' ? steps.item.keys : [];
  for (const [name, what] of Object.entries(kindsOf)) {
    if (!isGroup(step[name])) continue;
    const { shape } = item.find((key) => key.name === name)!;
    const kinds = shape.kind === 'group' ? shape.keys.map((key) => key.name) : [];
    checkOne(step[name], kinds, [...path, name], what, report);
  }
  for (const kind of ['expect-event', 'expect-no-event']) {
    const options = step[kind];
    if (!isGroup(options) || typeof options['event'] !== 'string') continue;
    const row = catalogue.get(options['event']);
    if (!row) {
      const names = [...catalogue.keys()];
      report(
        [...path, kind, 'event'],
        'the name of an event (iommulab trace list)',
        shown(options['event']),
        nearest(options['event'], names),
      );
      continue;
    }
    const fields = Object.keys(row.fields);
    for (const name of Object.keys(isGroup(options['where']) ? options['where'] : {}))
      if (!fields.includes(name))
        report(
          [...path, kind, 'where', name],
          `a field of ${options['event']} (${fields.join(', ')})`,
          `the field ${shown(name)}`,
          nearest(name, fields),
          'key',
        );
  }
  const console = step['expect-console'];
  if (isGroup(console)) {
    if ((console['text'] === undefined) === (console['pattern'] === undefined))
      report([...path, 'expect-console'], 'either text or pattern', console['text'] === undefined ? 'neither' : 'both');
    if (typeof console['pattern'] === 'string') {
      try {
        RegExp(console['pattern'], 'm');
      } catch (error) {
        report(
          [...path, 'expect-console', 'pattern'],
          'a regular expression',
          `${shown(console['pattern'])}: ${(error as Error).message}`,
        );
      }
    }
  }
  const advance = step['advance'];
  if (isGroup(advance) && Object.keys(advance).length === 0)
    report([...path, 'advance'], 'time, instructions or address', 'nothing');
}

/** The snapshot that a resume step goes back to must be there by then. */
function crossCheckResumes(steps: readonly unknown[], report: Report): void {
  const kept: string[] = [];
  for (const [index, step] of steps.entries()) {
    if (!isGroup(step)) continue;
    const nameOf = (kind: string): unknown => (isGroup(step[kind]) ? step[kind]['name'] : undefined);
    const name = nameOf('snapshot');
    if (typeof name === 'string') kept.push(name);
    const wanted = nameOf('resume');
    if (typeof wanted !== 'string' || kept.includes(wanted)) continue;
    const expected = `what a snapshot step before it kept (${kept.join(', ') || 'none'})`;
    report(['steps', index, 'resume', 'name'], expected, shown(wanted), nearest(wanted, kept));
  }
}

/** Judges raw values; `locate` says where in the file each stands. */
export function parseScenario(input: unknown, locate?: Locate): ParsedScenario {
  const raw =
    isGroup(input) && Array.isArray(input['steps']) ? { ...input, steps: input['steps'].map(spelledOut) } : input;
  const { issues, report, output } = judge(scenarioSchema, scenarioKeys, raw, locate);
  crossCheck(output as Partial<SchemaOutput>, report);
  const steps = isGroup(raw) && Array.isArray(raw['steps']) ? (raw['steps'] as unknown[]) : [];
  for (const [index, step] of steps.entries()) crossCheckStep(step, index, report);
  crossCheckResumes(steps, report);
  if (isGroup(raw) && steps.length === 0 && !('steps' in raw)) report(['steps'], 'a list of steps', 'nothing');
  if (issues.length > 0) return { ok: false, issues: inOrder(issues) };
  const { name, claim, skip, steps: judged, ...machine } = output;
  const placed = judged.map((step, index) => {
    const kind = Object.keys(step)[0] as StepKind;
    const place = locate?.(['steps', index, kind], 'key');
    return { kind, step, ...(place ? { line: place.line } : {}) };
  });
  return { ok: true, scenario: { name, claim, skip, config: placeDevices(machine), steps: placed } };
}

/** By line; what has no place comes last. */
const inOrder = (issues: readonly ConfigIssue[]): ConfigIssue[] =>
  issues.toSorted((a, b) => (a.line ?? Infinity) - (b.line ?? Infinity) || (a.column ?? 0) - (b.column ?? 0) || 0);

/** A scenario file's text. */
export function parseScenarioYaml(text: string): ParsedScenario {
  const parsed = parseYaml(text);
  return parsed.ok ? parseScenario(parsed.value, parsed.locate) : parsed;
}
