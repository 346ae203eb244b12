import { describe, expect, it } from 'vitest';
import { missingSystemQemu, systemTorture } from './system-torture.ts';

/** More of them by hand: TORTURE=100; `npm run soak -- --only system-torture`. */
const programs = Number(process.env.TORTURE ?? 4);

describe.skipIf(missingSystemQemu)(
  `machine-mode programs trap alike, interpreted, translated and on qemu-system-riscv64${missingSystemQemu ? ` (skipped: ${missingSystemQemu})` : ''}`,
  () => {
    it(`${programs} seeds, with every cause`, () => {
      const causes = new Set<string>();
      for (let seed = 1; seed <= programs; seed++) {
        const run = systemTorture(seed, { units: 80, turns: 5 });
        expect(run.difference).toBeUndefined();
        for (const cause of run.causes.keys()) causes.add(cause);
      }
      // To M-mode, and (10x) to S-mode. A fetch from where nothing is (1) QEMU 7.2 does not refuse.
      const expected = ['2', '3', '5', '6', '7', '8', '9', 'b', 'c', 'd', 'f', '102', '103', '105', '107', '108', '10c', '10d', '10f']; // prettier-ignore
      expect(expected.filter((cause) => !causes.has(cause))).toEqual([]);
    });
  },
);
