import { deflateRawSync, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Packing, plainPacking, SnapshotError, SnapshotFile, writeSnapshot } from '#vmm/snapshot/container';

const deflate: Packing = {
  name: 'deflate',
  pack: (bytes) => deflateRawSync(bytes),
  unpack: (bytes) => inflateRawSync(bytes),
};
const sections = [
  { name: 'one', data: { a: 1, b: [2n, undefined] } },
  { name: 'two', data: new Uint8Array(5000) },
];
const fileOf = (packing = plainPacking): Uint8Array =>
  Uint8Array.from([...writeSnapshot({ said: 'by the test' }, sections, packing)].flatMap((piece) => [...piece]));

describe('the file of a snapshot', () => {
  it.each([plainPacking, deflate])('holds its header and sections ($name)', (packing) => {
    const file = new SnapshotFile(fileOf(packing));
    expect(file.header).toEqual({ said: 'by the test' });
    expect(file.packing).toBe(packing.name);
    expect(file.names).toEqual(['one', 'two']);
    for (const { name, data } of sections) expect(file.read(name, packing)).toEqual(data);
    expect(file.sizes()[1]!.unpacked).toBeGreaterThan(5000);
    expect(() => file.read('three', packing)).toThrow('the snapshot has no section three');
  });

  it('says what another file is', () => {
    expect(() => new SnapshotFile(new Uint8Array(4))).toThrow('expected a snapshot, found another kind of file');
    const other = fileOf();
    other[8] = 200;
    expect(() => new SnapshotFile(other)).toThrow(
      'expected a snapshot of format 2, found format 200: another version of iommulab wrote it',
    );
  });

  it('says where it is cut off', () => {
    const whole = fileOf();
    fc.assert(
      fc.property(fc.integer({ min: 12, max: whole.length - 1 }), (length) => {
        expect(() => new SnapshotFile(whole.subarray(0, length))).toThrow(`it ends at byte ${length}`);
      }),
    );
  });

  it('finds every bit that changed', () => {
    const whole = fileOf(deflate);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: whole.length * 8 - 1 }), (bit) => {
        const bytes = whole.slice();
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        expect(() => new SnapshotFile(bytes)).toThrow(SnapshotError);
      }),
      { numRuns: 500 },
    );
  });
});
