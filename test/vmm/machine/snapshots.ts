/** Machines that are saved and taken up again, and everything by which two runs can be told apart. */
import { isDeepStrictEqual } from 'node:util';
import { makeDiskImage } from '#guest-images/disk-image';
import { crc32 } from '#vmm/base/crc32';
import type { TraceEvent } from '#vmm/base/events';
import { jsonLine } from '#vmm/record/jsonl';
import { bundledGuest, Machine, type MachineConfigInput, memoryStorage, parseConfig, type RunResult, Snapshot } from '../../../index.ts'; // prettier-ignore

export interface Case {
  readonly guest: string;
  readonly keys?: MachineConfigInput;
}

const disk = { path: 'demo' };
const shared = { disks: [{ ...disk, 'pasid-bits': 20 }], nics: [{}, {}], exercisers: [{}] };
/** Every bundled guest that does more than say so, on the machine that it is for. */
export const cases = {
  hello: { guest: 'hello' },
  irq: { guest: 'irq', keys: { nics: [{}] } },
  smp: { guest: 'smp', keys: { smp: 3 } },
  crash: { guest: 'crash' },
  fail: { guest: 'fail' },
  hostile: { guest: 'hostile', keys: { disks: [disk], nics: [{}, {}] } },
  dma: { guest: 'dma', keys: { disks: [disk], nics: [{}, {}] } },
  'dma-pci': { guest: 'dma', keys: { disks: [disk], nics: [{}, {}], viommu: { bus: 'pci' } } },
  nvme: { guest: 'nvme', keys: { disks: [disk] } },
  nic: { guest: 'nic', keys: { nics: [{}, {}] } },
  exerciser: { guest: 'exerciser', keys: { exercisers: [{}] } },
  vsva: { guest: 'sva-vsva', keys: shared },
  vpri: { guest: 'sva-vpri', keys: shared },
  isolation: { guest: 'sva-isolation', keys: shared },
} as const satisfies Record<string, Case>;

/** No run of a case is longer. */
const mostInstructions = 3e8;

export class Run {
  readonly machine: Machine;
  readonly lines: string[] = [];
  console = '';

  constructor({ guest, keys = {} }: Case, snapshot?: Uint8Array) {
    // Less memory, less to compare.
    const parsed = parseConfig({ memory: '32M', ...keys });
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.issues));
    const host = {
      openDisk: () => memoryStorage(makeDiskImage(1)),
      console: (bytes: Uint8Array) => void (this.console += String.fromCharCode(...bytes)),
      listeners: [(event: TraceEvent) => void this.lines.push(jsonLine(event))],
    };
    this.machine = snapshot
      ? Machine.resume(new Snapshot(snapshot), host)
      : Machine.create(parsed.config, { ...host, image: bundledGuest(guest) });
  }

  /** Runs to so many events of the whole run, or so many instructions; its result where it ended before. */
  to(point: { readonly event: number } | { readonly instructions: number }): RunResult {
    if ('instructions' in point)
      return this.machine.run({ instructions: point.instructions - this.machine.instructions, undisturbed: true });
    let seen = this.lines.length;
    const stop = this.machine.trace.listen(() => {
      if (++seen === point.event) this.machine.stop();
    });
    try {
      return this.machine.run({ instructions: mostInstructions - this.machine.instructions, undisturbed: true });
    } finally {
      stop();
    }
  }

  toEnd(): RunResult {
    return this.machine.run({ instructions: mostInstructions - this.machine.instructions, undisturbed: true });
  }

  /** What there is to see when it has ended. */
  final(result: RunResult): unknown {
    const { machine } = this;
    const { bytes, poolBase, end } = machine.memory;
    return {
      result,
      registers: machine.harts.map(({ id }) => machine.registers(id)),
      memory: crc32(bytes.subarray(poolBase, end)),
      stats: machine.stats(),
    };
  }
}

/** The first line in which two traces differ; undefined where they are the same. */
export const difference = (
  a: readonly string[],
  b: readonly string[],
): { at: number; a?: string; b?: string } | undefined => {
  for (let at = 0; at < Math.max(a.length, b.length); at++)
    if (a[at] !== b[at]) return { at, ...(a[at] === undefined ? {} : { a: a[at] }), ...(b[at] === undefined ? {} : { b: b[at] }) }; // prettier-ignore
  return undefined;
};

/** The run without interruption: trace, console and end. */
export const wholeRun = (one: Case): { readonly run: Run; readonly final: unknown } => {
  const run = new Run(one);
  return { run, final: run.final(run.toEnd()) };
};

/** What sets a run that was saved there and taken up again apart from the one that was left alone; undefined: nothing. */
export function resumedDifference(
  one: Case,
  point: Parameters<Run['to']>[0],
  { run, final }: ReturnType<typeof wholeRun>,
): string | undefined {
  const first = new Run(one);
  first.to(point);
  const second = new Run(one, first.machine.snapshot());
  const lines = [...first.lines];
  const again = second.final(second.toEnd());
  const trace = difference([...lines, ...second.lines], run.lines);
  if (trace) return `the trace differs: ${JSON.stringify(trace)}`;
  if (first.console + second.console !== run.console) return 'the console differs';
  return isDeepStrictEqual(again, final) ? undefined : 'registers, memory or statistics at the end differ';
}
