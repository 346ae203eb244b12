import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { csrs } from '#vmm/cpu/riscv/csr';
import { instructions } from '#vmm/cpu/riscv/instructions';
import { board, li64, op, ramBase, spin } from './assembler.ts';

/** Random but mostly legal code, with jumps, CSR writes and stores over itself. */
const word = fc.oneof(
  fc.integer({ min: 0, max: 0xffff_ffff }),
  fc
    .tuple(fc.constantFrom(...instructions), fc.integer({ min: 0, max: 0xffff_ffff }))
    .map(([{ encoding }, random]) => ((random & ~encoding.mask) | encoding.match) >>> 0),
  fc
    .tuple(fc.constantFrom(...csrs), fc.constantFrom('csrrw', 'csrrs', 'csrrc'), fc.integer({ min: 0, max: 31 }), fc.integer({ min: 0, max: 31 }))
    .map(([row, name, rd, rs1]) => op(name, { csr: row.number, rd, rs1 })),
); // prettier-ignore

describe.each(['m', 's'] as const)('a hostile guest in entry mode %s', (entryMode) => {
  it('ends in a reason to stop, never in an exception', () => {
    const b = board({
      entryMode,
      bus: { read: (address, bytes) => (address % 3 === 0 ? undefined : bytes === 8 ? 5n : 5), write: (address) => address % 2 === 0 }, // prettier-ignore
    });
    fc.assert(
      fc.property(fc.array(word, { minLength: 20, maxLength: 200 }), fc.array(fc.bigInt({ min: 0n, max: 1n << 64n }), { minLength: 31, maxLength: 31 }), (words, registers) => {
        b.load(0, ...words);
        b.load(0x1000, ...words);
        b.hart.reset(ramBase, 0, 0);
        b.hart.setCsr('stvec', BigInt(ramBase + 0x1000));
        b.hart.setCsr('mtvec', BigInt(ramBase + 0x1000));
        b.hart.setCsr('mstatus', (b.hart.csr('mstatus') ?? 0n) | 0x6000n);
        // Half of the registers point somewhere into RAM.
        registers.forEach((value, i) => b.hart.setX(i + 1, i % 2 ? value : BigInt(ramBase) + (value & 0x3f_ffffn)));
        for (let i = 0; i < 4; i++) {
          const before = b.hart.instret;
          const reason = b.hart.run(1000);
          expect(['budget', 'wfi', 'crash', 'event', 'halted']).toContain(reason);
          expect(b.hart.instret - before).toBeLessThanOrEqual(1000);
          if (reason === 'crash') break;
        }
      }),
      { numRuns: 150 },
    ); // prettier-ignore
  });
});

describe('translated code', () => {
  it('may be wanted, forgotten and wanted again before it is translated', () => {
    const program = [
      ...li64(5, BigInt(ramBase)),
      op('addi', { rd: 6, imm: 40 }),
      op('addi', { rd: 7, imm: 3 }),
      op('addi', { rd: 8, rs1: 8, imm: 1 }),
      op('addi', { rd: 7, rs1: 7, imm: -1 }),
      op('bne', { rs1: 7, imm: -8 }),
      // The page is another one from here on, although nothing differs.
      op('sw', { rs1: 5, rs2: 0, imm: 0x700 }),
      op('fence.i'),
      op('addi', { rd: 6, rs1: 6, imm: -1 }),
      op('bne', { rs1: 6, imm: -28 }),
      spin,
    ];
    const b = board({ entryMode: 's', translateAfter: 1 });
    b.load(0, ...program);
    // At whatever instruction the translator has its turn; a region does nothing in slices as short as these.
    for (let first = 150; first < 165; first++) {
      b.hart.reset(ramBase, 0, 0);
      b.hart.setX(8, 0);
      for (let i = 0; i < 3; i++) b.hart.run(first);
      for (let i = 0; i < 400; i++) b.hart.run(1);
      expect(b.hart.x(8)).toBe(120n);
      expect(b.hart.pc).toBe(BigInt(ramBase + 4 * (program.length - 1)));
    }
  });
});
