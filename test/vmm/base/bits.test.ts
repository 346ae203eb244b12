import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { register } from '#vmm/base/bits';

const sample = register({
  width: 64,
  spec: 'test',
  fields: {
    en: { bits: 0 },
    err: { bits: [9, 8], access: 'w1c' },
    on: { bits: 16, access: 'ro' },
    key: { bits: [23, 20], access: 'wo' },
    base: { bits: [53, 24] },
  },
});
const any64 = fc.bigInt(0n, (1n << 64n) - 1n);

describe('register', () => {
  it('decodes what it encodes', () => {
    fc.assert(fc.property(any64, (raw) => {
      const known = raw & ~sample.reserved;
      expect(sample.encode(sample.decode(known))).toBe(known);
    })); // prettier-ignore
  });
  it('keeps reserved and read-only bits from software, and clears only what is written as 1', () => {
    fc.assert(fc.property(any64, any64, (old, value) => {
      const now = sample.write(old, value);
      expect(now & (sample.reserved | sample.mask('on'))).toBe(old & (sample.reserved | sample.mask('on')));
      expect(now & sample.mask('err')).toBe(old & ~value & sample.mask('err'));
      expect(now & sample.mask('base')).toBe(value & sample.mask('base'));
      expect(sample.read(now) & sample.mask('key')).toBe(0n);
    })); // prettier-ignore
  });
  it('refuses overlapping and out-of-range fields, and values that do not fit', () => {
    expect(() => register({ width: 32, spec: 't', fields: { a: { bits: [3, 0] }, b: { bits: 3 } } })).toThrow(
      /overlap/,
    );
    expect(() => register({ width: 32, spec: 't', fields: { a: { bits: 32 } } })).toThrow(/outside/);
    expect(() => sample.encode({ en: 2n })).toThrow(/does not fit/);
  });
});
