/** One scenario, from its file to its result; and the thread that does that for `iommulab test`. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { parentPort } from 'node:worker_threads';
import { memoryStorage } from '#devices/backends/storage/memory';
import { makeDiskImage } from '#guest-images/disk-image';
import type { StorageBackend } from '#vmm/base/ports';
import { issueText } from '#vmm/config/issues';
import { parseSize } from '#vmm/config/values';
import type { DiskConfig } from '#vmm/config/schema';
import { parseScenarioYaml, type Scenario } from '#vmm/scenario/parse';
import { runScenario, type ScenarioResult } from '#vmm/scenario/run';
import { CommandError } from './exit.ts';
import { fileError, readFile } from './files.ts';
import { loadGuest, loadInitrd } from './guests.ts';
import { explain } from './program.ts';
import { openDisk } from './storage.ts';

const maxScenarioBytes = 1 << 20;
const maxDiskBytes = 1 << 30;

export interface Job {
  readonly index: number;
  readonly path: string;
  readonly seed: number | undefined;
  readonly updatesGoldens: boolean;
}
export interface Done {
  readonly index: number;
  readonly result?: ScenarioResult;
  /** It could not be run at all: what to say, and the exit code. */
  readonly error?: { readonly sentences: readonly string[]; readonly code: number };
}

/** A scenario file, judged. Paths in it are relative to it. */
export function readScenario(path: string, seed?: number): Scenario {
  const text = new TextDecoder().decode(readFile(path, 'a scenario', maxScenarioBytes));
  const parsed = parseScenarioYaml(text);
  if (!parsed.ok) {
    const sentences = parsed.issues.map((issue) => issueText(issue, path));
    throw new CommandError('usage', sentences[0]!, sentences.slice(1));
  }
  const { scenario } = parsed;
  const beside = (name: string): string => (isAbsolute(name) ? name : join(dirname(path), name));
  const placed = <T extends { readonly path: string }>(disk: T): T =>
    disk.path.startsWith('memory:') ? disk : { ...disk, path: beside(disk.path) };
  const { kernel, initrd, disks } = scenario.config;
  const config = {
    ...scenario.config,
    ...(kernel === undefined ? {} : { kernel: beside(kernel) }),
    ...(initrd === undefined ? {} : { initrd: beside(initrd) }),
    ...(seed === undefined ? {} : { seed }),
    disks: disks.map(placed),
  };
  const steps = scenario.steps.map((one) => {
    const added = one.step['device-add'];
    if (!added?.nvme) return one;
    return { ...one, step: { ...one.step, 'device-add': { ...added, nvme: placed(added.nvme) } } };
  });
  return { ...scenario, config, steps };
}

/** `memory:16M` is empty, `memory:demo` the disk that the guests dma and nvme expect; files are never changed. */
function openScenarioDisk(disk: DiskConfig, seed: number): StorageBackend {
  const [, what] = /^memory:(.*)$/.exec(disk.path) ?? [];
  if (what === undefined) return openDisk({ ...disk, overlay: !disk.readonly });
  if (what === 'demo') return memoryStorage(makeDiskImage(seed));
  const bytes = parseSize(what);
  if (bytes === undefined || bytes === 0 || bytes % 512 !== 0 || bytes > maxDiskBytes)
    throw new CommandError(
      'usage',
      `disks: expected memory:SIZE of whole 512-byte sectors up to 1G, or memory:demo, found ${JSON.stringify(disk.path)}`,
    );
  return memoryStorage(bytes);
}

function write(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw fileError(error, path, 'a golden file');
  }
}

export function runJob({ index, path, seed, updatesGoldens }: Job): Done {
  try {
    const scenario = readScenario(path, seed);
    if (scenario.skip) return { index, result: { status: 'skipped', steps: 0, instructions: 0, virtualNs: 0 } };
    const { config } = scenario;
    const initrd = loadInitrd(config);
    const golden = (name: string): string => (isAbsolute(name) ? name : join(dirname(path), name));
    const result = runScenario(scenario, {
      image: loadGuest(config),
      ...(initrd ? { initrd } : {}),
      openDisk: (disk) => openScenarioDisk(disk, config.seed),
      readGolden: (name) => (existsSync(golden(name)) ? readFileSync(golden(name), 'utf8') : undefined),
      ...(updatesGoldens ? { writeGolden: (name: string, text: string) => write(golden(name), text) } : {}),
    });
    return { index, result };
  } catch (error) {
    const { sentences, code } = explain(error);
    return {
      index,
      error: { sentences: sentences.map((one) => (one.startsWith(path) ? one : `${path}: ${one}`)), code },
    };
  }
}

/** Answers every job with what came of it, until the port is closed. */
export function serve(): void {
  // eslint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port, not a window
  parentPort?.on('message', (job: Job) => parentPort?.postMessage(runJob(job)));
}
