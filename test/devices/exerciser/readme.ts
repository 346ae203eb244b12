/** The tables of devices/exerciser/README.md, from the declarations. */
import type { Register } from '#vmm/base/bits';
import type { Struct } from '#vmm/base/wire';
import {
  type NamedValue,
  completion,
  descriptor,
  flag,
  mode,
  pageFlag,
  statuses,
} from '#devices/exerciser/descriptors';
import { operations } from '#devices/exerciser/operations';
import { type RegisterRow, registers } from '#devices/exerciser/registers';

const hex = (value: number): string => `0x${value.toString(16)}`;
const bits = ({ hi, lo }: { hi: number; lo: number }): string => (hi === lo ? String(hi) : `${hi}:${lo}`);

const fieldsOf = (layout: Register): string =>
  [...layout.fields]
    .filter(([, { hi, lo }]) => hi - lo < 31)
    .map(([name, field]) => {
      const values = Object.entries(field.values).map(([value, what]) => `${value} ${what}`);
      const notes = [field.doc, values.join(', ')].filter((note) => note !== '').join('; ');
      return `${name} ${bits(field)}${notes === '' ? '' : ` (${notes})`}`;
    })
    .join(', ');

const accessOf = (layout: Register): string => {
  const kinds = new Set([...layout.fields.values()].map(({ access }) => (access === 'warl' ? 'rw' : access)));
  return [...kinds].join(', ');
};

const placeOf = ({ offset, count, stride, words }: RegisterRow): string => {
  const base = hex(offset) + (count ? ` + ${hex(stride ?? 0)} q` : '');
  return words !== undefined && words > 1 ? `${base} … + ${hex(words * 4 - 4)}` : base;
};

const registerRow = ([name, row]: [string, RegisterRow]): string[] => [
  `\`${placeOf(row)}\``,
  `\`${name}\``,
  accessOf(row.layout),
  row.reset ? `\`${hex(row.reset)}\`` : '0',
  [row.doc, fieldsOf(row.layout)].filter((text) => text !== '').join(': '),
];

const named = (values: Readonly<Record<string, NamedValue>>): string[][] =>
  Object.entries(values).map(([name, { value, doc }]) => [String(value), `\`${name}\``, doc]);

const members = (layout: Pick<Struct<never>, 'members'>): string[][] =>
  layout.members.map(({ name, offset, kind }) => [`\`${hex(offset)}\``, `\`${name}\``, kind]);

/** Title of the section → its table, the head first. */
export const tables: Readonly<Record<string, readonly string[][]>> = {
  'Registers (BAR 0)': [['offset', 'name', 'access', 'reset', 'what'], ...Object.entries(registers).map(registerRow)],
  Descriptors: [['offset', 'field', 'type'], ...members(descriptor)],
  Operations: [
    ['opcode', 'name', 'source', 'destination', 'what'],
    ...Object.values(operations).map(({ opcode, name, source, destination, doc }) => [String(opcode), `\`${name}\``, source, destination, doc]), // prettier-ignore
  ],
  Modes: [['value', 'name', 'what'], ...named(mode)],
  Flags: [['value', 'name', 'what'], ...named(flag)],
  'Page flags': [['value', 'name', 'what'], ...named(pageFlag)],
  Completions: [['offset', 'field', 'type'], ...members(completion)],
  Statuses: [['value', 'name', 'what'], ...named(statuses)],
};

/** Cells of the first table under a heading of Markdown text. */
export const tableUnder = (text: string, heading: string): string[][] => {
  const lines = text.split('\n');
  const start = lines.findIndex((line) => /^#+ /.test(line) && line.replace(/^#+ /, '') === heading);
  const from = lines.findIndex((line, i) => i > start && start >= 0 && line.startsWith('|'));
  const rows: string[][] = [];
  for (let i = from; i >= 0 && lines[i]?.startsWith('|'); i++)
    rows.push(lines[i]!.split(/(?<!\\)\|/).slice(1, -1).map((cell) => cell.trim())); // prettier-ignore
  return rows.filter((row) => !row.every((cell) => /^:?-+:?$/.test(cell)));
};
