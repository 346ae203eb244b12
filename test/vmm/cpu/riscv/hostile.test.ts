import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { csrs } from '#vmm/cpu/riscv/csr';
import { instructions } from '#vmm/cpu/riscv/instructions';
import { board, op, ramBase } from './assembler.ts';

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
