/**
 * The kernels of the guest `bench-cpu`, here and on QEMU's TCG where it is installed: the same file, in turn. Each is
 * run short and long: the long run is all there is to it, warm-up included, and what it takes more than the short one
 * is speed after warm-up.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MachineConfigInput } from '#vmm/config/schema';
import { loadGuest } from './guests.ts';
import { median } from './median.ts';

/** Of the usual work, thousandths: the short run, and the long one; and how often all is done. */
const scales = [2000, 10_000] as const;
const rounds = 3;
const qemu = 'qemu-system-riscv64';
/** Kernels that compute with integers for long: their mean is what counts. */
const longInteger = ['int', 'state', 'call', 'sieve', 'copy', 'chase'];

interface Rate {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly target?: string;
}
/** Of one kernel: instructions as our guest counts them, and seconds. */
interface Timed {
  readonly instructions: number;
  readonly seconds: number;
}
type Kernels = ReadonlyMap<string, Timed>;

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

/** Each kernel on QEMU's `virt`; empty where that QEMU does not run the guest. */
async function onQemu(scale: number): Promise<Kernels> {
  const folder = mkdtempSync(join(tmpdir(), 'iommulab-bench-'));
  const image = join(folder, 'bench-cpu.elf');
  writeFileSync(image, loadGuest({ image: 'bench-cpu' }));
  const timed = new Map<string, Timed>();
  const machine = ['-machine', 'virt,aia=aplic-imsic', '-m', '128M', '-display', 'none', '-serial', 'stdio'];
  const child = spawn(qemu, [...machine, '-monitor', 'none', '-kernel', image, '-append', `scale=${scale}`], {
    stdio: ['ignore', 'pipe', 'ignore'],
    timeout: 120_000,
  });
  const hear = stopwatch((fields, seconds) => timed.set(fields.get('name') ?? '', { instructions: 0, seconds }));
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
  more?: MachineConfigInput,
) => Promise<readonly (readonly [ReadonlyMap<string, string>, number, ...unknown[]])[]>;

const here = async (runGuest: RunGuest, scale: number, more?: MachineConfigInput): Promise<Kernels> =>
  new Map(
    (await runGuest('bench-cpu', `scale=${scale}`, false, more)).map(([fields, seconds]) => [
      fields.get('name') ?? '',
      { instructions: Number(fields.get('instructions')), seconds },
    ]),
  );

/** What the long run takes more than the short one, round by round; medians. */
const warm = (short: readonly Kernels[], long: readonly Kernels[], name: string): Timed => ({
  instructions: long[0]!.get(name)!.instructions - short[0]!.get(name)!.instructions,
  seconds: median(long.map((kernels, i) => kernels.get(name)!.seconds - short[i]!.get(name)!.seconds)),
});
const geometricMean = (values: readonly number[]): number =>
  Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);

/** Millions of instructions a second after warm-up, and multiples of QEMU's speed: medians. */
export async function hartRates(runGuest: RunGuest): Promise<readonly Rate[]> {
  const hasQemu = spawnSync(qemu, ['--version']).status === 0;
  const ours: readonly [Kernels[], Kernels[]] = [[], []];
  const theirs: readonly [Kernels[], Kernels[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    for (const [i, scale] of scales.entries()) {
      ours[i]!.push(await here(runGuest, scale));
      if (hasQemu) theirs[i]!.push(await onQemu(scale));
    }
  }
  const cold = (kernels: readonly Kernels[], name: string): number =>
    median(kernels.map((one) => one.get(name)!.seconds));
  const isThere = theirs[0].length > 0 && theirs.every((runs) => runs.every((run) => run.size === ours[0][0]!.size));
  const names = [...ours[0][0]!.keys()];
  const ratios = names.map((name) => ({
    name,
    whole: isThere ? cold(theirs[1], name) / cold(ours[1], name) : NaN,
    warm: isThere ? warm(...theirs, name).seconds / warm(...ours, name).seconds : NaN,
  }));
  const rows = names.flatMap((name, i): Rate[] => {
    const { instructions, seconds } = warm(...ours, name);
    const rate = { name: `hart: kernel ${name}`, value: instructions / seconds / 1e6, unit: 'MIPS' };
    if (!isThere) return [rate];
    return [
      rate,
      { name: `hart: kernel ${name}, warm`, value: ratios[i]!.warm, unit: '× QEMU TCG', target: '≥ 0.5' },
      { name: `hart: kernel ${name}, whole run`, value: ratios[i]!.whole, unit: '× QEMU TCG' },
    ];
  });
  if (!isThere) return rows;
  const long = ratios.filter(({ name }) => longInteger.includes(name));
  const mean = 'hart: kernels, mean of the long integer ones';
  return [
    ...rows,
    { name: `${mean}, warm`, value: geometricMean(long.map((one) => one.warm)), unit: '× QEMU TCG', target: '≥ 1' },
    { name: `${mean}, whole run`, value: geometricMean(long.map((one) => one.whole)), unit: '× QEMU TCG', target: '≥ 0.7' }, // prettier-ignore
  ];
}
