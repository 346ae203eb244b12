/**
 * Random programs on our hart and on Debian's qemu-riscv64: registers, flags and memory must agree. Straight-line code
 * that logs what instructions compute; a program is a function of its seed and length.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { invariant } from '#vmm/base/invariant';
import { expand } from '#vmm/cpu/riscv/compressed';
import { encodeOperands, type Operands } from '#vmm/cpu/riscv/encoding';
import { type Instruction, instructions } from '#vmm/cpu/riscv/instructions';
import { board, li, li64, op, ramBase, spin } from './assembler.ts';

const qemu = 'qemu-riscv64';
/** Offset into RAM, behind the code: a page that programs load from and store to, with the final registers; then a log. */
const buffer = 0x10_0000;
const pageBytes = 4096;
/** Words of a body at most. */
export const longest = 200_000;
/** x5 points to the page's middle, x2 to its start, x6 to where atomics go, x3 behind the log; all left alone. */
const [middle, start, atomic, log] = [5, 2, 6, 3];
const reserved = new Set([0, middle, start, atomic, log]);
const dumpX = 1024;
const dumpF = dumpX + 32 * 8;
const dumpFcsr = dumpF + 32 * 8;

/** xorshift: the program is a function of its seed. */
const randomFrom = (seed: number): ((below: number) => number) => {
  let state = (seed * 2_654_435_761 + 1) >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
};

const special = [0n, 1n, -1n, 1n << 63n, (1n << 63n) - 1n, 0x7ff0_0000_0000_0000n, 0xfff0_0000_0000_0001n, 0x7ff8_0000_0000_0000n, 1n << 52n, 0x3ff0_0000_0000_0000n, 0xffff_ffff_3f80_0000n, 0xffff_ffff_7f80_0001n, 0xffff_ffff_0000_0001n, 0xffff_ffff_7f7f_ffffn, 0xffff_ffff_8000_0000n, 0x8000_0000n, 0x7fff_ffffn]; // prettier-ignore

const instruction = (row: Instruction, random: (below: number) => number): number[] => {
  const register = (): number => random(32);
  const target = (): number => {
    for (;;) {
      const rd = random(32);
      if (row.encoding.isFloatRd || !reserved.has(rd) || rd === 0) return rd;
    }
  };
  const out: Record<string, number> = {};
  for (const { operand } of row.encoding.pieces) {
    if (operand === 'rd') out.rd = target();
    else if (operand === 'rm') out.rm = [0, 1, 2, 3, 4, 7, 7, 7][random(8)]!;
    else if (operand === 'imm') out.imm = random(2 ** 31) | 0;
    else out[operand] = register();
  }
  if (row.format === 'relative') return [encodeOperands(row.encoding, { ...out, imm: 8 }), op('addi', { rd: 7, rs1: 7, imm: 1 })]; // prettier-ignore
  const isMemory = /^(l[bhwd]u?|s[bhwd]|fl[wd]|fs[wd])$/.test(row.name);
  if (isMemory) return [encodeOperands(row.encoding, { ...out, rs1: middle, imm: random(2000) - 1000 })];
  if (row.extension === 'A' || row.extension === 'Zicboz')
    return [encodeOperands(row.encoding, { ...out, rs1: atomic })];
  const isFloat = row.extension === 'F' || row.extension === 'D';
  if (!isFloat) return [encodeOperands(row.encoding, out), ...logged(op('sd', { rs1: log, rs2: out.rd! }))];
  // Fresh operands, or results would soon be nothing but NaNs; and the flags of this instruction alone.
  const fresh = (['rs1', 'rs2', 'rs3'] as const)
    .filter((operand) => out[operand] !== undefined && random(2) === 0)
    .map((operand) => op('fld', { rd: out[operand]!, rs1: middle, imm: 8 * random(130) - 2048 }));
  const result = op(row.encoding.isFloatRd ? 'fsd' : 'sd', { rs1: log, rs2: out.rd! });
  const flags = [op('csrrci', { rd: 7, csr: 'fflags', imm: 31 }), ...logged(op('sd', { rs1: log, rs2: 7 }))];
  return [...fresh, encodeOperands(row.encoding, out), ...logged(result), ...(random(2) ? flags : [])];
};
const logged = (store: number): number[] => [store, op('addi', { rd: log, rs1: log, imm: 8 })];

/** Pairs of compressed instructions that neither jump nor touch memory elsewhere. */
const short = (random: (below: number) => number): number => {
  for (;;) {
    const half = random(0x10000);
    const found = (half & 3) === 3 ? undefined : expand(half);
    if (!found || ['jal', 'jalr', 'beq', 'bne', 'ebreak'].includes(found.row.expands)) continue;
    const { rd, rs1 }: Operands = found.operands;
    const isMemory = /^[fls]/.test(found.row.expands) && !/^(s[lru]|sub)/.test(found.row.expands);
    if (isMemory && rs1 !== start) continue;
    if (rd !== undefined && !found.row.expands.startsWith('f') && reserved.has(rd) && rd !== 0) continue;
    return half;
  }
};

interface Program {
  readonly words: readonly number[];
  /** The body: what may be left out. */
  readonly first: number;
  readonly last: number;
  /** Of the page and the log: every two words of the body log eight bytes at most. */
  readonly bufferBytes: number;
  /** What the page holds at first. */
  readonly page: BigUint64Array;
}
const program = (seed: number, length: number): Program => {
  const random = randomFrom(seed);
  const bufferBytes = pageBytes + Math.ceil((length + 16) / 1024) * pageBytes;
  const body: number[] = [];
  while (body.length < length) {
    const choice = random(10);
    if (choice === 0) body.push(op('csrrwi', { rd: 7, csr: 'frm', imm: random(5) }));
    else if (choice === 1) body.push(op('csrrwi', { rd: 8, csr: 'fflags', imm: random(32) }));
    else if (choice === 2) body.push(op('lr.w', { rd: 9, rs1: atomic }), op('sc.w', { rd: 11, rs1: atomic, rs2: random(32) }));
    else if (choice < 5) body.push((short(random) | (short(random) << 16)) >>> 0);
    else body.push(...instruction(kinds[random(kinds.length)]!, random));
  } // prettier-ignore
  const registers = Array.from({ length: 32 }, (_, i) => i);
  const before = [
    ...li64(middle, BigInt(ramBase + buffer + pageBytes / 2)),
    ...registers.filter((i) => !reserved.has(i)).map((i) => op('ld', { rd: i, rs1: middle, imm: 8 * i - 2048 })),
    ...registers.map((i) => op('fld', { rd: i, rs1: middle, imm: 8 * i - 1792 })),
    op('addi', { rd: start, rs1: middle, imm: -2048 }),
    op('addi', { rd: atomic, rs1: middle, imm: 512 }),
    op('addi', { rd: log, rs1: middle, imm: 2047 }),
    op('addi', { rd: log, rs1: log, imm: 1 }),
  ];
  const after = [
    ...registers.map((i) => op('sd', { rs1: middle, rs2: i, imm: dumpX + 8 * i })),
    ...registers.map((i) => op('fsd', { rs1: middle, rs2: i, imm: dumpF + 8 * i })),
    op('csrrs', { rd: 31, csr: 'fcsr' }),
    op('sd', { rs1: middle, rs2: 31, imm: dumpFcsr }),
    // write(1, buffer, bufferBytes), exit(0)
    ...li(10, 1),
    op('addi', { rd: 11, rs1: start }),
    ...li(12, bufferBytes),
    ...li(17, 64),
    op('ecall'),
    ...li(10, 0),
    ...li(17, 93),
    op('ecall'),
    spin,
  ];
  return {
    words: [...before, ...body, ...after],
    first: before.length,
    last: before.length + body.length,
    bufferBytes,
    page: contents(seed),
  };
};
const contents = (seed: number): BigUint64Array => {
  const random = randomFrom(seed ^ 0x5555);
  return BigUint64Array.from(
    { length: pageBytes / 8 },
    () =>
    BigInt.asUintN(64, random(2) ? special[random(special.length)]! : (BigInt(random(2 ** 32)) << 32n) | BigInt(random(2 ** 32))), // prettier-ignore
  );
};

interface Outcome {
  readonly bytes: Uint8Array;
  readonly instructions: number;
}
const onOurs = (words: readonly number[], { page, bufferBytes }: Program): Outcome => {
  const b = board({ entryMode: 's' });
  words.forEach((word, i) => b.load(4 * i, word));
  const { bytes, guestBase } = b.group.memory;
  bytes.set(new Uint8Array(page.buffer), guestBase + buffer);
  b.hart.reset(ramBase, 0, 0);
  b.hart.setCsr('mstatus', b.hart.csr('mstatus')! | 0x2000n);
  const end = BigInt(ramBase + 4 * (words.length - 1));
  // A word may be two instructions; at the end it turns in a circle.
  b.hart.run(words.length >> 1);
  while (b.hart.pc !== end && b.hart.instret < 3 * words.length) b.hart.run(16);
  invariant(b.hart.pc === end, `a program ended at ${b.hart.pc.toString(16)} instead of ${end.toString(16)}`);
  return { bytes: bytes.slice(guestBase + buffer, guestBase + buffer + bufferBytes), instructions: b.hart.instret };
};

/** An executable of one segment at `ramBase`. */
const elf = (words: readonly number[], { page, bufferBytes }: Program): Uint8Array => {
  const offset = 0x1000;
  const size = buffer + bufferBytes;
  const file = new Uint8Array(offset + size);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true); // ET_EXEC
  view.setUint16(18, 243, true); // EM_RISCV
  view.setUint32(20, 1, true);
  view.setBigUint64(24, BigInt(ramBase), true);
  view.setBigUint64(32, 64n, true);
  view.setUint32(48, 5, true); // RVC, double-float ABI
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 1, true);
  view.setUint32(64, 1, true); // PT_LOAD, rwx
  view.setUint32(68, 7, true);
  [offset, ramBase, ramBase, size, size, 0x1000].forEach((value, i) =>
    view.setBigUint64(72 + 8 * i, BigInt(value), true),
  );
  words.forEach((word, i) => view.setUint32(offset + 4 * i, word, true));
  file.set(new Uint8Array(page.buffer), offset + buffer);
  return file;
};
const onQemu = (words: readonly number[], whole: Program, cpu = model): Uint8Array => {
  const folder = mkdtempSync(join(tmpdir(), 'torture-'));
  try {
    const path = join(folder, 'program');
    writeFileSync(path, elf(words, whole));
    chmodSync(path, 0o755);
    return execFileSync(qemu, ['-cpu', cpu ?? 'rv64', path], { maxBuffer: 2 * whole.bufferBytes, stdio: 'pipe' });
  } finally {
    rmSync(folder, { recursive: true });
  }
};

/** exit(0) behind some instructions. */
const runsOnQemu = (cpu: string | undefined, ...words: readonly number[]): boolean => {
  try {
    const page = new BigUint64Array(pageBytes / 8);
    const exit = [...words, ...li(10, 0), ...li(17, 93), op('ecall')];
    onQemu(exit, { words: exit, first: 0, last: 0, bufferBytes: pageBytes, page }, cpu);
    return true;
  } catch {
    return false;
  }
};
const isThere = spawnSync(qemu, ['--version']).status === 0;
/** The model with the most extensions; older versions have no `max`. */
const model = isThere ? ['max', 'rv64'].find((cpu) => runsOnQemu(cpu)) : undefined;
/** Why nothing can be compared; undefined where it can. */
export const missingQemu = model ? undefined : `${qemu} ${isThere ? 'does not run' : 'is not installed'}`;
/** Extensions that some versions of QEMU lack, with an instruction of each. */
const probes = {
  Zba: op('sh1add'),
  Zbb: op('clz'),
  Zbs: op('bset'),
  Zicond: op('czero.eqz'),
  Zicboz: op('cbo.zero', { rs1: 2 }),
} as const;
export const compared: readonly string[] = [
  'I',
  'M',
  'A',
  'F',
  'D',
  ...Object.entries(probes).flatMap(([name, word]) => (model && runsOnQemu(model, word) ? [name] : [])),
];
/**
 * QEMU before 8.0 counts ctzw's zeros beyond bit 31 (its fix: "target/riscv: fix ctzw behavior"): there an illegal word
 * is run into.
 */
const ctzwIsRight = runsOnQemu(
  model,
  ...li(10, 1),
  op('slli', { rd: 10, rs1: 10, imm: 33 }),
  op('ctzw', { rd: 10, rs1: 10 }),
  op('addi', { rd: 10, rs1: 10, imm: -32 }),
  op('beq', { rs1: 10, imm: 8 }),
  0,
);
const kinds = instructions.filter(
  ({ name, extension }) =>
    compared.includes(extension) && (name !== 'ctzw' || ctzwIsRight) && !/^(ecall|ebreak|jalr|sc\.|lr\.)/.test(name),
);

/** What differs, by name. */
const differences = (ours: Uint8Array, theirs: Uint8Array): string[] => {
  const [a, b] = [ours, theirs].map((bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  const out: string[] = [];
  for (let at = 0; at < ours.length; at += 8) {
    const [x, y] = [a!.getBigUint64(at, true), b!.getBigUint64(at, true)];
    if (x === y) continue;
    const from = at - 2048;
    const name =
      from >= 2048 ? `result ${(from - 2048) / 8}`
        : from >= dumpFcsr ? (from === dumpFcsr ? 'fcsr' : `+${from}`)
        : from >= dumpF ? `f${(from - dumpF) / 8}`
          : from >= dumpX ? `x${(from - dumpX) / 8}` : `memory ${from}`; // prettier-ignore
    out.push(`${name}: ${x.toString(16)}, QEMU ${y.toString(16)}`);
  }
  return out;
};

const nop = op('addi');
/** Trials of the minimiser. */
const mostTrials = 500;
/** Instructions of the body that are not needed for a difference become nops, ever smaller pieces of what is left. */
const minimise = (whole: Program, fails: (words: readonly number[]) => boolean): readonly number[] => {
  let small = [...whole.words];
  let kept = Array.from({ length: whole.last - whole.first }, (_, i) => whole.first + i);
  let trials = 0;
  for (let size = Math.ceil(kept.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let from = 0; from < kept.length && trials < mostTrials; trials++) {
      const without = new Set(kept.slice(from, from + size));
      const trial = small.map((word, i) => (without.has(i) ? nop : word));
      if (fails(trial)) {
        small = trial;
        kept = kept.filter((i) => !without.has(i));
      } else from += size;
    }
  }
  return small;
};

/** Runs the program of a seed on both. What differs, with the smallest program found that shows it, or nothing. */
export const torture = (
  seed: number,
  length: number,
): { readonly instructions: number; readonly difference: string | undefined } => {
  invariant(length <= longest, `a program of ${length} words`);
  const whole = program(seed, length);
  const compare = (words: readonly number[]): string[] => differences(onOurs(words, whole).bytes, onQemu(words, whole));
  const { bytes, instructions } = onOurs(whole.words, whole);
  if (differences(bytes, onQemu(whole.words, whole)).length === 0) return { instructions, difference: undefined };
  const small = minimise(whole, (words) => compare(words).length > 0);
  const left = small.slice(whole.first, whole.last).filter((word) => word !== nop);
  const hex = left.map((word) => word.toString(16).padStart(8, '0')).join(' ');
  return { instructions, difference: `seed ${seed}: ${compare(small).slice(0, 8).join('; ')}\n${hex}` };
};
