import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compressed, expand } from '#vmm/cpu/riscv/compressed';
import { lookUpInstruction } from '#vmm/cpu/riscv/decoder';
import { decodeOperands, type Encoding, encodeOperands, matches, type Operands } from '#vmm/cpu/riscv/encoding';
import { instructions } from '#vmm/cpu/riscv/instructions';

/** Any word of an encoding: its fixed bits, the rest random. */
const wordOf = (encoding: Encoding) =>
  fc.integer({ min: 0, max: 2 ** (8 * encoding.bytes) - 1 }).map((random) => ((random & ~encoding.mask) | encoding.match) >>> 0); // prettier-ignore

describe('instruction table', () => {
  it('has RV64GC, Zicsr, Zifencei and the privileged instructions', () => {
    const by = (extension: string): number => instructions.filter((row) => row.extension === extension).length;
    // ISA manual, volume I, listings: RV64I 52 with fence, ecall and ebreak; M 13; A 22; F 30; D 32; Zicsr 6.
    expect({ I: by('I'), M: by('M'), A: by('A'), F: by('F'), D: by('D'), Zicsr: by('Zicsr') }).toEqual({
      I: 52,
      M: 13,
      A: 22,
      F: 30,
      D: 32,
      Zicsr: 6,
    });
    expect(new Set(instructions.map((row) => row.name)).size).toBe(instructions.length);
  });

  it('gives no word two meanings', () => {
    for (const a of instructions)
      for (const b of instructions)
        if (a !== b) {
          const differ = a.encoding.mask & b.encoding.mask & (a.encoding.match ^ b.encoding.match);
          expect(differ, `${a.name} and ${b.name}`).not.toBe(0);
        }
  });

  it.each(instructions.map((row) => [row.name, row] as const))('%s decodes and encodes', (_, row) => {
    fc.assert(
      fc.property(wordOf(row.encoding), (word) => {
        expect(matches(row.encoding, word)).toBe(true);
        expect(lookUpInstruction(word)).toBe(row);
        expect(encodeOperands(row.encoding, decodeOperands(row.encoding, word))).toBe(word);
      }),
      { numRuns: 50 },
    );
  });

  // Words as GNU as 2.40 encodes them.
  it.each([
    [0x00c58533, 'add', { rd: 10, rs1: 11, rs2: 12 }],
    [0xfff50513, 'addi', { rd: 10, rs1: 10, imm: -1 }],
    [0x43f55513, 'srai', { rd: 10, rs1: 10, imm: 63 }],
    [0xfe0506e3, 'beq', { rs1: 10, rs2: 0, imm: -20 }],
    [0x800000ef, 'jal', { rd: 1, imm: -0x100000 }],
    [0xfea43c23, 'sd', { rs1: 8, rs2: 10, imm: -8 }],
    [0xfffff537, 'lui', { rd: 10, imm: -4096 }],
    [0x30529073, 'csrrw', { rd: 0, rs1: 5, csr: 0x305 }],
    [0x1005a52f, 'lr.w', { rd: 10, rs1: 11, aq: 0 }],
    [0x6ac5f543, 'fmadd.d', { rd: 10, rs1: 11, rs2: 12, rs3: 13, rm: 7 }],
  ])('%#x is %s', (word, name, operands) => {
    const row = lookUpInstruction(word);
    expect(row?.name).toBe(name);
    expect(decodeOperands(row!.encoding, word)).toEqual(operands);
  });
});

describe('compressed table', () => {
  it('covers every 16-bit word once or not at all, and encodes it back', () => {
    let legal = 0;
    for (let half = 0; half < 0x10000; half++) {
      if ((half & 3) === 3) continue;
      const found = expand(half);
      if (!found) continue;
      legal++;
      const { encoding } = found.row;
      expect(encodeOperands(encoding, decodeOperands(encoding, half))).toBe(half);
    }
    expect(expand(0)).toBeUndefined();
    expect(legal).toBeGreaterThan(45_000);
  });

  it.each(compressed.map((row) => [row.name, row] as const))('%s expands to an instruction of the table', (_, row) => {
    const long = instructions.find((candidate) => candidate.name === row.expands)!;
    fc.assert(
      fc.property(wordOf(row.encoding), (half) => {
        const found = expand(half);
        fc.pre(found?.row === row);
        const { operands } = found!;
        const word = encodeOperands(long.encoding, operands);
        expect(lookUpInstruction(word)).toBe(long);
        expect(decodeOperands(long.encoding, word)).toMatchObject(operands);
      }),
      { numRuns: 50 },
    );
  });

  // Halves as GNU as 2.40 encodes them.
  it.each<[number, string, Operands]>([
    [0x4501, 'addi', { rd: 10, rs1: 0, imm: 0 }],
    [0x8082, 'jalr', { rd: 0, rs1: 1, imm: 0 }],
    [0x7139, 'addi', { rd: 2, rs1: 2, imm: -64 }],
    [0xfc06, 'sd', { rs1: 2, rs2: 1, imm: 56 }],
    [0x70e2, 'ld', { rd: 1, rs1: 2, imm: 56 }],
    [0x1028, 'addi', { rd: 10, rs1: 2, imm: 40 }],
    [0x9002, 'ebreak', {}],
    [0x757d, 'lui', { rd: 10, imm: -4096 }],
    [0x4188, 'lw', { rd: 10, rs1: 11, imm: 0 }],
    [0x8d0d, 'sub', { rd: 10, rs1: 10, rs2: 11 }],
    [0xbfcd, 'jal', { rd: 0, imm: -14 }],
    [0xdd75, 'beq', { rs1: 10, rs2: 0, imm: -4 }],
  ])('%#x is %s', (half, name, operands) => {
    const found = expand(half);
    expect(found?.row.expands).toBe(name);
    expect(found?.operands).toMatchObject(operands);
  });
});
