import { crc32 as zlibCrc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  crc32,
  decodeDiskHeader,
  diskLayout,
  encodeDiskHeader,
  expectedWriteback,
  makeDiskImage,
} from '#guest-images/disk-image';

describe('crc32', () => {
  it('is the one of zlib', () => {
    expect(crc32(new TextEncoder().encode('123456789'))).toBe(0xcbf43926);
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => crc32(bytes) === zlibCrc32(bytes)));
  });
});

describe('the disk header', () => {
  const offset = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
  const header = fc.record({
    dataOffset: offset,
    dataBytes: offset,
    dataCrc32: fc.integer({ min: 0, max: 0xffffffff }),
    writebackOffset: offset,
    writebackBytes: offset,
  });

  it('decodes to what was encoded', () => {
    fc.assert(
      fc.property(header, (h) => {
        expect(decodeDiskHeader(encodeDiskHeader(h))).toEqual(h);
      }),
    );
  });

  it('is not found in other bytes, a short file or another version', () => {
    const bytes = encodeDiskHeader({
      dataOffset: 1,
      dataBytes: 2,
      dataCrc32: 3,
      writebackOffset: 4,
      writebackBytes: 5,
    });
    expect(decodeDiskHeader(new Uint8Array(4096))).toBeUndefined();
    expect(decodeDiskHeader(bytes.subarray(0, 4095))).toBeUndefined();
    bytes[8] = 2;
    expect(decodeDiskHeader(bytes)).toBeUndefined();
  });
});

describe('the disk image', () => {
  const image = makeDiskImage(7);

  it('is 24 MiB and says where its data is, and their CRC', () => {
    expect(image.length).toBe(24 << 20);
    const header = decodeDiskHeader(image);
    expect(header).toMatchObject({ dataOffset: 1 << 20, dataBytes: 8 << 20, writebackOffset: 16 << 20 });
    expect(header?.dataCrc32).toBe(crc32(image.subarray(1 << 20, 9 << 20)));
  });

  it('follows from the seed', () => {
    expect(Buffer.compare(makeDiskImage(7), image)).toBe(0);
    expect(decodeDiskHeader(makeDiskImage(8))?.dataCrc32).not.toBe(decodeDiskHeader(image)?.dataCrc32);
    expect(new Set(makeDiskImage(0).subarray(1 << 20, (1 << 20) + 4096)).size).toBeGreaterThan(200);
  });

  it('leaves the write-back area empty, for the pattern that the guest writes', () => {
    const area = image.subarray(diskLayout.writebackOffset, diskLayout.writebackOffset + diskLayout.writebackBytes);
    expect(area.every((byte) => byte === 0)).toBe(true);
    const pattern = expectedWriteback();
    expect(pattern.length).toBe(area.length);
    expect(crc32(pattern)).toBe(0x2c19182a);
  });
});
