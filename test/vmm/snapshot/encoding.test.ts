import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Data, SavedError } from '#vmm/base/saved';
import { decodeData, encodeData } from '#vmm/snapshot/encoding';

const scalar = fc.oneof(
  fc.constant(undefined),
  fc.boolean(),
  fc.double(),
  fc.integer(),
  fc.maxSafeInteger(),
  fc.constantFrom(Infinity, -0, 2 ** 31, -(2 ** 31), 2 ** 40),
  fc.bigInt(),
  fc.string(),
);
const arrays = fc.oneof(
  fc.uint8Array(),
  fc.uint16Array(),
  fc.uint32Array(),
  fc.int32Array(),
  fc.float64Array(),
  fc.bigUint64Array(),
);
const { data } = fc.letrec<{ data: Data }>((tie) => ({
  data: fc.oneof(
    { maxDepth: 5, depthSize: 'small' },
    scalar,
    arrays,
    fc.array(tie('data'), { maxLength: 6 }),
    fc.dictionary(fc.oneof(fc.string(), fc.constant('__proto__')), tie('data'), { maxKeys: 6, noNullPrototype: true }),
  ),
}));

describe('plain data', () => {
  it('comes back as it was', () => {
    fc.assert(
      fc.property(data, (value) => {
        expect(decodeData(encodeData(value))).toStrictEqual(value);
      }),
    );
  });

  it('has holes of lists as undefined', () => {
    const sparse: Data[] = [];
    sparse[2] = 1;
    expect(decodeData(encodeData(sparse))).toEqual([undefined, undefined, 1]);
  });

  it('is refused where bytes are missing, and never throws anything else for nonsense', () => {
    fc.assert(
      fc.property(data, fc.nat(), (value, at) => {
        const bytes = encodeData(value);
        expect(() => decodeData(bytes.subarray(0, at % bytes.length))).toThrow(SavedError);
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decodeData(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(SavedError);
        }
      }),
    );
  });
});
