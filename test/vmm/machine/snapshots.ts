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
  readonly steps?: readonly Step[];
}

/** What is done to the machine from outside, after so many instructions or seconds of virtual time. */
export interface Step {
  readonly instructions?: number;
  readonly seconds?: number;
  readonly do: (machine: Machine) => void;
}

const add = (driver: string, keys: Readonly<Record<string, unknown>>): Step['do'] => (machine) => void machine.deviceAdd(driver, keys); // prettier-ignore
const remove =
  (id: string, surprise: boolean): Step['do'] =>
  (machine) =>
    machine.deviceDel(id, { surprise });
/** All kinds come; places of those that went are taken again, by others and out of their order. */
const cards: readonly Step[] = [
  { instructions: 0, do: add('exerciser', { id: 'x' }) },
  { seconds: 1, do: add('nvme', { id: 'd', path: 'x', serial: 'one', 'pasid-bits': 8 }) },
  { seconds: 2, do: add('nic', { id: 'n' }) },
  { seconds: 3, do: remove('x', false) },
  { seconds: 4, do: add('nvme', { id: 'e', path: 'y', overlay: true }) },
  { seconds: 5, do: remove('d', true) },
  { seconds: 6, do: add('exerciser', { id: 'y' }) },
  { seconds: 7, do: add('nic', { id: 'm' }) },
  { seconds: 8, do: remove('n', false) },
  { seconds: 9, do: remove('e', false) },
  { seconds: 10, do: remove('y', false) },
];
const busy: readonly Step[] = [
  { instructions: 0, do: add('exerciser', { id: 'x' }) },
  { instructions: 600_000, do: add('nvme', { id: 'd', path: 'x' }) },
  { instructions: 900_000, do: remove('x', true) },
  { instructions: 1_200_000, do: add('exerciser', { id: 'y' }) },
  { instructions: 1_500_000, do: remove('d', true) },
];

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
  'hot-plug': { guest: 'hotplug', keys: { nics: [{}], 'hotplug-ports': 4, append: 'departures=5' }, steps: cards },
  'hot-plug-no-iommu': {
    guest: 'hotplug',
    keys: { 'hotplug-ports': 4, append: 'departures=5', viommu: { model: 'none' } },
    steps: cards,
  },
  'hot-plug-busy': { guest: 'hotplug', keys: { 'hotplug-ports': 2, append: 'departures=2 busy=1' }, steps: busy },
} as const satisfies Record<string, Case>;

/** No run of a case is longer. */
const mostInstructions = 3e8;

export class Run {
  readonly machine: Machine;
  readonly lines: string[] = [];
  console = '';
  /** Steps that were done. */
  done: number;
  readonly #steps: readonly Step[];

  constructor({ guest, keys = {}, steps = [] }: Case, snapshot?: Uint8Array, done = 0) {
    this.#steps = steps;
    this.done = done;
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
    if ('instructions' in point) return this.#run(point.instructions, () => false);
    let seen = this.lines.length;
    const stop = this.machine.trace.listen(() => {
      if (++seen === point.event) this.machine.stop();
    });
    try {
      return this.#run(mostInstructions, () => seen >= point.event);
    } finally {
      stop();
    }
  }

  toEnd(): RunResult {
    return this.#run(mostInstructions, () => false);
  }

  /** Steps that are due are done before it comes back. */
  #run(instructions: number, isThere: () => boolean): RunResult {
    const { machine } = this;
    for (;;) {
      const step = this.#steps[this.done];
      const { instructions: at = Infinity, seconds = Infinity } = step ?? {};
      const result = machine.run({
        instructions: Math.max(0, Math.min(instructions, at) - machine.instructions),
        virtualNs: Math.max(0, seconds * 1e9 - machine.clock.now),
        undisturbed: true,
      });
      if (isThere()) return result;
      const isDue = machine.instructions >= at || machine.clock.now >= seconds * 1e9;
      if (!step || !isDue || result.outcome !== 'limit') return result;
      this.done++;
      step.do(machine);
      if (isThere()) return result;
    }
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
  const second = new Run(one, first.machine.snapshot(), first.done);
  const lines = [...first.lines];
  const again = second.final(second.toEnd());
  const trace = difference([...lines, ...second.lines], run.lines);
  if (trace) return `the trace differs: ${JSON.stringify(trace)}`;
  if (first.console + second.console !== run.console) return 'the console differs';
  return isDeepStrictEqual(again, final) ? undefined : 'registers, memory or statistics at the end differ';
}
