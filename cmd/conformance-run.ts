/** Replays a folder of recordings. Each kind of recording is one row of `kinds`, each way to print one of `reporters`. */
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { parseRecords } from '#iommufd/conformance/records';
import { Replay } from '#iommufd/conformance/replay';
import type { Scenario } from '#iommufd/conformance/riscv-iommu';
import { replayScenario } from '#iommufd/conformance/riscv-iommu';
import { SimulatedTarget } from '#iommufd/conformance/simulated-target';
import type { ReplayTarget } from '#iommufd/conformance/target';
import { LinuxHost } from '#iommufd/linux/host';
import { loadLibc } from '#iommufd/linux/libc';
import { LinuxTarget } from '#iommufd/linux/target';
import { errnoName } from '#vmm/base/errno';
import { eventFilter as globFilter } from '#vmm/record/catalogue';
import type { HostName, ReporterName } from './conformance.ts';
import { reporters } from './conformance-report.ts';
import { CommandError, exitCodes } from './exit.ts';
import { readFile } from './files.ts';
import { stdout } from './output.ts';
import { Progress } from './progress.ts';

/** The first answer that is not the recorded one. */
export interface Difference {
  /** Which step or call of the case, with its arguments. */
  readonly where: string;
  /** What was expected and what came, a line each. */
  readonly lines: readonly string[];
}
export interface CaseResult {
  readonly name: string;
  /** Steps or calls compared. */
  readonly steps: number;
  readonly difference: Difference | undefined;
  /** It was not run. */
  readonly isSkipped?: boolean;
}
/** One file of recordings. */
interface Recording {
  readonly file: string;
  /** The case in it, where there is only one. */
  readonly name?: string;
}
interface Kind {
  /** Undefined: the index is not of this kind. */
  readonly recordings: (index: unknown) => readonly Recording[] | undefined;
  /** Who can answer. */
  readonly hosts: readonly HostName[];
  readonly replay: (text: string, wants: (name: string) => boolean, host: Host) => Iterable<CaseResult>;
}

const maxBytes = 256 << 20;

function* replayVectors(text: string, wants: (name: string) => boolean): Iterable<CaseResult> {
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const scenario = JSON.parse(line) as Scenario;
    if (!wants(scenario.id)) continue;
    const { steps, failures } = replayScenario(scenario);
    const first = failures.find((failure) => failure.binding);
    const difference = first && { where: `step ${first.step} (${first.op})`, lines: first.differences };
    yield { name: scenario.id, steps, difference };
  }
}

interface Host {
  readonly name: HostName;
  readonly newTarget: () => ReplayTarget & { release?(): void };
}
/** By the name that `--host` takes. */
const hosts: Readonly<Record<HostName, () => Promise<Host>>> = {
  simulated: () => Promise.resolve({ name: 'simulated', newTarget: () => new SimulatedTarget() }),
  kernel: openLinux,
};

/** The running kernel; one sentence about what is missing. */
async function openLinux(): Promise<Host> {
  const missing = (what: string): CommandError => new CommandError('resource', `--host kernel: ${what}`);
  if (process.platform !== 'linux') throw missing(`expected Linux, but this is ${process.platform}`);
  const libc = await loadLibc();
  if (!libc) throw missing('expected the package koffi, but it is not installed (npm install koffi)');
  const fd = new LinuxHost(libc).open('/dev/iommu');
  if (fd < 0) throw missing(`expected to open /dev/iommu, but the kernel answers ${errnoName(-fd)}`);
  libc.call('close', fd);
  return { name: 'kernel', newTarget: () => new LinuxTarget(libc) };
}

function* replayCalls(text: string, _wants: unknown, { newTarget }: Host): Iterable<CaseResult> {
  const target = newTarget();
  const { name, calls, difference: found } = new Replay(target).run(parseRecords(text));
  target.release?.();
  const difference = found && {
    where: `call ${found.n}: ${found.call} ${found.arguments}`.trimEnd(),
    lines: found.lines,
  };
  yield { name, steps: calls, difference };
}

const hasText = (value: unknown, key: string): boolean =>
  typeof (value as Readonly<Record<string, unknown>> | null)?.[key] === 'string';

const kinds: Readonly<Record<string, Kind>> = {
  iommufd: {
    recordings: (index) =>
      Array.isArray(index) && index.every((row) => hasText(row, 'case') && hasText(row, 'file'))
        ? (index as { case: string; file: string }[]).map((row) => ({ file: row.file, name: row.case }))
        : undefined,
    hosts: ['simulated', 'kernel'],
    replay: replayCalls,
  },
  'riscv-iommu': {
    recordings: (index) => {
      const { kind, themes } = index as { kind?: unknown; themes?: unknown };
      return kind === 'riscv-iommu' && Array.isArray(themes) && themes.every((row) => hasText(row, 'file'))
        ? (themes as { file: string }[])
        : undefined;
    },
    hosts: ['simulated'],
    replay: replayVectors,
  },
};

function readText(path: string): string {
  const bytes = readFile(path, 'a recording', maxBytes);
  if (!path.endsWith('.gz')) return new TextDecoder().decode(bytes);
  try {
    return new TextDecoder().decode(gunzipSync(bytes, { maxOutputLength: 4 * maxBytes }));
  } catch {
    throw new CommandError('usage', `${path}: expected a gzip file, found something else`);
  }
}

function parseIndex(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function* replayFolder(dir: string, wants: (name: string) => boolean, host: Host): Iterable<CaseResult> {
  const path = join(dir, 'index.json');
  const index = parseIndex(readText(path)) ?? {};
  for (const kind of Object.values(kinds)) {
    const recordings = kind.recordings(index);
    if (!recordings) continue;
    if (!kind.hosts.includes(host.name))
      throw new CommandError('usage', `${path}: expected recordings of system calls for --host ${host.name}`);
    for (const { file, name } of recordings) {
      if (name !== undefined && !wants(name)) continue;
      const text = readText(join(dir, file));
      try {
        yield* kind.replay(text, wants, host);
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error;
        throw new CommandError('usage', `${join(dir, file)}: expected JSON lines, but ${error.message}`);
      }
    }
    return;
  }
  throw new CommandError('usage', `${path}: expected an index of recordings of ${Object.keys(kinds).join(' or ')}`);
}

/** Prints results as they come; the exit code: 1 on any difference. */
export async function conformance(
  dir: string,
  options: { readonly case: string; readonly reporter: ReporterName; readonly host: HostName },
): Promise<number> {
  const host = await hosts[options.host]();
  const reporter = reporters[options.reporter]((text) => stdout.line(text));
  let cases = 0;
  let failed = 0;
  const progress = new Progress('conformance');
  for (const result of replayFolder(dir, globFilter([options.case]), host)) {
    cases++;
    progress.show(() => `${cases} cases, ${failed} failed`);
    if (result.difference) failed++;
    reporter.result(result);
  }
  progress.end();
  if (cases === 0) throw new CommandError('usage', `${dir}: no case matches ${JSON.stringify(options.case)}`);
  reporter.end();
  return (failed === 0 ? exitCodes.passed : exitCodes.failed).code;
}
