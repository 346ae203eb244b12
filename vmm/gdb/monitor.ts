import { formatField } from '#vmm/record/catalogue';
import { findInspection, inspections } from '../inspect/inspections.ts';
import type { Machine } from '../machine/machine.ts';

/** `monitor` commands besides the inspections. */
const others: Readonly<Record<string, string>> = {
  help: 'this list',
  'physical on|off': 'memory commands take guest-physical addresses',
};

const help = (): string =>
  [...Object.entries(others), ...Object.entries(inspections).map(([name, { doc }]) => [name, doc] as const)]
    .map(([name, doc]) => `${name.padEnd(16)} ${doc}`)
    .join('\n');

/** What `monitor <command>` prints; undefined for the commands of the debugger itself. */
export function monitor(machine: Machine, command: string): string {
  if (command === 'help' || command === '') return `${help()}\n`;
  const inspection = findInspection(command);
  if (!inspection) return `unknown command ${JSON.stringify(command)}; try monitor help\n`;
  if (inspection.text) return `${inspection.text(machine).join('\n')}\n`;
  const columns = Object.entries(inspection.columns);
  const rows = inspection
    .read(machine)
    .map((row) => columns.map(([name, kind]) => formatField(kind, row[name]!)).join('  '));
  return `${[columns.map(([name]) => name).join('  '), ...rows].join('\n')}\n`;
}
