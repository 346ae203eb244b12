import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Clock } from '#vmm/base/clock';
import { hub } from '#devices/backends/packet/hub';
import { addWords, fold, toeplitz } from '#devices/nic/checksum';
import { noHeaders, parse } from '#devices/nic/headers';
import { TestDriver, adapter, rxPlace } from './driver.ts';

const pair = (options: Parameters<TestDriver['start']>[0] = {}) => {
  const clock = new Clock();
  const ports = hub(2);
  const a = new TestDriver(adapter(1, clock, ports[0]!));
  const b = new TestDriver(adapter(2, clock, ports[1]!));
  a.start(options);
  b.start(options);
  return { clock, a, b };
};

/** RFC 1071 in the plainest way, to judge the fast one. */
const plainSum = (bytes: Uint8Array): number => {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
};
const half = (b: Uint8Array, at: number): number => (b[at]! << 8) | b[at + 1]!;
const put = (b: Uint8Array, at: number, value: number): void => {
  b[at] = value >>> 8;
  b[at + 1] = value;
};
const pseudoSum = (ip: Uint8Array, version: 4 | 6, protocol: number, length: number): number => {
  const addresses = version === 4 ? ip.subarray(12, 20) : ip.subarray(8, 40);
  return fold(plainSum(addresses) + protocol + length);
};

interface Packet {
  version: 4 | 6;
  protocol: 6 | 17;
  payload: number;
  /** Fill the checksums in. */
  sums?: boolean;
  flags?: number;
}
const ipAt = 14;
const ipBytes = (p: Packet): number => (p.version === 4 ? 20 : 40);
const l4Bytes = (p: Packet): number => (p.protocol === 6 ? 20 : 8);
const l4At = (p: Packet): number => ipAt + ipBytes(p);
const sumAt = (p: Packet): number => l4At(p) + (p.protocol === 6 ? 16 : 6);

const packet = (to: Uint8Array, from: Uint8Array, p: Packet): Uint8Array => {
  const length = l4At(p) + l4Bytes(p) + p.payload;
  const f = Uint8Array.from({ length }, (_, i) => (i * 7 + (i >>> 8) * 13) & 0xff);
  f.set(to);
  f.set(from, 6);
  const l4 = l4At(p);
  if (p.version === 4) {
    put(f, 12, 0x0800);
    f.set([0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, p.protocol, 0, 0, 66, 9, 149, 187, 161, 142, 100, 80], ipAt);
    put(f, ipAt + 2, length - ipAt);
  } else {
    put(f, 12, 0x86dd);
    f.fill(0, ipAt, l4);
    f.set([0x60, 0, 0, 0, 0, 0, p.protocol, 64], ipAt);
    put(f, ipAt + 4, length - l4);
    f.set([0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00, 0x1f, 0xff, 0, 0, 0, 0, 0, 0, 0, 7], ipAt + 8);
    f.set([0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00, 0x00, 0x03, 0, 0, 0, 0, 0, 0, 0, 1], ipAt + 24);
  }
  put(f, l4, 2794);
  put(f, l4 + 2, 1766);
  if (p.protocol === 6) {
    f.set([0xff, 0xff, 0xff, 0x00, 0, 0, 0, 9, 0x50, p.flags ?? 0x18, 1, 0, 0, 0, 0, 0], l4 + 4);
  } else {
    put(f, l4 + 4, length - l4);
    put(f, l4 + 6, 0);
  }
  if (p.sums) {
    if (p.version === 4) put(f, ipAt + 10, ~plainSum(f.subarray(ipAt, l4)) & 0xffff);
    const pseudo = pseudoSum(f.subarray(ipAt), p.version, p.protocol, length - l4);
    put(f, sumAt(p), ~fold(pseudo + plainSum(f.subarray(l4))) & 0xffff);
  }
  return f;
};
const isValid = (f: Uint8Array, p: Packet): boolean => {
  const l4 = l4At(p);
  const ip = p.version === 6 || plainSum(f.subarray(ipAt, l4)) === 0xffff;
  const pseudo = pseudoSum(f.subarray(ipAt), p.version, p.protocol, f.length - l4);
  return ip && fold(pseudo + plainSum(f.subarray(l4))) === 0xffff;
};
/** As a driver does: the sum of the pseudo header waits in the field. */
const seedPseudo = (f: Uint8Array, p: Packet, withLength: boolean): void =>
  put(f, sumAt(p), pseudoSum(f.subarray(ipAt), p.version, p.protocol, withLength ? f.length - l4At(p) : 0));
const contextOf = (p: Packet, more: { paylen?: number; hdrlen?: number; mss?: number } = {}) => ({
  ipcss: ipAt,
  ipcso: ipAt + 10,
  ipcse: p.version === 4 ? l4At(p) - 1 : 0,
  tucss: l4At(p),
  tucso: sumAt(p),
  tucse: 0,
  tucmd: (p.protocol === 6 ? 1 : 0) | (p.version === 4 ? 2 : 0),
  ...more,
});

const kinds: Packet[] = [
  { version: 4, protocol: 6, payload: 701 },
  { version: 4, protocol: 17, payload: 700 },
  { version: 6, protocol: 6, payload: 1 },
  { version: 6, protocol: 17, payload: 333 },
];
const name = (p: Packet): string => `${p.protocol === 6 ? 'TCP' : 'UDP'} over IPv${p.version}`;
const named = kinds.map((p) => [name(p), p] as const);

test('the checksum is RFC 1071 at any alignment and length', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(7), fc.nat(40), (bytes, shift, first) => {
      const padded = new Uint8Array(bytes.length + shift);
      padded.set(bytes, shift);
      const view = padded.subarray(shift);
      const from = Math.min(first, view.length);
      expect(fold(addWords(view, from, view.length, 0))).toBe(plainSum(view.subarray(from)));
    }),
  );
});

test('header parsing never reads beyond and never throws', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 60, maxLength: 120 }),
      fc.constantFrom(0x0800, 0x86dd, 0x8100),
      (bytes, type) => {
        put(bytes, 12, type);
        bytes[14] = bytes[14]! & 1 ? 0x45 : 0x60;
        const h = noHeaders();
        parse(h, bytes, bytes.length, 0x8100);
        expect(h.payloadOffset).toBeLessThanOrEqual(bytes.length);
        if (h.ip !== 0) expect(h.ipEnd).toBeLessThanOrEqual(bytes.length);
      },
    ),
  );
});

describe('checksum insertion', () => {
  test.each(named)('%s', (_, p) => {
    const { clock, a, b } = pair();
    const f = packet(b.on.mac, a.on.mac, p);
    seedPseudo(f, p, true);
    a.context(0, contextOf(p));
    a.queue(f, 0, { popts: p.version === 4 ? 3 : 2, cuts: [14] });
    a.doorbell();
    clock.advance(20_000);
    const got = b.take()[0]!.bytes;
    expect(isValid(got.subarray(0, f.length), p)).toBe(true);
    expect(got.subarray(0, f.length)).toEqual(packet(b.on.mac, a.on.mac, { ...p, sums: true }));
  });

  test('the context stays for later frames', () => {
    const { clock, a, b } = pair();
    const p = kinds[0]!;
    a.context(0, contextOf(p));
    for (let i = 0; i < 3; i++) {
      const f = packet(b.on.mac, a.on.mac, p);
      seedPseudo(f, p, true);
      a.queue(f, 0, { popts: 3 });
    }
    a.doorbell();
    clock.advance(50_000);
    expect(b.take().map((r) => isValid(r.bytes, p))).toEqual([true, true, true]);
  });

  test('legacy descriptors: CSS, CSO, IC', () => {
    const { clock, a, b } = pair();
    const p = kinds[0]!;
    const f = packet(b.on.mac, a.on.mac, p);
    const whole = packet(b.on.mac, a.on.mac, { ...p, sums: true });
    f[ipAt + 10] = whole[ipAt + 10]!;
    f[ipAt + 11] = whole[ipAt + 11]!;
    seedPseudo(f, p, true);
    const buffer = 0x60_0000;
    a.on.memory.memory.set(f, buffer);
    a.descriptor(0, BigInt(buffer), f.length | (sumAt(p) << 16) | (0x0f << 24), l4At(p) << 8);
    a.doorbell();
    clock.advance(20_000);
    expect(b.take()[0]!.bytes).toEqual(whole);
  });
});

describe('segmentation', () => {
  test.each([
    ['TCP over IPv4', { version: 4, protocol: 6, payload: 20_000 }, 1448],
    ['TCP over IPv6', { version: 6, protocol: 6, payload: 10_001 }, 1428],
    ['UDP over IPv4', { version: 4, protocol: 17, payload: 5000 }, 1000],
    ['one short segment', { version: 4, protocol: 6, payload: 10 }, 1448],
    ['more frames than one event sends', { version: 4, protocol: 6, payload: 6000 }, 100],
  ] as [string, Packet, number][])('%s', (_, p, mss) => {
    const { clock, a, b } = pair();
    const f = packet(b.on.mac, a.on.mac, { ...p, flags: 0x19 });
    const header = l4At(p) + l4Bytes(p);
    const large = 0x60_0000;
    if (p.version === 4) put(f, ipAt + 2, 0);
    else put(f, ipAt + 4, 0);
    seedPseudo(f, p, false);
    a.on.memory.memory.set(f, large);
    a.context(0, contextOf(p, { paylen: p.payload, hdrlen: header, mss }));
    const data = (1 << 29) | (1 << 20) | (1 << 26);
    a.descriptor(0, BigInt(large), header | data, 3 << 8);
    for (let at = header; at < f.length; at += 8192) {
      const last = at + 8192 >= f.length;
      a.descriptor(0, BigInt(large + at), Math.min(8192, f.length - at) | data | (last ? 9 << 24 : 0), 3 << 8);
    }
    a.doorbell();
    const got: Uint8Array[] = [];
    for (let i = 0; i < 100; i++) {
      clock.advance(20_000);
      got.push(...b.take().map((r) => r.bytes));
    }
    const count = Math.ceil(p.payload / mss);
    expect(got.length).toBe(count);
    const payload: number[] = [];
    for (const [i, segment] of got.entries()) {
      const bytes = Math.min(mss, p.payload - i * mss);
      const exact = segment.subarray(0, header + bytes);
      expect(segment.length).toBe(Math.max(60, header + bytes));
      expect(isValid(exact, p)).toBe(true);
      if (p.version === 4) expect(half(exact, ipAt + 4)).toBe(0x1234 + i);
      if (p.version === 4) expect(half(exact, ipAt + 2)).toBe(exact.length - ipAt);
      else expect(half(exact, ipAt + 4)).toBe(exact.length - ipAt - 40);
      if (p.protocol === 6) {
        const sequence = ((half(exact, l4At(p) + 4) << 16) | half(exact, l4At(p) + 6)) >>> 0;
        expect(sequence).toBe((0xffff_ff00 + i * mss) % 2 ** 32);
        expect(exact[l4At(p) + 13]).toBe(i === count - 1 ? 0x19 : 0x10);
      } else expect(half(exact, l4At(p) + 4)).toBe(8 + bytes);
      payload.push(...exact.subarray(header));
    }
    expect(Uint8Array.from(payload)).toEqual(f.subarray(header));
    expect(a.on.read(0x40f8)).toBe(1);
  });

  test.each([
    ['no MSS', { hdrlen: 54, mss: 0 }],
    ['header longer than the frame', { hdrlen: 250, mss: 1448 }],
    ['header shorter than its parts', { hdrlen: 20, mss: 1448 }],
  ])('impossible context: %s', (_, more) => {
    const { clock, a, b } = pair();
    const p: Packet = { version: 4, protocol: 6, payload: 100 };
    a.context(0, contextOf(p, more));
    a.queue(packet(b.on.mac, a.on.mac, p), 0, { popts: 3, tse: true });
    a.doorbell();
    clock.advance(20_000);
    expect(b.take().length).toBe(0);
    expect(a.on.read(0x40fc)).toBe(1);
    expect(a.reap()).toBe(2);
  });
});

describe('VLAN', () => {
  test('tags inserted on transmit, stripped and reported on receive', () => {
    const { clock, a, b } = pair();
    const f = packet(b.on.mac, a.on.mac, { ...kinds[0]!, sums: true });
    a.on.write(0, a.on.read(0) | (1 << 30));
    a.queue(f, 0, { vlan: 0x6123 });
    a.doorbell();
    clock.advance(20_000);
    const tagged = b.take()[0]!;
    expect([...tagged.bytes.subarray(12, 18)]).toEqual([0x81, 0, 0x61, 0x23, 0x08, 0]);
    expect(tagged.bytes.length).toBe(f.length + 4);
    expect(tagged.status & 8).toBe(0);
    expect(tagged.status & 0x60).toBe(0x60);
    b.on.write(0, b.on.read(0) | (1 << 30));
    a.queue(f, 0, { vlan: 0x6123 });
    a.doorbell();
    clock.advance(20_000);
    const stripped = b.take()[0]!;
    expect(stripped.bytes).toEqual(f);
    expect(stripped.vlan).toBe(0x6123);
    expect(stripped.status & 8).toBe(8);
    expect(stripped.status >>> 24).toBe(0);
  });
});

describe('receive checksums and packet types', () => {
  const receive = (f: (a: TestDriver, b: TestDriver) => Uint8Array, rxcsum = 0x300) => {
    const { clock, a, b } = pair();
    b.on.write(0x5000, rxcsum);
    a.queue(f(a, b));
    a.doorbell();
    clock.advance(20_000);
    return b.take()[0]!;
  };
  test.each(named)('%s: good and bad', (_, p) => {
    const good = receive((a, b) => packet(b.on.mac, a.on.mac, { ...p, sums: true }));
    expect((good.status >>> 16) & 0xf).toBe(p.version === 4 ? 2 : 6);
    expect(good.status & 0x70).toBe((p.version === 4 ? 0x40 : 0) | 0x20 | (p.protocol === 17 ? 0x10 : 0));
    expect(good.status >>> 24).toBe(0);
    const bad = receive((a, b) => {
      const f = packet(b.on.mac, a.on.mac, { ...p, sums: true });
      f[f.length - 1]! ^= 1;
      return f;
    });
    expect(bad.status >>> 24).toBe(0x20);
    const off = receive((a, b) => packet(b.on.mac, a.on.mac, { ...p, sums: true }), 0);
    expect(off.status & 0x70).toBe(0);
  });

  test('a bad IP header', () => {
    const got = receive((a, b) => {
      const f = packet(b.on.mac, a.on.mac, { ...kinds[0]!, sums: true });
      f[ipAt + 8]! ^= 1;
      return f;
    });
    expect(got.status >>> 24).toBe(0x40);
  });

  test('packet checksum from PCSS on, and the IP identification', () => {
    let sent = new Uint8Array();
    const got = receive(
      (a, b) => (sent = packet(b.on.mac, a.on.mac, { ...kinds[0]!, sums: true }).slice()),
      0x300 | 14,
    );
    expect(got.rss & 0xffff).toBe(0x1234);
    expect(got.rss >>> 16).toBe(plainSum(sent.subarray(14)));
    expect(got.status & 0x200).toBe(0x200);
  });

  test('header split puts the headers apart', () => {
    const { clock, a, b } = pair({ rctl: 1 << 10 });
    const place = rxPlace(0);
    const { view, memory } = b.on.memory;
    for (let i = 0; i < 4; i++) view.setBigUint64(place.ring + 8 * i, BigInt(0x50_0000 + i * 0x1_0000), true);
    const f = packet(b.on.mac, a.on.mac, { ...kinds[0]!, sums: true });
    a.queue(f);
    a.doorbell();
    clock.advance(20_000);
    expect(view.getUint16(place.ring + 12, true)).toBe(54);
    expect(view.getUint16(place.ring + 16, true)).toBe(0x8000 | 54);
    expect(view.getUint16(place.ring + 18, true)).toBe(f.length - 54);
    expect(memory.slice(0x50_0000, 0x50_0000 + 54)).toEqual(f.subarray(0, 54));
    expect(memory.slice(0x51_0000, 0x51_0000 + f.length - 54)).toEqual(f.subarray(54));
  });
});

describe('receive side scaling', () => {
  // The key and the vectors that Microsoft published with the definition of the hash.
  const key = '6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa';
  const keyBytes = Uint8Array.from(key.match(/../g)!, (x) => parseInt(x, 16));
  const keyWords = new Uint32Array(keyBytes.buffer);
  test.each([
    ['IPv4', { version: 4, protocol: 17, payload: 20 }, 1 << 17, 2, 0x323e8fc2],
    ['TCP over IPv4', { version: 4, protocol: 6, payload: 20 }, (1 << 16) | (1 << 17), 1, 0x51ccc178],
    ['IPv6', { version: 6, protocol: 17, payload: 20 }, 1 << 20, 5, 0x2cc18cd5],
    ['TCP over IPv6', { version: 6, protocol: 6, payload: 20 }, (1 << 18) | (1 << 20), 3, 0x40207d3d],
  ] as [string, Packet, number, number, number][])(
    '%s: the published hash, and the queue it picks',
    (_, p, mrqc, type, hash) => {
      const { clock, a, b } = pair();
      for (let i = 0; i < 10; i++) b.on.write(0x5c80 + 4 * i, keyWords[i]!);
      b.on.write(0x5000, 0x300 | (1 << 13));
      b.on.write(0x5818, 1 | mrqc);
      const f = packet(b.on.mac, a.on.mac, { ...p, sums: true });
      a.queue(f);
      a.doorbell();
      clock.advance(20_000);
      const first = b.take(0)[0]!;
      expect(first.rss).toBe(hash);
      expect(first.mrq).toBe(type);
      const entry = hash & 0x7f;
      b.on.write(0x5c00 + (entry & ~3), 0x80 << ((entry & 3) * 8));
      a.queue(f);
      a.doorbell();
      clock.advance(20_000);
      expect(b.take(0).length).toBe(0);
      const second = b.take(1)[0]!;
      expect(second.mrq).toBe(type | 0x100);
      expect(second.bytes).toEqual(first.bytes);
      expect(b.on.vectors[3]!.raised).toBe(1);
    },
  );

  test('the hash of nothing is nothing', () => {
    expect(toeplitz(keyWords, 0, new Uint8Array(36), 36)).toBe(0);
  });
});

test('statistics by size and kind', () => {
  const { clock, a, b } = pair();
  const to = (first: number) => Uint8Array.of(first, 0xff, 0xff, 0xff, 0xff, first === 0xff ? 0xff : 1);
  const lengths = [60, 61, 123, 124, 251, 252, 507, 508, 1019, 1020, 1514];
  b.on.write(0x100, b.on.read(0x100) | (1 << 4));
  for (const length of lengths) {
    const f = new Uint8Array(length);
    f.set(length === 60 ? to(0xff) : length === 61 ? to(0x01) : b.on.mac);
    a.queue(f);
  }
  a.doorbell();
  clock.advance(200_000);
  expect(b.take().length).toBe(lengths.length);
  const buckets = [1, 2, 2, 2, 2, 2];
  for (const [i, count] of buckets.entries()) {
    expect(b.on.read(0x405c + 4 * i)).toBe(count);
    expect(a.on.read(0x40d8 + 4 * i)).toBe(count);
  }
  const octets = lengths.reduce((n, l) => n + l + 4, 0);
  for (const [on, low] of [
    [b, 0x4088],
    [a, 0x4090],
    [b, 0x40c0],
    [a, 0x40c8],
  ] as const) {
    // prettier-ignore
    expect(on.on.read(low)).toBe(octets);
    expect(on.on.read(low + 4)).toBe(0);
    expect(on.on.read(low)).toBe(0);
  }
  expect([b.on.read(0x4078), b.on.read(0x407c), a.on.read(0x40f4), a.on.read(0x40f0)]).toEqual([1, 1, 1, 1]);
});

test('long frames only with LPE', () => {
  const { clock, a, b } = pair();
  const f = new Uint8Array(1600);
  f.set(b.on.mac);
  a.queue(f);
  a.doorbell();
  clock.advance(50_000);
  expect(b.take().length).toBe(0);
  expect(b.on.read(0x40ac)).toBe(1);
  b.on.write(0x100, b.on.read(0x100) | (1 << 5));
  a.queue(f);
  a.doorbell();
  clock.advance(50_000);
  expect(b.take()[0]!.bytes).toEqual(f);
});
