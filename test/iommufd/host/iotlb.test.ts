import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { invalidatedRange, Iotlb, processTag, spaceTag } from '#iommufd/host/iotlb';

interface Mapping {
  readonly gscid: number;
  readonly pscid: number;
  readonly hi: number;
  readonly lo: number;
  readonly shift: number;
  readonly ppn: number;
  readonly guest: number;
  readonly global: boolean;
}
const put = (tlb: Iotlb, m: Mapping): number =>
  tlb.insert(spaceTag(m.gscid, false, false), processTag(m.pscid), m.hi, m.lo, m.shift, m.ppn, m.guest, 3, m.global);
const find = (tlb: Iotlb, m: Pick<Mapping, 'gscid' | 'pscid' | 'hi' | 'lo'>): number =>
  tlb.lookup(spaceTag(m.gscid, false, false), processTag(m.pscid), m.hi, m.lo);

const mapping: fc.Arbitrary<Mapping> = fc.record({
  gscid: fc.constantFrom(-1, 0, 1, 0xffff),
  pscid: fc.constantFrom(-1, 0, 1, 0xfffff),
  hi: fc.constantFrom(0, 1, -1, 0x7fffffff, 0x10000),
  lo: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
  shift: fc.constantFrom(12, 13, 21, 25, 30, 39, 57),
  ppn: fc.integer({ min: 0, max: 2 ** 44 - 1 }),
  guest: fc.integer({ min: 0, max: 2 ** 47 - 1 }),
  global: fc.boolean(),
});

const pageOf = (m: Mapping): number => (m.hi >>> 0) * 2 ** 20 + (m.lo >>> 12);
const spanOf = (m: Mapping): number => 2 ** ((m.shift >= 30 ? 30 : m.shift >= 21 ? 21 : 12) - 12);

describe('the IOTLB', () => {
  it('finds what was put in, at the same offset, for that address space only', () => {
    fc.assert(
      fc.property(mapping, fc.nat(4095), (any, offset) => {
        const tlb = new Iotlb(64);
        // A large page lies alike in both address spaces.
        const span = spanOf(any);
        const m = { ...any, ppn: any.ppn - (any.ppn % span) + (pageOf(any) % span) };
        put(tlb, m);
        const lo = (m.lo & ~4095) | offset;
        const at = find(tlb, { ...m, lo });
        expect(at).toBeGreaterThanOrEqual(0);
        expect(tlb.address(at, lo)).toBe(m.ppn * 4096 + offset);
        expect(tlb.rights(at)).toBe(3);
        expect(tlb.shift(at)).toBeLessThanOrEqual(m.shift);
        expect(find(tlb, { ...m, gscid: m.gscid === 7 ? 8 : 7 })).toBe(-1);
        expect(find(tlb, { ...m, pscid: 77 })).toBe(-1);
        expect(find(tlb, { ...m, hi: m.hi ^ 0x100000 })).toBe(-1);
        expect(tlb.lookup(spaceTag(m.gscid, true, false), processTag(m.pscid), m.hi, lo)).toBe(-1);
      }),
      { numRuns: 500 },
    );
  });

  it('covers the whole of a large page, and no more', () => {
    const tlb = new Iotlb(64);
    put(tlb, { gscid: 1, pscid: 2, hi: 0, lo: 0x40_3000, shift: 21, ppn: 0x1003, guest: 3, global: false });
    const at = (lo: number): number => find(tlb, { gscid: 1, pscid: 2, hi: 0, lo });
    expect(tlb.address(at(0x40_0000), 0x40_0000)).toBe(0x100_0000);
    expect(tlb.address(at(0x5f_ffff), 0x5f_ffff)).toBe(0x11f_ffff);
    expect([at(0x3f_ffff), at(0x60_0000)]).toEqual([-1, -1]);
  });

  it('stays within its bounds', () => {
    const tlb = new Iotlb(64);
    for (let i = 0; i < 1000; i++)
      put(tlb, { gscid: 1, pscid: i, hi: 0, lo: i * 4096, shift: 12, ppn: i, guest: i, global: false });
    expect(tlb.size).toBe(tlb.capacity);
    // The youngest is always still there.
    expect(find(tlb, { gscid: 1, pscid: 999, hi: 0, lo: 999 * 4096 })).toBeGreaterThanOrEqual(0);
    tlb.clear();
    expect(tlb.size).toBe(0);
  });

  it('a second insertion of a page replaces the first', () => {
    const tlb = new Iotlb(64);
    const m: Mapping = { gscid: 1, pscid: 1, hi: 0, lo: 0x1000, shift: 12, ppn: 5, guest: 5, global: false };
    put(tlb, m);
    put(tlb, { ...m, ppn: 6 });
    expect(tlb.size).toBe(1);
    expect(tlb.address(find(tlb, m), 0x1000)).toBe(0x6000);
  });

  const touches = (page: number, span: number, range: { first: number; last: number }): boolean => {
    const first = page - (page % span);
    return first <= range.last && first + span - 1 >= range.first;
  };
  const command = fc.record({
    second: fc.boolean(),
    gscid: fc.constantFrom(-1, 0, 1, 0xffff),
    pscid: fc.constantFrom(-1, 0, 1, 0xfffff),
    ranged: fc.constantFrom(undefined, false, true),
    which: fc.nat(9),
    bits: fc.nat(12),
  });

  it('invalidation drops exactly what the specification names', () => {
    fc.assert(
      fc.property(fc.array(mapping, { minLength: 1, maxLength: 10 }), command, (mappings, c) => {
        for (const m of mappings) {
          // One entry at a time: what happens to it depends on nothing else.
          const tlb = new Iotlb(64);
          put(tlb, m);
          const target = mappings[c.which % mappings.length]!;
          const page = BigInt(c.second ? target.guest : pageOf(target));
          const address = c.ranged ? page | ((1n << BigInt(c.bits)) - 1n) : page;
          const range = c.ranged === undefined ? undefined : invalidatedRange(address, c.ranged);
          const dropped = c.second
            ? tlb.invalidateSecondStage(c.gscid, range)
            : tlb.invalidateFirstStage(c.gscid, c.pscid, range);
          const expected = c.second
            ? m.gscid >= 0 && (c.gscid < 0 || c.gscid === m.gscid) && (!range || touches(m.guest, spanOf(m), range))
            : m.gscid === c.gscid &&
              (c.pscid < 0 || (c.pscid === m.pscid && !m.global)) &&
              (!range || touches(pageOf(m), spanOf(m), range));
          expect([dropped, tlb.size]).toEqual(expected ? [1, 0] : [0, 1]);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('reads ranges as §8.3 spells them', () => {
    expect(invalidatedRange(0x10n, false)).toEqual({ first: 16, last: 16 });
    expect(invalidatedRange(0x10n, true)).toEqual({ first: 16, last: 17 });
    expect(invalidatedRange(0x17n, true)).toEqual({ first: 16, last: 31 });
    expect(invalidatedRange((1n << 51n) - 1n, true)).toEqual({ first: 0, last: 2 ** 52 - 1 });
  });
});
