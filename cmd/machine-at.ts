/** A machine at a point of its run, which is deterministic: what `inspect` and `explain` look at. */
import { formatCount, formatTime } from '#vmm/record/bytes';
import type { MachineConfig } from '#vmm/config/schema';
import type { Machine, RunResult, Until } from '#vmm/machine/machine';
import type { Ending } from './exit.ts';
import { CommandError } from './exit.ts';
import { Networks } from './networks.ts';
import { stderr } from './output.ts';
import type { Prepared } from './prepare.ts';
import { parseStopPoint } from './stop-point.ts';
import { Progress } from './progress.ts';
import { createMachine, onInterrupt } from './session.ts';
import { openDisk } from './storage.ts';

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

/** @throws CommandError where the run ends before the point */
export async function machineAt<T>(
  { config, image, initrd }: Prepared,
  at: string,
  look: (machine: Machine) => T,
  console: (bytes: Uint8Array) => void = () => {},
): Promise<T> {
  const until = parseStopPoint(at);
  const networks = new Networks((message) => stderr.line(message));
  const machine = createMachine(config, {
    image,
    ...(initrd ? { initrd } : {}),
    openDisk,
    openNetwork: networks.open,
    console,
  });
  try {
    const { result, isThere, why } = await runTo(machine, until, config);
    const cost = `${formatCount(result.instructions)} instructions, ${formatTime(result.virtualNs)} virtual`;
    if (!isThere)
      throw new CommandError(why ?? 'failed', `the run ended (${why ?? result.outcome}, ${cost}) before ${at}`);
    stderr.line(stderr.colors.dim(`at ${at}: ${cost}`));
    return look(machine);
  } finally {
    networks.close();
    machine.close();
  }
}
