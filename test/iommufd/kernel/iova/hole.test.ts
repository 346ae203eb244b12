import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Area } from '#iommufd/kernel/iova/area';
import { AreaTree } from '#iommufd/kernel/iova/area-tree';
import { type IovaRange, findHole, ulongMax } from '#iommufd/kernel/iova/hole';
import type { IoPageTable } from '#iommufd/kernel/iova/io-pagetable';
import { PackedAreas } from '#iommufd/kernel/iova/packed-areas';
import type { Pages } from '#iommufd/kernel/iova/pages';

const everywhere: readonly IovaRange[] = [{ first: 0n, last: ulongMax }];
const tree = (...ranges: [bigint, bigint][]): AreaTree => {
  const out = new AreaTree(new PackedAreas({} as IoPageTable));
  const pages = { plain: () => undefined } as unknown as Pages;
  for (const [first, last] of ranges) out.insert(Area.of({} as IoPageTable, pages, first, 0n, last - first + 1n, 0));
  return out;
};

describe('IOVA allocation', () => {
  it('never gives page 0', () => expect(findHole(everywhere, [], tree(), 4096n, 4096n, 0n)).toBe(4096n));

  it('OR-s the offset of the memory into the aligned address', () => {
    expect(findHole(everywhere, [{ first: 0n, last: 0x10234n }], tree(), 1n, 1n, 0x234n)).toBe(0x10235n);
  });

  it('does not use a hole of one byte', () => {
    const areas = tree([0x1000n, 0x1fffn], [0x2001n, 0x2fffn]);
    expect(findHole(everywhere, [], areas, 1n, 1n, 0n)).toBe(0x3000n);
  });

  it('takes the first fit, avoiding what is reserved and mapped', () => {
    const unit = 0x1000n;
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.nat(30), { maxLength: 20 }),
        fc.array(fc.tuple(fc.nat(31), fc.nat(4)), { maxLength: 5 }),
        fc.integer({ min: 1, max: 6 }),
        fc.nat(3),
        (mapped, blocked, pages, alignShift) => {
          const areas = tree(...mapped.map((i): [bigint, bigint] => [BigInt(i) * unit, BigInt(i) * unit + unit - 1n]));
          const reserved = blocked
            .map(([i, n]) => ({ first: BigInt(i) * unit, last: BigInt(i + n + 1) * unit - 1n }))
            .sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
          const used = new Set([0, ...mapped]);
          for (const [i, n] of blocked) for (let at = i; at <= i + n; at++) used.add(at);
          const step = 2 ** alignShift;
          let expected = 0;
          for (expected = 0; ; expected += step) {
            let free = true;
            for (let i = 0; i < pages; i++) if (used.has(expected + i)) free = false;
            if (free) break;
          }
          const found = findHole(everywhere, reserved, areas, BigInt(pages) * unit, unit * BigInt(step), 0n);
          expect(found).toBe(BigInt(expected) * unit);
        },
      ),
      { numRuns: 200 },
    );
  });
});
