/** A small assembler over the instruction table, and a hart to run its programs on. */
import { HostMemory } from '#vmm/base/memory';
import { engineBytes } from '#vmm/cpu/engine/layout';
import { encodeOperands, type Operands } from '#vmm/cpu/riscv/encoding';
import { csrs } from '#vmm/cpu/riscv/csr';
import { Hart, HartGroup, type HartOptions } from '#vmm/cpu/riscv/hart';
import { instructions } from '#vmm/cpu/riscv/instructions';

const rows = new Map(instructions.map((row) => [row.name, row]));
const csrNumbers = new Map(csrs.map((row) => [row.name, row.number]));

/** The word of one instruction; `csr` may be a name. */
export const op = (name: string, operands: Omit<Operands, 'csr'> & { csr?: number | string } = {}): number => {
  const row = rows.get(name);
  if (!row) throw new RangeError(`no instruction ${name}`);
  const { csr, ...rest } = operands;
  const number = typeof csr === 'string' ? csrNumbers.get(csr) : csr;
  if (typeof csr === 'string' && number === undefined) throw new RangeError(`no CSR ${csr}`);
  return encodeOperands(row.encoding, number === undefined ? rest : { ...rest, csr: number });
};

export const li = (rd: number, value: number): number[] => {
  const low = (value << 20) >> 20;
  const high = (value - low) | 0;
  return high === 0
    ? [op('addi', { rd, imm: low })]
    : [op('lui', { rd, imm: high }), op('addiw', { rd, rs1: rd, imm: low })];
};
/** Any 64-bit constant, through x31. */
export const li64 = (rd: number, value: bigint): number[] => [
  ...li(rd, Number(BigInt.asIntN(32, value >> 32n))),
  op('slli', { rd, rs1: rd, imm: 32 }),
  ...li(31, Number(BigInt.asIntN(32, value))),
  op('slli', { rd: 31, rs1: 31, imm: 32 }),
  op('srli', { rd: 31, rs1: 31, imm: 32 }),
  op('or', { rd, rs1: rd, rs2: 31 }),
];
export const csrw = (csr: string, rs1: number): number => op('csrrw', { csr, rs1 });
export const csrr = (rd: number, csr: string): number => op('csrrs', { rd, csr });
export const nop = op('addi');
/** Stops a test program: a jump to itself. */
export const spin = op('jal', { imm: 0 });

export const ramBase = 0x8000_0000;
const guestBytes = 4 << 20;

export interface Board {
  readonly hart: Hart;
  readonly group: HartGroup;
  /** Writes 32-bit words at an offset into RAM. */
  load(offset: number, ...words: readonly number[]): void;
  read64(offset: number): bigint;
  write64(offset: number, value: bigint): void;
}

interface BoardOptions extends Partial<Omit<HartOptions, 'group' | 'id'>> {
  readonly entryMode: 's' | 'm';
  /** As in `HartGroup`. */
  readonly translateAfter?: number;
}
/** Harts are costly to build: tests share one per kind and reset it. */
const boards = new Map<string, Board>();
export const board = (
  { translateAfter = 0, ...options }: BoardOptions,
  fresh = Object.keys(options).length > 1,
): Board => {
  const key = `${options.entryMode} ${translateAfter}`;
  let made = fresh ? undefined : boards.get(key);
  if (!made) {
    const memory = new HostMemory({ engineBytes: engineBytes({ harts: 1, guestBytes }), poolBytes: 0, guestBytes });
    const group = new HartGroup({ memory, ramBase, harts: 1, translateAfter });
    const bus = { read: () => undefined, write: () => false };
    const hart = new Hart({ group, id: 0, bus, ...options });
    const { view, guestBase } = memory;
    made = {
      hart,
      group,
      load: (offset, ...words) => {
        words.forEach((word, i) => view.setUint32(guestBase + offset + 4 * i, word, true));
      },
      read64: (offset) => view.getBigUint64(guestBase + offset, true),
      write64: (offset, value) => view.setBigUint64(guestBase + offset, BigInt.asUintN(64, value), true),
    };
    if (!fresh) boards.set(key, made);
  }
  made.group.memory.bytes.fill(0, made.group.memory.guestBase, made.group.memory.guestBase + guestBytes);
  made.hart.setTimeBase(0);
  made.hart.setInterrupt(9, false);
  made.hart.reset(ramBase, 0, 0);
  return made;
};

/** Resets, loads the words at the start of RAM, and runs that many instructions. */
export const run = (target: Board, words: readonly number[], instructions = words.length): Hart => {
  target.load(0, ...words);
  target.hart.reset(ramBase, 0, 0);
  target.hart.run(instructions);
  return target.hart;
};
