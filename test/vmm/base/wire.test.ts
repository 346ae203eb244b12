import fc from 'fast-check';
import { expect, it } from 'vitest';
import { bytes, struct, u16, u32, u64, u8 } from '#vmm/base/wire';

const sample = struct('sample', { a: u8, b: u16, c: u32, d: u64, e: bytes(3) });

it('lays members out as C does', () => {
  expect(sample.members.map((m) => m.offset)).toEqual([0, 2, 4, 8, 16]);
  expect(sample.size).toBe(24);
});
it('decodes what it encodes, at any offset', () => {
  fc.assert(
    fc.property(
      fc.record({
        a: fc.nat(255),
        b: fc.nat(65535),
        c: fc.nat(0xffffffff),
        d: fc.bigInt(0n, (1n << 64n) - 1n),
        e: fc.uint8Array({ minLength: 3, maxLength: 3 }),
      }),
      fc.nat(7),
      (values, at) => {
        const buffer = new Uint8Array(sample.size + at);
        sample.encodeInto(buffer, values, at);
        expect(sample.decode(buffer, at)).toEqual(values);
      },
    ),
  );
});
it('names a member that does not exist', () => {
  expect(() => sample.encode({ nope: 1 } as never)).toThrow('no member nope');
});
