/** The machine's options, generated from the configuration schema: the command line and the file are the same thing. */
import { readFileSync, statSync } from 'node:fs';
import { Option } from '@commander-js/extra-typings';
import { parseOption } from '#vmm/config/grammar';
import type { ConfigIssue, PathStep } from '#vmm/config/issues';
import { issueText } from '#vmm/config/issues';
import type { Key } from '#vmm/config/keys';
import { formatValue, machineKeys } from '#vmm/config/keys';
import type { Locate } from '#vmm/config/parse';
import { parseConfig } from '#vmm/config/parse';
import type { MachineConfig } from '#vmm/config/schema';
import { maxConfigBytes, parseYaml } from '#vmm/config/yaml';
import { CommandError } from './exit.ts';
import { fileError } from './files.ts';

/** A list's option is given once an item. */
const singular: Readonly<Record<string, string>> = {
  disks: 'disk',
  nics: 'nic',
  exercisers: 'exerciser',
  checks: 'check',
};
/** A bundled guest is an argument, not an option. */
const optionKeys = machineKeys.filter((key) => key.name !== 'image');

const nameOf = (key: Key): string => singular[key.name] ?? key.name;
const isFlag = (key: Key): boolean => key.shape.kind === 'scalar' && key.shape.facts.placeholder === 'on|off';
const groupKeys = (key: Key): readonly Key[] => {
  const shape = key.shape.kind === 'list' ? key.shape.item : key.shape;
  return shape.kind === 'group' ? shape.keys : [];
};
const defaultText = (key: Key): string | undefined => {
  if (key.default === undefined || key.shape.kind === 'group') return undefined;
  const value = formatValue(key.shape, key.default);
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  return Array.isArray(value) ? (value.length === 0 ? undefined : `[${value.join(',')}]`) : String(value);
};

/** One option a key, and `--config`. */
export function machineOptions(): readonly Option[] {
  const options = optionKeys.map((key) => {
    const name = nameOf(key);
    const fallback = isFlag(key) ? undefined : defaultText(key);
    const notes = [key.shape.kind === 'list' ? 'repeatable' : '', fallback === undefined ? '' : `default ${fallback}`];
    const said = notes.filter((note) => note !== '').join(', ');
    const value = key.shape.kind === 'list' ? key.shape.item : key.shape;
    const words = value.kind === 'scalar' ? value.facts.placeholder : 'key=value,…';
    const doc = said === '' ? key.doc : `${key.doc} (${said})`;
    const option = new Option(isFlag(key) ? `--${name}` : `--${name} <${words}>`, doc);
    // commander would read a --no-… key as the opposite of a --….
    option.negate = false;
    option.attributeName = () => key.name;
    if (!isFlag(key)) option.argParser((value: string, before: string[] | undefined) => [...(before ?? []), value]);
    return option as Option;
  });
  return [...options, new Option('--config <file>', 'read the machine from a YAML or JSON file; options add to it')];
}

/** The keys of the options that take `key=value,…`, for `--help`. */
export function keyHelp(): string {
  const blocks = optionKeys
    .filter((key) => groupKeys(key).length > 0)
    .map((key) => {
      const rows = groupKeys(key).map((item, index) => {
        const shape = item.shape.kind === 'list' ? item.shape.item : item.shape;
        const value = shape.kind === 'scalar' ? shape.facts.placeholder : '';
        const name = `${item.name}=${item.shape.kind === 'list' ? `[${value},…]` : value}`;
        const notes = [
          index === 0 ? 'key may be omitted' : '',
          item.required ? 'required' : '',
          defaultText(item) === undefined ? '' : `default ${defaultText(item)}`,
        ];
        const said = notes.filter((note) => note !== '').join('; ');
        return `    ${name.padEnd(26)} ${item.doc}${said === '' ? '' : ` (${said})`}`;
      });
      return `  --${nameOf(key)} ${key.doc}\n${rows.join('\n')}`;
    });
  return `Keys (a key alone means on; values with commas are quoted or in [a,b]; sizes take K, M, G):\n${blocks.join('\n')}`;
}

/** All that is wrong, as one error. */
export function configError(issues: readonly ConfigIssue[], file = ''): CommandError {
  const sentences = issues.map((issue) => issueText(issue, issue.line === undefined ? '' : file));
  return new CommandError('usage', sentences[0]!, sentences.slice(1));
}

interface FromFile {
  readonly values: Readonly<Record<string, unknown>>;
  readonly locate?: Locate;
}

function readConfigFile(path: string): FromFile {
  let text: string;
  try {
    if (statSync(path).size > maxConfigBytes)
      throw new CommandError('usage', `${path}: expected a configuration of at most ${maxConfigBytes / 2 ** 20} MiB`);
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw fileError(error, path, 'a configuration file');
  }
  const parsed = parseYaml(text);
  if (!parsed.ok) throw configError(parsed.issues, path);
  const value = parsed.value;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    const judged = parseConfig(value);
    throw configError(judged.ok ? [] : judged.issues, path);
  }
  return { values: value as Record<string, unknown>, locate: parsed.locate };
}

const isGroup = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** What commander collected, by key. */
export type OptionValues = Readonly<Record<string, unknown>>;

/** The whole machine from file and options; options override scalars and keys of groups, and add to lists. */
export function readMachine(values: OptionValues, guest: Readonly<Record<string, unknown>> = {}): MachineConfig {
  const path = typeof values['config'] === 'string' ? values['config'] : undefined;
  const file: FromFile = path === undefined ? { values: {} } : readConfigFile(path);
  const merged: Record<string, unknown> = { ...file.values, ...guest };
  if ('image' in guest) delete merged['kernel'];
  if ('kernel' in guest) delete merged['image'];
  const issues: ConfigIssue[] = [];
  if (values['kernel'] !== undefined && Object.keys(guest).length > 0)
    issues.push({ path: '--kernel', expected: 'either a guest or --kernel', received: 'both' });
  if (values['kernel'] !== undefined) delete merged['image'];
  const fromOptions = new Set<string>(Object.keys(guest));
  for (const key of optionKeys) {
    const given = values[key.name];
    if (given === undefined) continue;
    const texts = given === true ? [] : (given as readonly string[]);
    const groups: Record<string, unknown>[] = [];
    if (key.shape.kind === 'scalar') {
      merged[key.name] = given === true ? true : texts.at(-1);
      fromOptions.add(key.name);
      continue;
    }
    if (key.shape.kind === 'list' && key.shape.item.kind === 'scalar') {
      const before = merged[key.name];
      merged[key.name] = [...(Array.isArray(before) ? before : []), ...texts.flatMap((text) => text.split(','))];
      fromOptions.add(key.name);
      continue;
    }
    for (const text of texts) {
      const parsed = parseOption(text, groupKeys(key));
      if (parsed.ok) groups.push(parsed.value);
      else
        issues.push({
          path: `--${nameOf(key)} ${text}`,
          expected: 'key=value,…',
          received: `${parsed.message} (character ${parsed.column})`,
        });
    }
    const before = merged[key.name];
    if (key.shape.kind === 'list') {
      const kept: readonly unknown[] = Array.isArray(before) ? before : [];
      for (const index of groups.keys()) fromOptions.add(`${key.name}.${kept.length + index}`);
      merged[key.name] = [...kept, ...groups];
    } else {
      for (const group of groups) for (const name of Object.keys(group)) fromOptions.add(`${key.name}.${name}`);
      merged[key.name] = Object.assign({}, isGroup(before) ? before : {}, ...groups) as unknown;
    }
  }
  const locate: Locate = (place: readonly PathStep[], what) =>
    fromOptions.has(String(place[0])) || fromOptions.has(place.slice(0, 2).join('.'))
      ? undefined
      : file.locate?.(place, what);
  const parsed = parseConfig(merged, locate);
  if (!parsed.ok) issues.push(...parsed.issues);
  if (issues.length > 0 || !parsed.ok) throw configError(issues, path);
  return parsed.config;
}
