import { describe, expect, it } from 'vitest';
import { HostMemory } from '#vmm/base/memory';
import { engineBytes } from '#vmm/cpu/engine/layout';
import { Hart, HartGroup } from '#vmm/cpu/riscv/hart';
import { csrr, li64, op, ramBase, spin } from './assembler.ts';

const guestBytes = 2 << 20;
const lock = BigInt(ramBase + 0x10_0000);

const group = (): { harts: Hart[]; load: (offset: number, ...words: number[]) => void; memory: HostMemory } => {
  const memory = new HostMemory({ engineBytes: engineBytes({ harts: 2, guestBytes }), poolBytes: 0, guestBytes });
  const shared = new HartGroup({ memory, ramBase, harts: 2 });
  const bus = { read: () => undefined, write: () => false };
  const harts = [0, 1].map((id) => new Hart({ group: shared, id, bus, entryMode: 'm' }));
  const load = (offset: number, ...words: number[]): void =>
    words.forEach((word, i) => memory.view.setUint32(memory.guestBase + offset + 4 * i, word, true));
  return { harts, load, memory };
};

describe('two harts', () => {
  it('share memory and nothing else, and lose no increment however they take turns', () => {
    const { harts, load, memory } = group();
    // Each adds 1 to a shared word with lr/sc, 500 times.
    load(
      0,
      csrr(7, 'mhartid'),
      ...li64(5, lock),
      op('addi', { rd: 6, imm: 500 }),
      op('lr.d', { rd: 10, rs1: 5 }),
      op('addi', { rd: 10, rs1: 10, imm: 1 }),
      op('sc.d', { rd: 11, rs1: 5, rs2: 10 }),
      op('bne', { rs1: 11, imm: -12 }),
      op('addi', { rd: 6, rs1: 6, imm: -1 }),
      op('bne', { rs1: 6, imm: -20 }),
      spin,
    );
    for (const hart of harts) hart.reset(ramBase, 0, 0);
    // Slices of odd lengths, so that a turn often ends between lr and sc.
    for (let turn = 0; turn < 3000; turn++) harts[turn % 2]!.run(3 + (turn % 5));
    for (const hart of harts) hart.run(5000);
    expect(memory.view.getBigUint64(memory.guestBase + 0x10_0000, true)).toBe(1000n);
    expect(harts.map((hart) => hart.x(7))).toEqual([0n, 1n]);
  });

  it('see code that the other one wrote, each after its own fence.i', () => {
    const { harts, load } = group();
    const [writer, reader] = harts as [Hart, Hart];
    const body = (value: number): number => op('addi', { rd: 10, imm: value });
    load(0x100, body(1), op('fence.i'), op('jal', { imm: -8 }));
    load(0, ...li64(5, BigInt(ramBase + 0x100)), op('sw', { rs1: 5, rs2: 6 }), spin);
    reader.reset(ramBase + 0x100, 0, 0);
    reader.run(30);
    expect(reader.x(10)).toBe(1n);
    writer.reset(ramBase, 0, 0);
    writer.setX(6, body(2));
    writer.run(20);
    reader.run(30);
    expect(reader.x(10)).toBe(2n);
    // Again, with the page known as code when it is stored to.
    writer.pc = BigInt(ramBase + 4 * li64(5, BigInt(ramBase + 0x100)).length);
    writer.setX(6, body(3));
    writer.run(5);
    reader.run(30);
    expect(reader.x(10)).toBe(3n);
  });
});
