/** Every key of the schemas wrong in every way, in a file: each problem has its line, its column, and what would be right. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import type { ConfigIssue } from '#vmm/config/issues';
import { issueText } from '#vmm/config/issues';
import { type Key, keysOfSchema, machineKeys } from '#vmm/config/keys';
import { parseConfigYaml } from '#vmm/config/yaml';
import { parseScenarioYaml } from '#vmm/scenario/parse';
import { scenarioSchema } from '#vmm/scenario/schema';
import { iommulab } from './iommulab.ts';

type Path = readonly (string | number)[];
interface Wrong {
  /** Where, as an error names it. */
  readonly place: string;
  /** The whole file as a value. */
  readonly file: unknown;
  readonly key: Key;
}

const pathText = (path: Path): string =>
  path.map((step, i) => (typeof step === 'number' ? `[${step}]` : i === 0 ? step : `.${step}`)).join('');
const put = (path: Path, value: unknown): unknown => {
  const [first, ...rest] = path;
  if (first === undefined) return value;
  const inner = put(rest, value);
  return typeof first === 'number' ? [inner] : { [first]: inner };
};

/** Every key below, with the path that leads to it; lists have one item. */
function* places(keys: readonly Key[], path: Path): Generator<readonly [Path, Key]> {
  for (const key of keys) {
    const here = [...path, key.name];
    yield [here, key];
    const shape = key.shape.kind === 'list' ? key.shape.item : key.shape;
    if (shape.kind === 'group') yield* places(shape.keys, key.shape.kind === 'list' ? [...here, 0] : here);
  }
}

/** Values that no key of this kind takes. */
function wrongValues({ shape }: Key): unknown[] {
  if (shape.kind === 'group') return [7, ['x'], 'nonsense'];
  if (shape.kind === 'list') return [7, { x: 1 }, 'nonsense'];
  const values: unknown[] = [['x']];
  const { json } = shape.facts;
  const [first] = (json['anyOf'] ?? [json]) as Record<string, unknown>[];
  if (typeof first!['minimum'] === 'number') values.push(first!['minimum'] - 1);
  if (typeof first!['maximum'] === 'number') values.push(first!['maximum'] + 1);
  if (shape.facts.words || json['enum']) values.push('nonsense');
  if (first!['type'] !== 'object') values.push({ x: 1 });
  return values;
}

const everyWrong = (keys: readonly Key[], around: (path: Path, value: unknown) => unknown = put): Wrong[] =>
  [...places(keys, [])].flatMap(([path, key]) =>
    wrongValues(key)
      // A plain value stands for the first key of a step.
      .filter((value) => path.length !== 3 || path[0] !== 'steps' || typeof value === 'object')
      .map((value) => ({ place: pathText(path), file: around(path, value), key })),
  );

/** What is told of a place in a file. */
function told(issues: readonly ConfigIssue[], place: string): readonly ConfigIssue[] {
  for (const issue of issues) {
    expect(issue.expected, place).not.toBe('');
    expect(issue.received, place).not.toBe('');
    expect(issue.line, `${place}: ${issueText(issue)}`).toBeGreaterThan(0);
    expect(issue.column, place).toBeGreaterThan(0);
  }
  return issues.filter(({ path }) => path === place || path.startsWith(`${place}.`) || path.startsWith(`${place}[`));
}

/** A misspelling that is close to nothing else: one letter is there twice. */
const misspelled = (name: string): string => name.slice(0, 3) + name.slice(2);

describe.each([
  ['a configuration', machineKeys, parseConfigYaml],
  ['a scenario', keysOfSchema(scenarioSchema), parseScenarioYaml],
] as const)('%s', (_, keys, parse) => {
  const issuesOf = (file: unknown): readonly ConfigIssue[] => {
    const parsed = parse(stringify(file));
    return parsed.ok ? [] : parsed.issues;
  };

  it('has no key that takes what is wrong for it', () => {
    const all = everyWrong(keys);
    expect(all.length).toBeGreaterThan(150);
    for (const { place, file } of all) expect(told(issuesOf(file), place).length, `${place}: ${JSON.stringify(file)}`).toBeGreaterThan(0); // prettier-ignore
  });

  it('has a suggestion for a key that was meant, in every place', () => {
    for (const [path, key] of places(keys, [])) {
      if (key.name.length < 4) continue;
      const names = [...places(keys, [])].filter(([other]) => pathText(other.slice(0, -1)) === pathText(path.slice(0, -1))).map(([, { name }]) => name); // prettier-ignore
      const wrong = misspelled(key.name);
      if (names.includes(wrong)) continue;
      const place = [...path.slice(0, -1), wrong];
      const found = told(issuesOf(put(place, 1)), pathText(place));
      expect(found.map(({ suggestion }) => suggestion), pathText(place)).toEqual([key.name]); // prettier-ignore
    }
  });
});

describe('the command line', () => {
  const folder = mkdtempSync(join(tmpdir(), 'iommulab-wrong-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('tells everything that is wrong with a file at once, and ends with 2', async () => {
    const path = join(folder, 'vm.yaml');
    const file: Record<string, unknown> = {};
    for (const key of machineKeys) file[key.name] = wrongValues(key)[0];
    for (const key of machineKeys) file[`${key.name}x`] = 1;
    writeFileSync(path, stringify(file));
    const { code, stdout, stderr } = await iommulab(['config', 'check', path]);
    expect([code, stdout]).toEqual([2, '']);
    const lines = stderr.trimEnd().split('\n');
    expect(lines.length).toBeGreaterThanOrEqual(2 * machineKeys.length);
    for (const line of lines) expect(line).toMatch(/vm\.yaml:\d+:\d+: [^:]+: expected .+, found .+$/);
    for (const { name } of machineKeys) expect(stderr).toContain(`(did you mean ${name}?)`);
  });
});
