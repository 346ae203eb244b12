/**
 * Random programs on our hart, interpreted and translated, and on Debian's qemu-riscv64: registers, flags, memory, and
 * between our tiers counters too, must agree. A failing program is made smaller and printed.
 */
import { expand } from '#vmm/cpu/riscv/compressed';
import { lookUpInstruction } from '#vmm/cpu/riscv/decoder';
import { decodeOperands } from '#vmm/cpu/riscv/encoding';
import { type Board, board, ramBase } from './assembler.ts';
import { compared, isCtzwRight, runOnQemu } from './qemu-user.ts';
import { buffer, dumpF, dumpFcsr, dumpX, type Halves, makeProgram, pageBytes, type Program, type Random, randomFrom, rowsOf, type Unit, without } from './torture-program.ts'; // prettier-ignore
import { registersOf, stateDifferences, stateOf } from './twins.ts';

const rows = rowsOf(compared, (name) => name === 'ctzw' && !isCtzwRight);

const load = (program: Program, { group, hart }: Board): void => {
  const { bytes, guestBase } = group.memory;
  bytes.fill(0, guestBase, guestBase + buffer + program.bufferBytes);
  bytes.set(new Uint8Array(program.code.buffer), guestBase);
  bytes.set(new Uint8Array(program.page.buffer), guestBase + buffer);
  hart.reset(ramBase, 0, 0);
  hart.setCsr('mstatus', hart.csr('mstatus')! | 0x2000n);
};

/** Instructions of a slice: few, so that many end in the middle of things, or many, so that code becomes hot. */
const sliceOf = (random: Random): number => 1 + random([4, 50, 400, 3000][random(4)]!);

interface Outcome {
  readonly bytes: Uint8Array;
  readonly instructions: number;
  /** Between our tiers. */
  readonly difference: string | undefined;
}
/** Both tiers in the same slices, which differ from seed to seed. */
const onOurs = (program: Program, seed: number): Outcome => {
  const [interpreted, translated] = [0, 1].map((translateAfter) => board({ entryMode: 's', translateAfter })) as [Board, Board]; // prettier-ignore
  const both = [interpreted, translated];
  for (const one of both) load(program, one);
  const end = BigInt(ramBase + program.end);
  const random = randomFrom(seed ^ 0x3333);
  let difference: string | undefined;
  while (
    difference === undefined &&
    interpreted.hart.pc !== end &&
    interpreted.hart.instret < program.mostInstructions
  ) {
    const budget = sliceOf(random);
    for (const { hart } of both) hart.run(budget);
    if (registersOf(interpreted.hart) !== registersOf(translated.hart)) {
      const found = stateDifferences(stateOf(interpreted.hart), stateOf(translated.hart));
      difference = `at instruction ${interpreted.hart.instret}: ${found.slice(0, 8).join('; ')}`;
    }
  }
  const [a, b] = both.map(({ group: { memory } }) => memory.bytes.subarray(memory.guestBase)) as [Uint8Array, Uint8Array]; // prettier-ignore
  if (difference === undefined) {
    const found = stateDifferences(stateOf(interpreted.hart), stateOf(translated.hart));
    if (Buffer.compare(a, b) !== 0) found.push(`memory at ${a.findIndex((byte, i) => byte !== b[i]).toString(16)}`);
    if (found.length > 0) difference = `at the end: ${found.slice(0, 8).join('; ')}`;
    else if (interpreted.hart.pc !== end) difference = `it ended at ${interpreted.hart.pc.toString(16)} instead of ${end.toString(16)}`; // prettier-ignore
  }
  return {
    bytes: a.slice(buffer, buffer + program.bufferBytes),
    instructions: interpreted.hart.instret,
    difference,
  };
};

const onQemu = ({ code, page, bufferBytes }: Program): Uint8Array => {
  const memory = new Uint8Array(buffer + bufferBytes);
  memory.set(new Uint8Array(code.buffer));
  memory.set(new Uint8Array(page.buffer), buffer);
  return runOnQemu(memory, bufferBytes);
};

/** What differs, by name. */
const differences = (ours: Uint8Array, theirs: Uint8Array): string[] => {
  if (ours.length !== theirs.length) return [`QEMU wrote ${theirs.length} bytes instead of ${ours.length}`];
  const [a, b] = [ours, theirs].map((bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  const out: string[] = [];
  for (let at = 0; at < ours.length && out.length < 8; at += 8) {
    const [x, y] = [a!.getBigUint64(at, true), b!.getBigUint64(at, true)];
    if (x === y) continue;
    const from = at - pageBytes / 2;
    const name =
      at >= 2 * pageBytes ? `result ${(at - 2 * pageBytes) / 8}`
        : from > dumpFcsr || from < dumpX ? `memory ${at}`
        : from === dumpFcsr ? 'fcsr'
        : from >= dumpF ? `f${(from - dumpF) / 8}` : `x${(from - dumpX) / 8}`; // prettier-ignore
    out.push(`${name}: ${x.toString(16)}, QEMU ${y.toString(16)}`);
  }
  return out;
};

/** Why a program fails, or undefined. */
const failure = (program: Program, seed: number): { readonly instructions: number; readonly why: string | undefined } => {
  const { bytes, instructions, difference } = onOurs(program, seed);
  if (difference !== undefined) return { instructions, why: difference };
  const found = differences(bytes, onQemu(program));
  return { instructions, why: found.length > 0 ? found.join('; ') : undefined };
}; // prettier-ignore

/** Trials of the minimiser. */
const mostTrials = 200;
/** Units that are not needed for a difference are left out, in ever smaller pieces of what is left. */
const minimise = (whole: Program, fails: (program: Program) => boolean): readonly Unit[] => {
  let kept = whole.units;
  let trials = 0;
  for (let size = Math.ceil(kept.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let from = 0; from < kept.length && trials < mostTrials; trials++) {
      const trial = [...kept.slice(0, from), ...kept.slice(from + size)];
      const stays = new Set(trial);
      if (fails(without(whole, new Set(whole.units.filter((unit) => !stays.has(unit)))))) kept = trial;
      else from += size;
    }
  }
  return kept;
};

/** Instructions one a line, as far as the table knows them. */
const listing = (at: number, code: Halves): string[] => {
  const out: string[] = [];
  for (let i = 0; i < code.length;) {
    const place = (ramBase + at + 2 * i).toString(16);
    const half = code[i]!;
    const isShort = (half & 3) !== 3;
    const word = isShort ? half : (half | ((code[i + 1] ?? 0) << 16)) >>> 0;
    const found = isShort ? expand(half) : undefined;
    const row = isShort ? undefined : lookUpInstruction(word);
    const name = found?.row.name ?? row?.name ?? '?';
    const operands = found?.operands ?? (row && decodeOperands(row.encoding, word)) ?? {};
    const text = Object.entries(operands).map(([key, value]) => `${key}=${value}`);
    out.push(`  ${place}  ${word.toString(16).padStart(isShort ? 4 : 8, '0')}  ${name} ${text.join(' ')}`);
    i += isShort ? 1 : 2;
  }
  return out;
};

export interface TortureOptions {
  /** Words of the body, and how often it is run through. */
  readonly length: number;
  readonly turns: number;
}

/** Runs the program of a seed on all three. What differs, with the smallest program found that shows it, or nothing. */
export const torture = (
  seed: number,
  { length, turns }: TortureOptions,
): { readonly instructions: number; readonly difference: string | undefined } => {
  const whole = makeProgram(seed, { length, turns, rows });
  const { instructions, why } = failure(whole, seed);
  if (why === undefined) return { instructions, difference: undefined };
  const fails = (program: Program): boolean => {
    try {
      return failure(program, seed).why !== undefined;
    } catch {
      // QEMU does not end it: another failure than the one that is looked for.
      return false;
    }
  };
  const kept = minimise(whole, fails);
  const stays = new Set(kept);
  const small = without(whole, new Set(whole.units.filter((unit) => !stays.has(unit))));
  const lines = kept.flatMap((unit) => [`${unit.kind}:`, ...listing(unit.at, unit.code)]);
  return {
    instructions,
    difference: `seed ${seed}, ${length} words, ${turns} turns: ${failure(small, seed).why}\n${lines.join('\n')}`,
  };
};
