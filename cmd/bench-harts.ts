/** The kernels of the guest `bench-cpu`, here and on QEMU's TCG where it is installed: the same file, in turn. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadGuest } from './guests.ts';
import { median } from './median.ts';

/** Of the usual work, thousandths; and how often everything is run. */
const scale = 300;
const rounds = 3;
const append = `scale=${scale}`;
const qemu = 'qemu-system-riscv64';

interface Timed {
  readonly name: string;
  readonly seconds: number;
}
interface Rate {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
}

/** Wall seconds between the `begin` and `end` lines of a guest, as they arrive. */
function stopwatch(ended: (fields: ReadonlyMap<string, string>, seconds: number) => void): (text: string) => void {
  let rest = '';
  let begin = 0;
  return (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop()!;
    for (const line of lines.filter((one) => one.startsWith('bench: '))) {
      const fields = new Map([...line.matchAll(/(\w+)=(\S+)/g)].map((match) => [match[1]!, match[2]!] as const));
      if (fields.get('event') === 'begin') begin = performance.now();
      else ended(fields, (performance.now() - begin) / 1000);
    }
  };
}

/** Each kernel's time on QEMU's `virt`; empty where that QEMU does not run the guest. */
async function timeOnQemu(): Promise<readonly Timed[]> {
  const folder = mkdtempSync(join(tmpdir(), 'iommulab-bench-'));
  const image = join(folder, 'bench-cpu.elf');
  writeFileSync(image, loadGuest({ image: 'bench-cpu' }));
  const timed: Timed[] = [];
  const machine = ['-machine', 'virt,aia=aplic-imsic', '-m', '128M', '-display', 'none', '-serial', 'stdio'];
  const child = spawn(qemu, [...machine, '-monitor', 'none', '-kernel', image, '-append', append], {
    stdio: ['ignore', 'pipe', 'ignore'],
    timeout: 120_000,
  });
  const hear = stopwatch((fields, seconds) => timed.push({ name: fields.get('name') ?? '', seconds }));
  child.stdout.setEncoding('utf8').on('data', hear);
  await new Promise<void>((resolve) => {
    child.on('error', () => resolve());
    child.on('close', () => resolve());
  });
  rmSync(folder, { recursive: true, force: true });
  return timed;
}

/** Runs a bundled guest here: the fields of each `end` line, with the wall seconds since its `begin`. */
type RunGuest = (
  image: string,
  append: string,
  disk: boolean,
) => Promise<readonly (readonly [ReadonlyMap<string, string>, number, ...unknown[]])[]>;

/** Medians of each kernel: millions of instructions a second, and speed as a multiple of QEMU's. */
export async function hartRates(runGuest: RunGuest): Promise<readonly Rate[]> {
  const hasQemu = spawnSync(qemu, ['--version']).status === 0;
  const ours = new Map<string, { mips: number[]; seconds: number[] }>();
  const theirs = new Map<string, number[]>();
  for (let round = 0; round < rounds; round++) {
    for (const [fields, seconds] of await runGuest('bench-cpu', append, false)) {
      const name = fields.get('name') ?? '';
      const row = ours.get(name) ?? { mips: [], seconds: [] };
      row.mips.push(Number(fields.get('instructions')) / seconds / 1e6);
      row.seconds.push(seconds);
      ours.set(name, row);
    }
    if (!hasQemu) continue;
    for (const { name, seconds } of await timeOnQemu()) theirs.set(name, [...(theirs.get(name) ?? []), seconds]);
  }
  return [...ours].flatMap(([name, { mips, seconds }]) => {
    const there = theirs.get(name);
    return [
      { name: `hart: kernel ${name}`, value: median(mips), unit: 'MIPS' },
      ...(there ? [{ name: `hart: kernel ${name}`, value: median(there) / median(seconds), unit: '× QEMU TCG' }] : []),
    ];
  });
}
