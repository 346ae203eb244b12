/** `iommulab inspect`: a deterministic run to a point, and what is to be seen there. */
import { formatField } from '#vmm/record/catalogue';
import type { Inspection } from '#vmm/inspect/inspection';
import type { Machine } from '#vmm/machine/machine';
import { CommandError } from './exit.ts';
import { guestKeys } from './guests.ts';
import { machineAt } from './machine-at.ts';
import type { OptionValues } from './options.ts';
import { readMachine } from './options.ts';
import { printJson, stderr, stdout, table } from './output.ts';
import { prepare } from './prepare.ts';
import { parseStopPoint } from './stop-point.ts';

/** The table that people see; numbers to the right. */
function show(inspection: Inspection, machine: Machine | undefined): void {
  if (machine && inspection.text) {
    for (const line of inspection.text(machine)) stdout.line(line);
    return;
  }
  const rows = inspection.read(machine);
  const columns = Object.entries(inspection.columns);
  if (rows.length === 0) return stderr.line('nothing');
  const right = columns.flatMap(([, kind], index) => (kind === 'int' || kind === 'bytes' ? [index] : []));
  const heads = columns.map(([name]) => name.toUpperCase().replaceAll('_', ' '));
  stdout.line(
    table([heads, ...rows.map((row) => columns.map(([name, kind]) => formatField(kind, row[name]!)))], right),
  );
}

export async function inspect(
  inspection: Inspection,
  options: OptionValues & { readonly run?: string | undefined; readonly at: string; readonly json?: true | undefined },
): Promise<void> {
  const { run, at, json } = options;
  // What is wrong with it is said before anything runs.
  parseStopPoint(at);
  const look = (machine: Machine | undefined): void =>
    json ? printJson(inspection.read(machine)) : show(inspection, machine);
  const isRun = run !== undefined || options['kernel'] !== undefined || options['config'] !== undefined;
  if (!isRun && !inspection.needsRun) return look(undefined);
  if (!isRun) throw new CommandError('usage', 'expected --run <guest>: there is nothing to look at without a machine');
  const prepared = prepare(readMachine(options, run === undefined ? {} : guestKeys(run)));
  await machineAt(prepared, at, look, (bytes) => {
    if (options['verbose']) stderr.write(bytes);
  });
}
