/** Random machine-mode programs on both tiers of our hart and on Debian's qemu-system-riscv64. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ramBase } from './assembler.ts';
import { elfFile } from './elf-file.ts';
import { guestBytes, readLog, type SystemOptions, type SystemProgram, systemProgram } from './system-program.ts';
import { randomFrom } from './torture-program.ts';
import { Twins } from './twins.ts';

const qemu = 'qemu-system-riscv64';
const uart = 0x1000_0000;
const finisher = 0x10_0000;
/** Programs take a second there, most of it to start. */
const longestMs = 60_000;
const mostSlices = 10_000;
/** Without the hypervisor extension, whose bits of mstatus and of medeleg we do not have. */
const cpu = 'rv64,h=false';
/** With one hart alone QEMU 7.2 makes a load and a store of an AMO, and calls its faults those of a load. */
const harts = '2';

const onQemu = ({ memory }: SystemProgram): Uint8Array => {
  const folder = mkdtempSync(join(tmpdir(), 'torture-'));
  try {
    const [program, sent] = [join(folder, 'program'), join(folder, 'sent')];
    writeFileSync(program, elfFile(memory, ramBase));
    const machine = ['-M', 'virt', '-cpu', cpu, '-m', '32M', '-smp', harts, '-bios', 'none', '-nographic', '-monitor', 'none', '-no-reboot']; // prettier-ignore
    const { status, stderr } = spawnSync(qemu, [...machine, '-serial', `file:${sent}`, '-kernel', program], { timeout: longestMs }); // prettier-ignore
    if (status !== 0) throw new Error(`${qemu} ended with ${status}: ${stderr.toString()}`);
    return readFileSync(sent);
  } finally {
    rmSync(folder, { recursive: true });
  }
};
const version = /version (\d+)/.exec(String(spawnSync(qemu, ['--version']).stdout))?.[1];
/** What it does otherwise than the specification, or as it likes, is known of one version. */
const known = '7';
/** Why nothing can be compared; undefined where it can. */
export const missingSystemQemu =
  version === known ? undefined : `${qemu} is ${version === undefined ? 'not installed' : `${version}, not ${known}`}`;

let pair: Twins | undefined;
let sent: number[][] = [];
let turn = 0;
let ended: number[] = [];
/** In the same slices, which differ from seed to seed. */
const onOurs = ({ memory }: SystemProgram, seed: number): { readonly bytes: Uint8Array; readonly instructions: number } => {
  pair ??= new Twins({
    entryMode: 'm',
    guestBytes,
    bus: {
      read: (address) => (address === uart + 5 ? 0x60 : undefined),
      write: (address, _, value) => {
        if (address === uart) sent[turn]!.push(Number(value) & 0xff);
        if (address === finisher) ended.push(turn);
        return address === uart || address === finisher;
      },
    },
  });
  const twins = pair;
  sent = [[], []];
  twins.reset(ramBase, (hart) => {
    // QEMU 7.2 updates A and D itself.
    hart.setCsr('menvcfg', 1n << 61n);
  });
  twins.write(0, memory);
  const random = randomFrom(seed ^ 0x1212);
  const before = twins.harts[0].instret;
  ended = [];
  for (let i = 0; i < mostSlices && ended.length < 2; i++) {
    const budget = 1 + random([30, 600, 6000][random(3)]!);
    twins.run(budget, (index) => (turn = index));
  }
  if (ended.length < 2) throw new Error('it never ends');
  twins.compare();
  if (Buffer.compare(Buffer.from(sent[0]!), Buffer.from(sent[1]!)) !== 0) throw new Error('the tiers sent other bytes');
  return { bytes: Uint8Array.from(sent[0]!), instructions: twins.harts[0].instret - before };
}; // prettier-ignore

export interface SystemTorture {
  readonly instructions: number;
  readonly traps: number;
  /** By cause: how often. */
  readonly causes: ReadonlyMap<string, number>;
  readonly difference: string | undefined;
}

const firstDifference = (ours: Uint8Array, theirs: Uint8Array): string | undefined => {
  if (Buffer.compare(ours, theirs) === 0) return undefined;
  const [a, b] = [readLog(ours), readLog(theirs)];
  const at = a.entries.findIndex((entry, i) => entry !== b.entries[i]);
  if (at >= 0 || a.entries.length !== b.entries.length) {
    const place = at < 0 ? a.entries.length : at;
    return `of ${a.entries.length} traps, QEMU ${b.entries.length}, number ${place}: ${a.entries[place]}; QEMU ${b.entries[place]}; before it ${a.entries[place - 1]}`;
  }
  const byte = a.tables.findIndex((one, i) => one !== b.tables[i]) & ~7;
  const entry = (tables: Uint8Array): string => new DataView(tables.buffer, tables.byteOffset).getBigUint64(byte, true).toString(16); // prettier-ignore
  return `tables at ${byte.toString(16)}: ${entry(a.tables)}, QEMU ${entry(b.tables)}`;
};

/** Runs the program of a seed on all three; a failing one again with fewer and fewer units. */
export const systemTorture = (seed: number, options: SystemOptions): SystemTorture => {
  const compare = (some: SystemOptions): SystemTorture => {
    const program = systemProgram(seed, some);
    try {
      const { bytes, instructions } = onOurs(program, seed);
      const causes = new Map<string, number>();
      const { entries } = readLog(bytes);
      for (const entry of entries) {
        const cause = entry.split(' ')[1]!;
        causes.set(cause, (causes.get(cause) ?? 0) + 1);
      }
      return { instructions, traps: entries.length, causes, difference: firstDifference(bytes, onQemu(program)) };
    } catch (error) {
      return { instructions: 0, traps: 0, causes: new Map(), difference: String(error) };
    }
  };
  const whole = compare(options);
  if (whole.difference === undefined) return whole;
  // Units come one after the other out of the seed: the first ones are the same.
  let [good, bad] = [0, options.units];
  let last = whole.difference;
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    const { difference } = compare({ ...options, units: middle });
    if (difference === undefined) good = middle;
    else [bad, last] = [middle, difference];
  }
  const once = compare({ units: bad, turns: 1 });
  const turns = once.difference === undefined ? options.turns : 1;
  return { ...whole, difference: `seed ${seed}, ${bad} units, ${turns} turns: ${once.difference ?? last}` };
};
