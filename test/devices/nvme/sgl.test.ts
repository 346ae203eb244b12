import { describe, expect, it } from 'vitest';
import { memoryStorage } from '#devices/backends/storage/memory';
import { type Driver, pattern, ready } from './driver.ts';

const block = 0x00;
const bucket = 0x10;
const segment = 0x20;
const lastSegment = 0x30;
interface Descriptor {
  readonly type: number;
  readonly at?: number;
  readonly bytes: number;
}
const psdtSgl = 0x4000;

const put = (d: Driver, at: number, descriptors: readonly Descriptor[]): void =>
  descriptors.forEach(({ type, at: address, bytes }, i) => {
    d.setU64(at + i * 16, address ?? 0);
    d.port.view.setUint32(at + i * 16 + 8, bytes, true);
    d.port.view.setUint32(at + i * 16 + 12, (type << 24) >>> 0, true);
  });
const run = (d: Driver, opcode: number, blocks: number, first: Descriptor, flags = psdtSgl): number => {
  const pair = d.pairs[1]!;
  const at = pair.sq + pair.tail * 64;
  const cid = d.queue(1, { opcode, nsid: 1, flags, cdw: [2, 0, blocks - 1] });
  put(d, at + 24, [first]);
  d.ring(1);
  d.run();
  return d.reap(1).find((c) => c.cid === cid)!.code;
};

describe('scatter gather lists', () => {
  it('reads and writes through blocks, buckets and chained segments of any alignment', () => {
    const content = pattern(1 << 20, 21);
    const d = ready({ backend: memoryStorage(content) });
    const data = 0x40000;
    expect(run(d, 0x02, 2, { type: block, at: data + 3, bytes: 1024 })).toBe(0);
    expect(d.peek(data + 3, 1024)).toEqual(content.slice(1024, 2048));

    const list = 0x30000;
    put(d, list, [
      { type: block, at: data + 1, bytes: 100 },
      { type: bucket, bytes: 412 },
      { type: block, at: data + 5000, bytes: 0 },
      { type: segment, at: list + 256, bytes: 32 },
    ]);
    put(d, list + 256, [
      { type: block, at: data + 9001, bytes: 512 },
      { type: lastSegment, at: list + 512, bytes: 16 },
    ]);
    put(d, list + 512, [{ type: block, at: data + 101, bytes: 99_999 }]);
    expect(run(d, 0x02, 4, { type: segment, at: list, bytes: 64 })).toBe(0);
    expect(d.peek(data + 1, 100)).toEqual(content.slice(1024, 1124));
    expect(d.peek(data + 9001, 512)).toEqual(content.slice(1536, 2048));
    expect(d.peek(data + 101, 1024)).toEqual(content.slice(2048, 3072));

    d.poke(data + 0x4000, pattern(4096, 5));
    put(d, list, [
      { type: bucket, bytes: 77 },
      { type: block, at: data + 0x4001, bytes: 500 },
      { type: block, at: data + 0x4101, bytes: 524 },
    ]);
    expect(run(d, 0x01, 2, { type: lastSegment, at: list, bytes: 48 })).toBe(0);
    expect(content.slice(1024, 1524)).toEqual(pattern(4096, 5).slice(1, 501));
    expect(content.slice(1524, 2048)).toEqual(pattern(4096, 5).slice(0x101, 0x101 + 524));
  });

  it.each<[string, Descriptor, Descriptor[], number, number?]>([
    ['too little memory', { type: block, at: 0x40000, bytes: 1023 }, [], 0x00f],
    [
      'a segment with too little memory',
      { type: lastSegment, at: 0x30000, bytes: 16 },
      [{ type: block, at: 0x40000, bytes: 8 }],
      0x00f,
    ],
    ['a segment of an odd length', { type: lastSegment, at: 0x30000, bytes: 24 }, [], 0x00d],
    ['an empty segment', { type: segment, at: 0x30000, bytes: 0 }, [], 0x00d],
    [
      'a segment that leads nowhere',
      { type: segment, at: 0x30000, bytes: 16 },
      [{ type: block, at: 0x40000, bytes: 1024 }],
      0x00d,
    ],
    [
      'a pointer in the last segment',
      { type: lastSegment, at: 0x30000, bytes: 16 },
      [{ type: segment, at: 0x30000, bytes: 16 }],
      0x00d,
    ],
    [
      'a pointer before the end of a segment',
      { type: segment, at: 0x30000, bytes: 32 },
      [{ type: segment, at: 0x30000, bytes: 16 }],
      0x00d,
    ],
    [
      'a segment that points to itself',
      { type: segment, at: 0x30000, bytes: 16 },
      [{ type: segment, at: 0x30000, bytes: 16 }],
      0x00e,
    ],
    ['a segment of 4 GiB of nothing', { type: lastSegment, at: 0x30000, bytes: 0xffff_fff0 }, [], 0x00e],
    ['a descriptor of an unknown type', { type: 0x50, at: 0x40000, bytes: 1024 }, [], 0x011],
    ['an unknown subtype', { type: 0x01, at: 0x40000, bytes: 1024 }, [], 0x011],
    ['a segment that faults', { type: segment, at: 2 ** 40, bytes: 16 }, [], 0x004],
    ['memory that faults', { type: block, at: 2 ** 40, bytes: 1024 }, [], 0x004],
    ['both bits of PSDT', { type: block, at: 0x40000, bytes: 1024 }, [], 0x002, 0xc000],
  ])('refuses %s', (_what, first, list, code, flags) => {
    const d = ready();
    put(d, 0x30000, list);
    expect(run(d, 0x02, 2, first, flags)).toBe(code);
    expect(run(d, 0x01, 2, first, flags)).toBe(code);
    d.expectOk({ opcode: 0, nsid: 1 }, 1);
  });

  it('is not for admin commands', () => {
    expect(ready().admin({ opcode: 0x06, flags: psdtSgl, prp1: 0x40000, cdw: [1] }).code).toBe(0x002);
  });
});
