/** What a snapshot costs: its size, saving it, and taking the machine up again, here and in a process of its own. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeDiskImage } from '#guest-images/disk-image';
import { Machine } from '#vmm/machine/machine';
import { CommandError } from './exit.ts';
import { linuxRecord } from './linux-record.ts';
import { median } from './median.ts';
import { readSnapshot, saveSnapshot } from './snapshot-file.ts';
import { openDisk } from './storage.ts';

interface Measured {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly target?: string;
}

const rounds = 5;

/** Others on the machine disturb the wall clock more. */
const cpuMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

/** This program again, in the way in which it was started: milliseconds. */
function timed(args: readonly string[], code: number): number {
  const start = performance.now();
  const { status, stderr } = spawnSync(process.execPath, [...process.execArgv, process.argv[1]!, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  });
  if (status !== code) throw new CommandError('failed', `${args.join(' ')}: ${stderr.trimEnd()}`);
  return performance.now() - start;
}

/** A machine that `run` saves at a point. */
function measure(what: string, folder: string, args: readonly string[], point: string): Measured[] {
  const file = join(folder, 'snapshot');
  timed(['run', ...args, '--snapshot-at', point, '--snapshot-to', file], 0);
  const [saves, resumes, processes]: [number[], number[], number[]] = [[], [], []];
  let bytes = 0;
  for (let i = 0; i < rounds; i++) {
    const start = cpuMs();
    const { snapshot, guest, config } = readSnapshot(file);
    const machine = Machine.resume(snapshot, { config, openDisk, console: () => {} });
    const resumed = cpuMs();
    ({ bytes } = saveSnapshot(machine, guest, join(folder, 'again')));
    saves.push(cpuMs() - resumed);
    resumes.push(resumed - start);
    machine.close();
    // The limit of one instruction ends it with exit code 4.
    processes.push(timed(['resume', file, '--max-instructions', '1'], 4));
  }
  const name = `snapshot: ${what}`;
  return [
    { name, value: bytes / 1e6, unit: 'MB' },
    { name: `${name}, save`, value: median(saves), unit: 'ms of CPU time' },
    { name: `${name}, resume`, value: median(resumes), unit: 'ms of CPU time' },
    { name: `${name}, iommulab resume as a whole`, value: median(processes), unit: 'ms', target: '< 2 000' },
  ];
}

/** The guest `dma` in the middle of its work, and a small Linux at its shell where one is there. */
export function snapshotCosts(): Measured[] {
  const folder = mkdtempSync(join(tmpdir(), 'iommulab-bench-'));
  try {
    const disk = join(folder, 'disk.img');
    writeFileSync(disk, makeDiskImage(1));
    const overlaid = ['--disk', `${disk},overlay`];
    const rows = measure('dma', folder, ['dma', ...overlaid, '--nic', 'hub', '--nic', 'hub'], 'event:iommu.fault');
    const kernel = process.env['IOMMULAB_LINUX_IMAGE'];
    const made = linuxRecord();
    if (kernel === undefined || !made) return rows;
    const linux = ['--kernel', kernel, '--initrd', made.plainInitrd, ...overlaid, '--nic', 'hub', '--memory', '512M'];
    return [...rows, ...measure('booted Linux', folder, linux, 'console:guest# ')];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
