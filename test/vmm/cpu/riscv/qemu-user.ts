/** Debian's qemu-riscv64: whether it is there, what it knows, and programs run on it. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { li, op, ramBase } from './assembler.ts';
import { elfFile } from './elf-file.ts';

const qemu = 'qemu-riscv64';
/** Programs take less than a second there. */
const longestMs = 20_000;

/** Runs what is at `ramBase` and gives what it wrote to its standard output. */
export const runOnQemu = (memory: Uint8Array, outputBytes: number, cpu = model): Uint8Array => {
  const folder = mkdtempSync(join(tmpdir(), 'torture-'));
  try {
    const path = join(folder, 'program');
    writeFileSync(path, elfFile(memory, ramBase));
    chmodSync(path, 0o755);
    const options = { maxBuffer: 2 * outputBytes + 4096, stdio: 'pipe', timeout: longestMs } as const;
    return execFileSync(qemu, ['-cpu', cpu ?? 'rv64', path], options);
  } finally {
    rmSync(folder, { recursive: true });
  }
};

/** exit(0) behind some instructions. */
const runs = (cpu: string | undefined, ...words: readonly number[]): boolean => {
  const exit = [...words, ...li(10, 0), ...li(17, 93), op('ecall')];
  try {
    // Behind the code is room that it may write.
    const memory = new Uint8Array(8192);
    memory.set(new Uint8Array(Uint32Array.from(exit).buffer));
    runOnQemu(memory, 0, cpu);
    return true;
  } catch {
    return false;
  }
};
const isThere = spawnSync(qemu, ['--version']).status === 0;
/** The model with the most extensions; older versions have no `max`. */
const model = isThere ? ['max', 'rv64'].find((cpu) => runs(cpu)) : undefined;
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
  ...Object.entries(probes).flatMap(([name, word]) => (model && runs(model, word) ? [name] : [])),
];
/**
 * QEMU before 8.0 counts ctzw's zeros beyond bit 31 (its fix: "target/riscv: fix ctzw behavior"): there an illegal word
 * is run into.
 */
export const isCtzwRight = runs(
  model,
  ...li(10, 1),
  op('slli', { rd: 10, rs1: 10, imm: 33 }),
  op('ctzw', { rd: 10, rs1: 10 }),
  op('addi', { rd: 10, rs1: 10, imm: -32 }),
  op('beq', { rs1: 10, imm: 8 }),
  0,
);
