import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Area } from '#iommufd/kernel/iova/area';
import { AreaTree } from '#iommufd/kernel/iova/area-tree';
import type { IoPageTable } from '#iommufd/kernel/iova/io-pagetable';
import { PackedAreas } from '#iommufd/kernel/iova/packed-areas';
import { Pages, type PageSource, type PinOwner } from '#iommufd/kernel/iova/pages';

const ulongMax = 0xffff_ffff_ffff_ffffn;
/** Of a kind that stays an object. */
const unpacked = { plain: () => undefined } as unknown as Pages;
const make = (start: bigint, last: bigint): Area =>
  Area.of({} as IoPageTable, unpacked, start, 0n, last - start + 1n, 0);
const newTree = () => new AreaTree(new PackedAreas({} as IoPageTable));

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
          const tree = newTree();
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
    const tree = newTree();
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

  it('gives packed areas back as they were, and keeps those that it handed out', () => {
    const source = { kind: 'user' } as PageSource;
    const owner = {} as PinOwner;
    const number = { min: 0, max: 1000 };
    const area = fc.record({
      slot: fc.nat(200),
      basePage: fc.oneof(fc.nat(1000), fc.integer({ min: 2 ** 32 - 2, max: 2 ** 32 + 2 }), fc.constant(2 ** 40 - 1)),
      linear: fc.oneof(fc.integer(number), fc.integer({ min: 2 ** 32, max: 2 ** 41 })),
      offset: fc.nat(4095),
      bytes: fc.integer({ min: 1, max: 100_000 }),
      held: fc.boolean(),
      writable: fc.boolean(),
      mode: fc.constantFrom('none', 'user', 'process'),
      prot: fc.nat(31),
    });
    fc.assert(
      fc.property(fc.uniqueArray(area, { selector: (one) => one.slot, maxLength: 150 }), (rows) => {
        const tree = newTree();
        for (const row of rows) {
          const count = Math.floor((row.offset + row.bytes + 4095) / 4096);
          const pages = new Pages(source, row.basePage, count, row.writable, owner, row.mode);
          const start = BigInt(row.slot) << 40n;
          const one = Area.of({} as IoPageTable, pages, start, BigInt(row.offset), BigInt(row.bytes), row.prot);
          if (row.held) {
            pages.restorePlain(row.linear);
            one.filled = true;
          }
          tree.insert(one);
        }
        for (const row of rows) {
          const start = BigInt(row.slot) << 40n;
          const one = tree.firstFrom(start)!;
          expect(tree.firstFrom(start)).toBe(one);
          expect([one.start, one.length, one.pageOffset, one.prot, one.filled, one.pages.basePage]).toEqual([
            start,
            BigInt(row.bytes),
            row.offset,
            row.prot,
            row.held,
            row.basePage,
          ]);
          expect([one.pages.writable, one.pages.accountMode, one.pages.plain(row.held)]).toEqual([
            row.writable,
            row.mode,
            row.held ? row.linear : 0,
          ]);
          expect(one.pages.count - 1).toBe(one.lastIndex);
          // What cannot be packed keeps its state.
          one.accesses = row.slot % 2;
        }
        for (const one of tree) expect(one.accesses).toBe(Number(one.start >> 40n) % 2);
        for (const row of rows) {
          const one = tree.peek(row.slot << 8, 0, row.slot << 8, 0xffff_ffff)!;
          expect(one.accesses).toBe(row.slot % 2);
          tree.remove(one);
        }
        expect([...tree]).toEqual([]);
      }),
      { numRuns: 40 },
    );
  });

  it('finds what lies behind leaves that were emptied from both sides', () => {
    const tree = newTree();
    const areas = Array.from({ length: 30_000 }, (_, i) => make(BigInt(i) << 12n, (BigInt(i) << 12n) + 4095n));
    for (const one of areas) tree.insert(one);
    for (const one of areas.slice(1, -1)) {
      tree.remove(one);
      expect(tree.next(areas[0]!)!.start).toBe(one.start + 4096n);
    }
    expect(tree.size).toBe(2);
  });
});
