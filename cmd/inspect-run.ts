/** `iommulab inspect`: a deterministic run to a point, and what is to be seen there. */
import { formatField } from '#vmm/record/catalogue';
import { formatCount, formatTime } from '#vmm/record/bytes';
import type { Inspection } from '#vmm/inspect/inspection';
import type { MachineConfig } from '#vmm/config/schema';
import type { Machine, RunResult, Until } from '#vmm/machine/machine';
import type { Ending } from './exit.ts';
import { CommandError } from './exit.ts';
import { guestKeys } from './guests.ts';
import { Networks } from './networks.ts';
import type { OptionValues } from './options.ts';
import { readMachine } from './options.ts';
import { printJson, stderr, stdout, table } from './output.ts';
import { prepare } from './prepare.ts';
import { parseStopPoint } from './stop-point.ts';
import { Progress } from './progress.ts';
import { createMachine, onInterrupt } from './session.ts';
import { openDisk } from './storage.ts';

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

/** Instructions between two looks at Ctrl-C and the clock. */
const sliceInstructions = 5_000_000;

/** How it ended: at the point, or before. */
interface Stopped {
  readonly result: RunResult;
  readonly isThere: boolean;
  readonly why?: Ending;
}

/** Runs to the point in slices; the slices do not change what happens. */
async function runTo(machine: Machine, until: Until | undefined, config: MachineConfig): Promise<Stopped> {
  const start = performance.now();
  const deadline = config.timeout === undefined ? Infinity : start + config.timeout * 1000;
  const limit = config['max-instructions'] ?? Infinity;
  const { console, event } = until ?? {};
  const lastInstruction = until?.instructions ?? Infinity;
  const lastNs = until?.virtualNs ?? Infinity;
  const progress = new Progress('running to the point');
  const interrupt = onInterrupt();
  try {
    for (;;) {
      const result = machine.run({
        instructions: Math.min(sliceInstructions, Math.max(0, Math.min(lastInstruction, limit) - machine.instructions)),
        virtualNs: Math.max(0, Math.min(lastNs - machine.clock.now, 1e9)),
        ...(console === undefined ? {} : { console }),
        ...(event === undefined ? {} : { event }),
      });
      if (result.outcome === 'met') return { result, isThere: true };
      if (result.outcome !== 'limit') return { result, isThere: until === undefined };
      if (result.instructions >= lastInstruction || result.virtualNs >= lastNs) return { result, isThere: true };
      if (interrupt.seen()) return { result, isThere: false, why: 'interrupted' };
      if (result.instructions >= limit || performance.now() >= deadline)
        return { result, isThere: false, why: 'timeout' };
      progress.show(`${formatCount(result.instructions)} instructions, ${formatTime(result.virtualNs)} virtual`);
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
  } finally {
    progress.end();
    interrupt.end();
  }
}

export async function inspect(
  inspection: Inspection,
  options: OptionValues & { readonly run?: string | undefined; readonly at: string; readonly json?: true | undefined },
): Promise<void> {
  const { run, at, json } = options;
  const until = parseStopPoint(at);
  const look = (machine: Machine | undefined): void =>
    json ? printJson(inspection.read(machine)) : show(inspection, machine);
  const isRun = run !== undefined || options['kernel'] !== undefined || options['config'] !== undefined;
  if (!isRun && !inspection.needsRun) return look(undefined);
  if (!isRun) throw new CommandError('usage', 'expected --run <guest>: there is nothing to look at without a machine');
  const { config, image, initrd } = prepare(readMachine(options, run === undefined ? {} : guestKeys(run)));
  const networks = new Networks((message) => stderr.line(message));
  const machine = createMachine(config, {
    image,
    ...(initrd ? { initrd } : {}),
    openDisk,
    openNetwork: networks.open,
    console: (bytes) => {
      if (options['verbose']) stderr.write(bytes);
    },
  });
  try {
    const { result, isThere, why } = await runTo(machine, until, config);
    const cost = `${formatCount(result.instructions)} instructions, ${formatTime(result.virtualNs)} virtual`;
    if (!isThere)
      throw new CommandError(why ?? 'failed', `the run ended (${why ?? result.outcome}, ${cost}) before ${at}`);
    stderr.line(stderr.colors.dim(`at ${at}: ${cost}`));
    look(machine);
  } finally {
    networks.close();
    machine.close();
  }
}
