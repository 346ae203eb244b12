/** What translated code costs in memory: a program of many loops, each long enough to be like a function. */
import { HostMemory } from '#vmm/base/memory';
import { engineBytes } from '#vmm/cpu/engine/layout';
import { encodeOperands, type Operands } from '#vmm/cpu/riscv/encoding';
import { Hart, HartGroup } from '#vmm/cpu/riscv/hart';
import { instructions } from '#vmm/cpu/riscv/instructions';

const wanted = 10_000;
/** Instructions of a loop's body, and how often it runs. */
const bodyLength = 48;
const turns = 8;
const ramBase = 0x8000_0000;
const guestBytes = 16 << 20;
/** Where the loops load and store. */
const data = 12 << 20;

const op = (name: string, operands: Operands): number =>
  encodeOperands(instructions.find((row) => row.name === name)!.encoding, operands);

/** One loop: counts x5 down from `turns`; x6 points to the data. */
const loop = (index: number): number[] => {
  const body = Array.from({ length: bodyLength }, (_, i) => {
    const rd = 8 + ((i * 7 + index) % 20);
    const kind = (i + index) % 4;
    if (kind === 0) return op('ld', { rd, rs1: 6, imm: 8 * ((i * 3) % 64) });
    if (kind === 1) return op('sd', { rs1: 6, rs2: rd, imm: 8 * ((i * 5) % 64) });
    return kind === 2 ? op('add', { rd, rs1: rd, rs2: 8 + (i % 20) }) : op('xori', { rd, rs1: rd, imm: i });
  });
  return [
    op('addi', { rd: 5, imm: turns }),
    ...body,
    op('addi', { rd: 5, rs1: 5, imm: -1 }),
    op('bne', { rs1: 5, imm: -4 * (bodyLength + 1) }),
  ];
};

/** Megabytes that the process grew by, and regions made. */
export function regionMemory(): { readonly megabytes: number; readonly regions: number } {
  const memory = new HostMemory({ engineBytes: engineBytes({ harts: 1, guestBytes }), poolBytes: 0, guestBytes });
  const group = new HartGroup({ memory, ramBase, harts: 1, translateAfter: turns / 2 });
  const hart = new Hart({ group, id: 0, bus: { read: () => undefined, write: () => false }, entryMode: 's' });
  const pointer = [op('lui', { rd: 6, imm: (ramBase + data) | 0 }), op('slli', { rd: 6, rs1: 6, imm: 32 }), op('srli', { rd: 6, rs1: 6, imm: 32 })]; // prettier-ignore
  const words = [...pointer, ...Array.from({ length: wanted }, (_, i) => loop(i)).flat()];
  words.forEach((word, i) => memory.view.setUint32(memory.guestBase + 4 * i, word, true));
  // What the program touches by itself is not the translations'.
  memory.bytes.fill(1, group.layout.codePool, group.layout.bytes);
  memory.bytes.fill(0, group.layout.codePool, group.layout.bytes);
  const before = process.memoryUsage().rss;
  hart.reset(ramBase, 0, 0);
  // Twice, so that each region runs as one.
  for (let round = 0; round < 2; round++) {
    hart.pc = BigInt(ramBase);
    const end = hart.instret + wanted * turns * (bodyLength + 2) + wanted;
    while (hart.instret < end) hart.run(Math.min(100_000, end - hart.instret));
  }
  return { megabytes: (process.memoryUsage().rss - before) / 1e6, regions: group.translations.regions };
}
