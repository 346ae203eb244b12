import type { Hart } from '../cpu/riscv/hart.ts';

/** Exception codes (privileged ISA table 14). */
// prettier-ignore
const exceptionNames: readonly string[] = [
  'instruction address misaligned', 'instruction access fault', 'illegal instruction', 'breakpoint',
  'load address misaligned', 'load access fault', 'store/AMO address misaligned', 'store/AMO access fault',
  'environment call from U-mode', 'environment call from S-mode', 'reserved', 'environment call from M-mode',
  'instruction page fault', 'load page fault', 'reserved', 'store/AMO page fault',
];

/** The first of the traps that led nowhere. */
export interface Trap {
  readonly name: string;
  readonly cause: bigint;
  readonly pc: bigint;
  readonly tval: bigint;
}

export const trapOf = (hart: Hart): Trap => {
  const { cause, pc, tval } = hart.crash;
  const isInterrupt = cause >> 63n !== 0n;
  const code = Number(cause & 0xffffn);
  const name = isInterrupt ? `interrupt ${code}` : (exceptionNames[code] ?? `exception ${code}`);
  return { name, cause, pc, tval };
};

// prettier-ignore
const integerNames = [
  'zero', 'ra', 'sp', 'gp', 'tp', 't0', 't1', 't2', 's0', 's1', 'a0', 'a1', 'a2', 'a3', 'a4', 'a5', 'a6', 'a7',
  's2', 's3', 's4', 's5', 's6', 's7', 's8', 's9', 's10', 's11', 't3', 't4', 't5', 't6',
];
const shownCsrs = ['sstatus', 'stvec', 'sepc', 'scause', 'stval', 'satp'] as const;

/** pc, x1 … x31 by their ABI names, and the CSRs that tell about traps. */
export const registersOf = (hart: Hart): Readonly<Record<string, bigint>> => {
  const out: Record<string, bigint> = { pc: hart.pc };
  for (let i = 1; i < 32; i++) out[integerNames[i]!] = hart.x(i);
  for (const name of shownCsrs) out[name] = hart.csr(name) ?? 0n;
  return out;
};

/** Sets pc, an integer register by its ABI name, or a CSR; false for a name that is none. */
export const writeRegister = (hart: Hart, name: string, value: bigint): boolean => {
  const index = integerNames.indexOf(name);
  if (name === 'pc') hart.pc = value;
  else if (index >= 0) hart.setX(index, value);
  else return hart.setCsr(name, value);
  return true;
};
