import * as zlib from 'node:zlib';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { crc32 } from '#vmm/base/crc32';

/** The last 8 bytes of a gzip file are the sum and the length (RFC 1952 §2.3.1). */
const theirs = (bytes: Uint8Array): number => zlib.gzipSync(bytes).readUInt32LE(zlib.gzipSync(bytes).length - 8);

it('is the sum that gzip files carry, at every length and place', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(8), (bytes, from) => {
      const part = bytes.subarray(Math.min(from, bytes.length));
      expect(crc32(part)).toBe(theirs(part));
    }),
  );
});
