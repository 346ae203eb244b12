import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Area } from '#iommufd/kernel/iova/area';
import { AreaTree } from '#iommufd/kernel/iova/area-tree';
import type { IoPageTable } from '#iommufd/kernel/iova/io-pagetable';
import type { Pages } from '#iommufd/kernel/iova/pages';

const ulongMax = 0xffff_ffff_ffff_ffffn;
const make = (start: bigint, last: bigint): Area =>
  Area.of({} as IoPageTable, {} as Pages, start, 0n, last - start + 1n, 0);

/** A few hundred slots spread over all 64 bits; the last one ends at the very top. */
const slots = 400n;
const stride = (ulongMax + 1n) / slots;
const slot = (index: number): [bigint, bigint] => {
  const start = BigInt(index) * stride;
  return [start, index === Number(slots) - 1 ? ulongMax : start + stride / 2n];
};

describe('area tree', () => {
  it('agrees with a sorted list, whatever is inserted and removed', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(Number(slots) - 1), { maxLength: 600 }),
        fc.bigInt(0n, ulongMax),
        (indexes, point) => {
          const tree = new AreaTree();
          const model = new Map<number, Area>();
          for (const index of indexes) {
            const old = model.get(index);
            if (old) {
              tree.remove(old);
              model.delete(index);
            } else {
              const area = make(...slot(index));
              tree.insert(area);
              model.set(index, area);
            }
          }
          const sorted = [...model.values()].sort((a, b) => (a.start < b.start ? -1 : 1));
          expect([...tree]).toEqual(sorted);
          expect(tree.size).toBe(sorted.length);
          const first = sorted.find((area) => area.last >= point);
          expect(tree.firstFrom(point)).toBe(first);
          const last = point + stride > ulongMax ? ulongMax : point + stride;
          expect(tree.first(point, last)).toBe(first && first.start <= last ? first : undefined);
          for (const [i, area] of sorted.entries()) expect(tree.next(area)).toBe(sorted[i + 1]);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('keeps its order through growth to 20000 and back, in any order', () => {
    const tree = new AreaTree();
    const areas = Array.from({ length: 20_000 }, (_, i) => make(BigInt(i) << 13n, (BigInt(i) << 13n) + 4095n));
    const shuffled = areas.map((area, i) => ({ area, key: (i * 7919) % 20_011 })).sort((a, b) => a.key - b.key);
    for (const { area } of shuffled) tree.insert(area);
    expect([...tree].every((area, i) => area === areas[i])).toBe(true);
    for (const { area } of shuffled.slice(0, 19_990)) tree.remove(area);
    expect([...tree]).toEqual(
      shuffled
        .slice(19_990)
        .map((s) => s.area)
        .sort((a, b) => (a.start < b.start ? -1 : 1)),
    );
    for (const { area } of shuffled.slice(19_990)) tree.remove(area);
    expect([...tree]).toEqual([]);
    expect(tree.firstFrom(0n)).toBeUndefined();
  });
});
