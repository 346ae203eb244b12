import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { noPasid } from '#vmm/base/ports';
import { TranslationCache, permission, permissionsOf, tagOf } from '#devices/ats/atc';
import { decodeRange } from '#devices/ats/invalidation';

/** A message body for 2^shift bytes at `address` (PCI Express Base 6.0 §10.3.1). */
const body = (address: bigint, shift: number, isGlobal = false): { hi: number; lo: number } => {
  const size = BigInt(shift);
  const base = (address >> size) << size;
  const ones = shift > 12 ? (((1n << (size - 1n)) - 1n) & ~0xfffn) | 0x800n : 0n;
  const value = BigInt.asUintN(64, base | ones | (isGlobal ? 1n : 0n));
  return { hi: Number(value >> 32n), lo: Number(value & 0xffff_ffffn) };
};
const range = () => ({ hi: 0, lo: 0, shift: 0, isGlobal: false });

describe('ranges', () => {
  it('decode as they are encoded, at every size', () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        fc.integer({ min: 12, max: 64 }),
        fc.boolean(),
        (address, shift, isGlobal) => {
          const { hi, lo } = body(address, shift, isGlobal);
          const base = BigInt.asUintN(64, (address >> BigInt(shift)) << BigInt(shift));
          expect(decodeRange(hi, lo, range())).toEqual({ hi: Number(base >> 32n), lo: Number(base & 0xffff_ffffn), shift, isGlobal }); // prettier-ignore
        },
      ),
    );
  });

  it('knows the patterns of the specification', () => {
    // S set, bit 12 clear: 8 KiB; 31 clear: 4 GiB; all set: everything.
    expect(decodeRange(0, 0x0000_4800, range())).toMatchObject({ shift: 13, lo: 0x4000 });
    expect(decodeRange(5, 0x7fff_f800, range())).toMatchObject({ shift: 32, hi: 5, lo: 0 });
    expect(decodeRange(0xffff_ffff, 0xffff_f800, range())).toMatchObject({ shift: 64, hi: 0, lo: 0 });
    expect(decodeRange(0x7fff_ffff, 0xffff_f800, range())).toMatchObject({ shift: 64 });
  });
});

interface Kept {
  readonly tag: number;
  readonly first: bigint;
  readonly shift: number;
  readonly to: bigint;
  readonly rights: number;
}
const half = (value: bigint): [number, number] => [Number(value >> 32n), Number(value & 0xffff_ffffn)];

describe('the cache', () => {
  it('never serves what was not filled, or was invalidated', () => {
    const page = fc.bigInt({ min: 0n, max: 63n }).map((n) => (n * 0x1000n) | (n % 3n === 0n ? 0xffff_ff00_0000_0000n : 0n)); // prettier-ignore
    const pasid = fc.constantFrom(noPasid, 0, 1, 0xf_ffff);
    const shift = fc.constantFrom(12, 12, 13, 16, 21, 39);
    const step = fc.oneof(
      fc.record({ do: fc.constant('fill' as const), page, pasid, shift, rights: fc.integer({ min: 1, max: 7 }), to: fc.bigInt({ min: 0n, max: 2n ** 52n - 1n }) }),
      fc.record({ do: fc.constant('invalidate' as const), page, pasid, shift: fc.constantFrom(12, 13, 14, 18, 40, 64), isGlobal: fc.boolean() }),
      fc.record({ do: fc.constant('flush' as const) }),
    ); // prettier-ignore
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), fc.constantFrom(4, 16, 256), (steps, entries) => {
        let completed = 0;
        const cache = new TranslationCache(entries, 4, () => completed++);
        let model: Kept[] = [];
        let invalidations = 0;
        for (const s of steps) {
          if (s.do === 'flush') {
            cache.flush();
            model = [];
          } else if (s.do === 'fill') {
            const tag = tagOf(s.pasid, false);
            const slot = cache.watch(tag, ...half(s.page));
            const size = BigInt(s.shift);
            const to = (s.to >> size) << size;
            cache.fill(slot, s.shift, ...half(to), s.rights);
            cache.release(slot);
            const first = (s.page >> size) << size;
            model = model.filter((m) => m.tag !== tag || m.first !== first || m.shift !== s.shift);
            model.push({ tag, first, shift: s.shift, to, rights: s.rights });
          } else {
            cache.invalidate({ itag: 1, pasid: s.pasid, ...body(s.page, s.shift, s.isGlobal) });
            invalidations++;
            const isOf = (tag: number): boolean => {
              const cached = (tag >> 1) - 1;
              return cached === s.pasid || (s.isGlobal && s.pasid !== noPasid && cached !== noPasid);
            };
            model = model.filter(({ tag, first, shift }) => {
              const wider = BigInt(Math.max(shift, s.shift));
              return !isOf(tag) || BigInt.asUintN(64, first) >> wider !== s.page >> wider;
            });
          }
          expect(cache.valid).toBeLessThanOrEqual(Math.min(entries, model.length));
          for (let n = 0n; n < 64n; n++)
            for (const p of [noPasid, 0, 1]) {
              const address = (n * 0x1000n) | (n % 3n === 0n ? 0xffff_ff00_0000_0000n : 0n) | 0x123n;
              for (const rights of [permission.read, permission.write]) {
                if (!cache.lookup(tagOf(p, false), ...half(address), rights)) continue;
                const got = (BigInt(cache.hitHi) << 32n) | BigInt(cache.hitLo);
                const matches = model.filter(
                  (m) => m.tag === tagOf(p, false) && (m.rights & rights) === rights && address >> BigInt(m.shift) === m.first >> BigInt(m.shift),
                ); // prettier-ignore
                expect(matches.map((m) => m.to | (address & ((1n << BigInt(m.shift)) - 1n)))).toContain(got);
              }
            }
        }
        expect(completed).toBe(invalidations);
      }),
      { numRuns: 60 },
    );
  });

  it('finds again what it was given, while there is room', () => {
    const cache = new TranslationCache(64, 4, () => {});
    for (let n = 0; n < 3; n++) {
      const slot = cache.watch(tagOf(3, true), 0, n * 0x1000);
      cache.fill(slot, 12, 1, n * 0x2000, permission.read);
      cache.release(slot);
    }
    expect(cache.lookup(tagOf(3, true), 0, 0x2abc, permission.read)).toBe(true);
    expect([cache.hitHi, cache.hitLo]).toEqual([1, 0x4abc]);
    expect(cache.lookup(tagOf(3, true), 0, 0x2abc, permission.write)).toBe(false);
    expect(cache.lookup(tagOf(3, false), 0, 0x2abc, permission.read)).toBe(false);
  });

  it('completes an invalidation when the last use of its range is released, each exactly once', () => {
    const order: number[] = [];
    const cache = new TranslationCache(16, 8, (itag) => order.push(itag));
    const slots = [0x1000, 0x2000, 0x1000].map((lo) => cache.watch(tagOf(1, false), 0, lo));
    for (const slot of slots) cache.use(slot);
    cache.invalidate({ itag: 0, pasid: 1, hi: 0, lo: 0x1000 });
    cache.invalidate({ itag: 31, pasid: 1, ...body(0n, 64) });
    cache.invalidate({ itag: 5, pasid: 2, ...body(0n, 64) });
    expect(order).toEqual([5]);
    cache.release(slots[0]!);
    cache.release(slots[2]!);
    expect(order).toEqual([5, 0]);
    cache.release(slots[1]!);
    expect(order).toEqual([5, 0, 31]);
    const again = cache.watch(tagOf(1, false), 0, 0x1000);
    expect(cache.isStale(again)).toBe(false);
    cache.invalidate({ itag: 0, pasid: 1, hi: 0, lo: 0x1000 });
    expect([cache.isStale(again), order.at(-1)]).toEqual([true, 0]);
  });

  it('a completion’s rights', () => {
    const completion = { status: 'success', hi: 0, lo: 0, shift: 12, read: true, write: false, execute: true, privileged: false, global: true, untranslatedOnly: true } as const; // prettier-ignore
    expect(permissionsOf(completion)).toBe(permission.read | permission.execute | permission.untranslatedOnly);
  });
});
