import { describe, expect, it } from 'vitest';
import { missingQemu } from './qemu-user.ts';
import { torture } from './torture.ts';

/** More of them by hand: TORTURE=1000; 10⁷ instructions: `npm run soak -- --only torture`. */
const programs = Number(process.env.TORTURE ?? 12);

describe.skipIf(missingQemu)(
  `random programs agree, interpreted, translated and on qemu-riscv64${missingQemu ? ` (skipped: ${missingQemu})` : ''}`,
  () => {
    it.each(Array.from({ length: programs }, (_, seed) => seed + 1))('seed %i', (seed) => {
      const { difference, instructions } = torture(seed, { length: 400, turns: 12 });
      expect(difference).toBeUndefined();
      expect(instructions).toBeGreaterThan(4000);
    });
  },
);
