/**
 * The long runs: `npm run soak [-- --seed N] [--seconds N] [--only NAME]`. Every run is a function of its seed; a failure
 * prints the seed that shows it again. The last line counts them.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Progress } from '#cmd/progress';
import { memoryStorage } from '#devices/backends/storage/memory';
import { bundledGuest } from '#guest-images/bundled';
import { makeDiskImage } from '#guest-images/disk-image';
import { guestImages } from '#guest-images/manifest';
import { fuzzExerciser } from '#test/fuzz/exerciser';
import { fuzzHotPlug } from '#test/fuzz/hot-plug';
import { fuzzIommufd } from '#test/fuzz/iommufd';
import { fuzzNic } from '#test/fuzz/nic';
import { fuzzNvme } from '#test/fuzz/nvme';
import { fuzzPci } from '#test/fuzz/pci';
import { fuzzPri } from '#test/fuzz/pri';
import { fuzzSva } from '#test/fuzz/sva';
import { compared, missingQemu } from '#test/vmm/cpu/riscv/qemu-user';
import { missingSystemQemu, systemTorture } from '#test/vmm/cpu/riscv/system-torture';
import { torture } from '#test/vmm/cpu/riscv/torture';
import { cases, resumedDifference, wholeRun } from '#test/vmm/machine/snapshots';
import { everything, lockstep } from '#test/vmm/machine/lockstep';
import { parseConfig } from '#vmm/config/parse';
import { Machine } from '#vmm/machine/machine';

const mostInstructions = 3e9;
const sliceInstructions = 5e6;
/** Hostile guests of one run: each is a machine of its own. */
const mostGuests = 40;
/** Of the wall clock, for one hostile guest, which takes a second or two. */
const longestGuestMs = 60_000;
const lastLines = (text: string): string => text.trimEnd().split('\n').slice(-3).join(' / ');

/** Seeds of the `hostile` guest, each a whole machine that must live and then work properly. */
const hostileGuest = (seed: number, milliseconds: number): { guests: number } => {
  const image = readFileSync('guest-images/images/hostile.elf');
  const end = Date.now() + milliseconds;
  let guests = 0;
  for (let at = seed; guests === 0 || (guests < mostGuests && Date.now() < end); at++, guests++) {
    const config = parseConfig({ disks: [{ path: 'memory' }], nics: [{}, {}], append: `seed=${at}` });
    if (!config.ok) throw new Error('the soak has a wrong configuration');
    let text = '';
    const machine = Machine.create(config.config, {
      image,
      openDisk: () => memoryStorage(makeDiskImage(1)),
      console: (bytes) => {
        text += new TextDecoder().decode(bytes);
      },
    });
    // In slices: what loops in traps or registers is slow, and must not hold the soak up.
    const deadline = Date.now() + longestGuestMs;
    let left = mostInstructions;
    let { outcome } = machine.run({ instructions: sliceInstructions });
    while (outcome === 'limit' && (left -= sliceInstructions) > 0 && Date.now() < deadline)
      ({ outcome } = machine.run({ instructions: sliceInstructions }));
    if (outcome === 'limit') throw new Error(`append seed=${at}: it never ends: ${lastLines(text)}`);
    if (outcome !== 'passed') throw new Error(`append seed=${at}: ${outcome}: ${lastLines(text)}`);
    machine.close();
    if (machine.host.kernel.physical.pinned !== 0) throw new Error(`append seed=${at}: pages stayed pinned`);
  }
  return { guests };
};

/** Random programs on our hart in both tiers and on QEMU's, 10⁷ instructions at least: some two minutes. */
const tortureHart = (seed: number, milliseconds: number): object => {
  if (missingQemu !== undefined) return { skipped: missingQemu };
  const end = Date.now() + milliseconds;
  let [programs, instructions] = [0, 0];
  for (; instructions < 1e7 || Date.now() < end; programs++) {
    const run = torture(seed + programs, { length: 1000, turns: 40 });
    if (run.difference !== undefined) throw new Error(`--seed ${seed + programs}: ${run.difference}`);
    instructions += run.instructions;
  }
  return { programs, instructions, [`extensions: ${compared.join(' ')}`]: compared.length };
};

/** Random machine-mode programs, which trap for every reason, on our hart in both tiers and on QEMU's. */
const tortureSystem = (seed: number, milliseconds: number): object => {
  if (missingSystemQemu !== undefined) return { skipped: missingSystemQemu };
  const end = Date.now() + milliseconds;
  let [programs, instructions, traps] = [0, 0, 0];
  for (; instructions < 1e7 || Date.now() < end; programs++) {
    const run = systemTorture(seed + programs, { units: 60, turns: 6 });
    if (run.difference !== undefined) throw new Error(`--seed ${seed + programs}: ${run.difference}`);
    instructions += run.instructions;
    traps += run.traps;
  }
  return { programs, instructions, traps };
};

/** Every bundled guest, to its end or for 6·10⁷ instructions: two minutes at most. */
const lockstepGuests = (seed: number): object => {
  let [guests, instructions, stops] = [0, 0, 0];
  for (const { name } of guestImages) {
    try {
      const options = { seed, stride: 1e6, mostInstructions: 6e7, memoryEvery: 10 };
      const run = lockstep({ ...everything, smp: name === 'smp' ? 4 : 1 }, { image: bundledGuest(name) }, options);
      instructions += run.instructions;
      stops += run.stops;
      guests++;
    } catch (error) {
      throw new Error(`${name}: the tiers differ`, { cause: error });
    }
  }
  return { guests, instructions, stops };
};

/** Machines saved at random instructions and events, each against the run that was left alone. */
const savedMachines = (seed: number, milliseconds: number): object => {
  const end = Date.now() + milliseconds;
  let state = seed | 1;
  // xorshift32
  const below = (limit: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
  let [machines, snapshots] = [0, 0];
  for (; machines === 0 || Date.now() < end; machines++) {
    const names = Object.keys(cases) as (keyof typeof cases)[];
    const name = names[below(names.length)]!;
    const whole = wholeRun(cases[name]);
    for (let i = 0; i < 4 && (i === 0 || Date.now() < end); i++, snapshots++) {
      const point =
        i % 2 === 0
          ? { event: 1 + below(Math.max(1, whole.run.lines.length)) }
          : { instructions: below(whole.run.machine.instructions) };
      const found = resumedDifference(cases[name], point, whole);
      if (found !== undefined) throw new Error(`${name} at ${JSON.stringify(point)}: ${found}`);
    }
  }
  return { machines, snapshots };
};

/** Name → what runs for a seed and about so many milliseconds; the counts it returns are printed. */
const runs: Readonly<Record<string, (seed: number, milliseconds: number) => object>> = {
  nvme: fuzzNvme,
  nic: fuzzNic,
  exerciser: fuzzExerciser,
  pci: fuzzPci,
  pri: fuzzPri,
  'hot-plug': fuzzHotPlug,
  sva: fuzzSva,
  iommufd: fuzzIommufd,
  'hostile-guest': hostileGuest,
  torture: tortureHart,
  snapshot: savedMachines,
  'system-torture': tortureSystem,
  lockstep: lockstepGuests,
};

const { values } = parseArgs({
  options: { seed: { type: 'string' }, seconds: { type: 'string' }, only: { type: 'string' } },
});
const seed = Number(values.seed ?? 1);
const seconds = Number(values.seconds ?? 40);
const chosen = Object.entries(runs).filter(([name]) => values.only === undefined || name === values.only);
if (!Number.isInteger(seed) || !(seconds > 0) || chosen.length === 0) {
  process.stderr.write(
    `expected --seed (a whole number), --seconds (above 0), --only (one of ${Object.keys(runs).join(', ')})\n`,
  );
  process.exit(2);
}
let failed = 0;
const progress = new Progress('soak');
for (const [i, [name, run]] of chosen.entries()) {
  const start = Date.now();
  progress.announce(`${i + 1} of ${chosen.length}, ${name}, about ${seconds} s`);
  try {
    const counts = Object.entries(run(seed, seconds * 1000))
      .filter(([key, value]) => typeof value === 'number' || key === 'skipped')
      .map(([key, value]) => (key === 'skipped' ? `skipped: ${String(value)}` : `${String(value)} ${key}`));
    progress.end();
    process.stdout.write(
      `${name}: seed ${seed}, ${((Date.now() - start) / 1000).toFixed(1)} s: ${counts.join(', ')}\n`,
    );
  } catch (error) {
    failed++;
    progress.end();
    process.stdout.write(
      `${name}: FAILED with --seed ${seed}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    );
  }
}
process.stdout.write(`soak: ${chosen.length - failed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
