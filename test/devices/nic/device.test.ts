import { describe, expect, test } from 'vitest';
import { Clock } from '#vmm/base/clock';
import { Trace, type TraceEvent } from '#vmm/base/events';
import { hub } from '#devices/backends/packet/hub';
import { loopback } from '#devices/backends/packet/loopback';
import { type Adapter, TestDriver, adapter, frame, macOf, ringSize, rxPlace, txPlace } from './driver.ts';

const pair = (options: Parameters<TestDriver['start']>[0] = {}) => {
  const clock = new Clock();
  const ports = hub(2);
  const a = new TestDriver(adapter(1, clock, ports[0]!));
  const b = new TestDriver(adapter(2, clock, ports[1]!));
  a.start(options);
  b.start(options);
  return { clock, a, b, ports };
};
const phyRead = (on: Adapter, register: number): number => {
  on.write(0x20, (2 << 26) | (1 << 21) | (register << 16));
  const value = on.read(0x20);
  expect(value & (1 << 28)).not.toBe(0);
  return value & (1 << 30) ? -1 : value & 0xffff;
};
const phyWrite = (on: Adapter, register: number, value: number): void =>
  on.write(0x20, (1 << 26) | (1 << 21) | (register << 16) | value);

describe('identity and reset', () => {
  const { device } = adapter(1, new Clock(), loopback());
  test('is an 82574L with the BARs of the part', () => {
    expect([device.vendorId, device.deviceId, device.classCode]).toEqual([0x8086, 0x10d3, 0x02_0000]);
    expect(device.bars.map(({ index, bytes, kind }) => [index, bytes, kind])).toEqual([
      [0, 0x20000, 'memory32'],
      [1, 0x20000, 'memory32'],
      [2, 32, 'io'],
      [3, 0x4000, 'memory32'],
    ]);
    expect(device.msix).toEqual({ vectors: 5, tableBar: 3, tableOffset: 0, pbaBar: 3, pbaOffset: 0x2000 });
  });

  test('NVM words add up to 0xBABA and hold the address; RAR 0 has it after reset', () => {
    const on = adapter(7, new Clock(), loopback());
    let sum = 0;
    for (let word = 0; word < 64; word++) {
      on.write(0x14, (word << 2) | 1);
      const value = on.read(0x14);
      expect(value & 2).toBe(2);
      sum += value >>> 16;
      if (word === 0) expect(value >>> 16).toBe(0x5452);
    }
    expect(sum & 0xffff).toBe(0xbaba);
    on.write(0x14, (64 << 2) | 1);
    expect(on.read(0x14) & 2).toBe(0);
    on.write(0x5400, 0);
    on.write(0x0000, 1 << 26);
    expect(on.read(0x0000) & (1 << 26)).toBe(0);
    expect(on.read(0x5400)).toBe(0x1200_5452);
    expect(on.read(0x5404)).toBe(0x8000_0734);
  });

  test('a written NVM word is read back', () => {
    const on = adapter(7, new Clock(), loopback());
    on.write(0x102c, (0x1234 << 16) | (0x30 << 2) | 1);
    expect(on.read(0x102c) & 2).toBe(2);
    on.write(0x14, (0x30 << 2) | 1);
    expect(on.read(0x14) >>> 16).toBe(0x1234);
  });

  test('registers are 32 bits wide', () => {
    const bar = device.bars[0]!.device!;
    bar.write(0x5200, 4, 0x1234_5678);
    expect(bar.read(0x5200, 2)).toBe(0x5678);
    expect(bar.read(0x5202, 2)).toBe(0x1234);
    expect(bar.read(0x5203, 1)).toBe(0x12);
    expect(bar.read(0x5201, 4)).toBe(0);
    bar.write(0x5200, 2, 0xffff);
    expect(bar.read(0x5200, 4)).toBe(0x1234_5678);
    bar.write(0x5200, 8, 0x1_0000_0002n);
    expect(bar.read(0x5200, 8)).toBe(0x1_0000_0002n);
    expect(bar.read(0x1_f000, 4)).toBe(0);
    expect(bar.read(0x1_fffc, 8)).toBe(0n);
  });

  test('the I/O window and the old offsets reach the same registers', () => {
    const on = adapter(7, new Clock(), loopback());
    const io = on.device.bars[2]!.device!;
    io.write(0, 4, 0x3800);
    io.write(4, 4, 0x1230);
    expect(on.read(0x3800)).toBe(0x1230);
    expect(on.read(0x0420)).toBe(0x1230);
    io.write(0, 4, 0xffff_fff0);
    expect(io.read(4, 4)).toBe(0);
    on.write(0x0040, 77);
    expect(on.read(0x5400)).toBe(77);
  });
});

describe('link and PHY', () => {
  test('the PHY says who it is, and that the link is up at a gigabit', () => {
    const on = adapter(1, new Clock(), loopback());
    expect(phyRead(on, 2)).toBe(0x0141);
    expect(phyRead(on, 3)).toBe(0x0cb1);
    expect(phyRead(on, 1) & 0x24).toBe(0x24);
    expect(phyRead(on, 12)).toBe(-1);
    on.write(0x20, (2 << 26) | (2 << 21) | (2 << 16));
    expect(on.read(0x20) & (1 << 30)).not.toBe(0);
    expect(on.read(8) & 0x83).toBe(0x83);
  });

  test('auto-negotiation takes the link down and up, each with its cause', () => {
    const clock = new Clock();
    const on = adapter(1, clock, loopback());
    phyWrite(on, 0, 0x1340);
    expect(phyRead(on, 0) & 0x0200).toBe(0);
    expect(on.read(8) & 2).toBe(0);
    expect(phyRead(on, 1) & 4).toBe(0);
    expect(on.read(0xc0) & 4).toBe(4);
    expect(on.read(0xc0) & 4).toBe(0);
    clock.advance(200_000);
    expect(on.read(8) & 2).toBe(2);
    expect(on.read(0xc0) & 4).toBe(4);
  });

  test('a cable pulled out is seen', () => {
    const backend = { onFrame: undefined, linkUp: true, send: () => {} };
    const on = adapter(1, new Clock(), backend);
    backend.linkUp = false;
    on.device.linkChanged();
    expect(on.read(8) & 2).toBe(0);
    expect(on.read(0xc0) & 4).toBe(4);
  });
});

describe('two adapters on a hub', () => {
  test.each([
    ['data descriptors', {}],
    ['legacy transmit descriptors', { legacy: true }],
  ])('every length from 60 to 1514 both ways, %s', (_, options) => {
    const { clock, a, b } = pair();
    for (let length = 60; length <= 1514; length++) {
      const ab = frame(b.on.mac, a.on.mac, length, length);
      const ba = frame(a.on.mac, b.on.mac, length, length + 5000);
      a.queue(ab, 0, options);
      b.queue(ba, 0, options);
      a.doorbell();
      b.doorbell();
      clock.advance(20_000);
      const atB = b.take();
      const atA = a.take();
      expect(atB.length).toBe(1);
      expect(atA.length).toBe(1);
      if (Buffer.compare(atB[0]!.bytes, ab) !== 0 || Buffer.compare(atA[0]!.bytes, ba) !== 0)
        expect.fail(`frame of ${length} bytes changed`);
      expect(a.reap()).toBe(1);
      expect(b.reap()).toBe(1);
    }
    expect(a.on.read(0x4080)).toBe(1455);
    expect(a.on.read(0x4074)).toBe(1455);
    expect(a.on.read(0x4074)).toBe(0);
    expect(a.on.device.statistics).toMatchObject({ framesSent: 1455, framesReceived: 1455, framesDropped: 0 });
  });

  test('legacy receive descriptors', () => {
    const { clock, a, b } = pair({ extended: false });
    const sent = frame(b.on.mac, a.on.mac, 300, 1);
    a.queue(sent);
    a.doorbell();
    clock.advance(10_000);
    const at = rxPlace(0).ring;
    const { view, memory } = b.on.memory;
    expect(view.getBigUint64(at, true)).toBe(BigInt(rxPlace(0).buffers));
    expect(view.getUint16(at + 8, true)).toBe(300);
    expect(memory[at + 12]! & 3).toBe(3);
    expect(memory[at + 13]).toBe(0);
    expect(memory.slice(rxPlace(0).buffers, rxPlace(0).buffers + 300)).toEqual(sent);
    expect(b.on.read(0x2810)).toBe(1);
  });

  test('frames in pieces, short frames padded, FCS stored when it is not stripped', () => {
    const { clock, a, b } = pair();
    const sent = frame(b.on.mac, a.on.mac, 1000, 3);
    a.queue(sent, 0, { cuts: [14, 15, 600] });
    a.queue(sent.subarray(0, 40));
    a.doorbell();
    clock.advance(50_000);
    const [whole, short] = b.take();
    expect(whole!.bytes).toEqual(sent);
    expect(short!.bytes.length).toBe(60);
    expect(short!.bytes.subarray(40).every((x) => x === 0)).toBe(true);
    expect(a.reap()).toBe(5);
    b.on.write(0x100, b.on.read(0x100) & ~(1 << 26));
    a.queue(Uint8Array.from({ length: 60 }, (_, i) => (i < 6 ? b.on.mac[i]! : 0)));
    a.doorbell();
    clock.advance(10_000);
    const [checked] = b.take();
    expect(checked!.bytes.length).toBe(64);
    expect(new DataView(checked!.bytes.buffer).getUint32(60, true)).toBe(0xbc33_b2e2);
  });

  test('a ring of frames goes through at wire speed, and no faster', () => {
    const { clock, a, b } = pair();
    for (let i = 0; i < 60; i++) a.queue(frame(b.on.mac, a.on.mac, 1514, i));
    a.doorbell();
    const start = clock.now;
    let got = 0;
    while (got < 60) {
      clock.advance(1000);
      got += b.take().length;
      expect(clock.now - start).toBeLessThan(60 * 12_304 + 10_000);
    }
    expect(clock.now - start).toBeGreaterThan(32 * 12_304);
    expect(a.reap()).toBe(60);
  });

  test('both queues transmit', () => {
    const { clock, a, b } = pair();
    a.queue(frame(b.on.mac, a.on.mac, 100, 1), 0);
    a.queue(frame(b.on.mac, a.on.mac, 200, 2), 1);
    a.doorbell(0);
    a.doorbell(1);
    clock.advance(10_000);
    expect(b.take().map((r) => r.bytes.length)).toEqual([100, 200]);
    expect(a.on.vectors.map((v) => v.raised)).toEqual([0, 1, 0, 0, 1]);
  });

  test('a frame longer than one buffer uses several descriptors', () => {
    const { clock, a, b } = pair({ rctl: (3 << 16) | (1 << 5) });
    const sent = frame(b.on.mac, a.on.mac, 1514, 9);
    a.queue(sent);
    a.doorbell();
    clock.advance(20_000);
    expect(b.on.read(0x2810)).toBe(6);
    const got = b.take();
    expect(got.length).toBe(1);
    expect(got[0]!.bytes).toEqual(sent);
  });

  test('packet split puts the payload into the data buffers when it does not split headers', () => {
    const { clock, a, b } = pair({ rctl: 1 << 10 });
    const place = rxPlace(0);
    const { view, memory } = b.on.memory;
    for (let i = 0; i < 4; i++) view.setBigUint64(place.ring + 8 * i, BigInt(0x50_0000 + i * 0x1_0000), true);
    const sent = frame(b.on.mac, a.on.mac, 1514, 9);
    a.queue(sent);
    a.doorbell();
    clock.advance(20_000);
    expect(view.getUint32(place.ring + 8, true) & 3).toBe(3);
    expect(view.getUint16(place.ring + 12, true)).toBe(256);
    expect(view.getUint16(place.ring + 18, true)).toBe(1258);
    expect(memory.slice(0x50_0000, 0x50_0100)).toEqual(sent.subarray(0, 256));
    expect(memory.slice(0x51_0000, 0x51_0000 + 1258)).toEqual(sent.subarray(256));
    expect(b.on.read(0x2810)).toBe(2);
  });
});

describe('filters', () => {
  const deliver = (setup: (b: TestDriver) => void, to: Uint8Array, edit?: (f: Uint8Array) => void): number => {
    const { clock, a, b } = pair();
    setup(b);
    const sent = frame(to, a.on.mac, 100, 1);
    edit?.(sent);
    a.queue(sent);
    a.doorbell();
    clock.advance(10_000);
    return b.take().length;
  };
  const broadcast = new Uint8Array(6).fill(0xff);
  const group = Uint8Array.of(0x01, 0x00, 0x5e, 0x00, 0x12, 0x34);
  const set = (bits: number) => (b: TestDriver) => b.on.write(0x100, b.on.read(0x100) | bits);
  const clear = (bits: number) => (b: TestDriver) => b.on.write(0x100, b.on.read(0x100) & ~bits);
  test.each([
    ['own address', () => {}, macOf(2), 1],
    ['other unicast', () => {}, macOf(9), 0],
    ['other unicast, UPE', set(1 << 3), macOf(9), 1],
    ['second receive address', (b: TestDriver) => { b.on.write(0x5408, 0x1200_5452); b.on.write(0x540c, 0x8000_0934); }, macOf(9), 1], // prettier-ignore
    ['receive address not valid', (b: TestDriver) => { b.on.write(0x5408, 0x1200_5452); b.on.write(0x540c, 0x0934); }, macOf(9), 0], // prettier-ignore
    ['broadcast', () => {}, broadcast, 1],
    ['broadcast, no BAM', clear(1 << 15), broadcast, 0],
    ['multicast', () => {}, group, 0],
    ['multicast, MPE', set(1 << 4), group, 1],
    ['multicast in the table', (b: TestDriver) => b.on.write(0x5200 + 4 * ((0x341 >> 5) & 0x7f), 1 << (0x341 & 31)), group, 1], // prettier-ignore
  ])('%s', (_, setup, to, count) => {
    expect(deliver(setup, to)).toBe(count);
  });

  test.each([
    ['tag in the table', 1 << (100 & 31), 1],
    ['tag not in the table', 0, 0],
  ])('VLAN filter: %s', (_, word, count) => {
    const setup = (b: TestDriver) => {
      b.on.write(0x100, b.on.read(0x100) | (1 << 18));
      b.on.write(0x5600 + 4 * (100 >> 5), word);
    };
    expect(deliver(setup, macOf(2), (f) => f.set([0x81, 0, 0xe0, 100], 12))).toBe(count);
  });

  test('pause frames are not for software unless it asks', () => {
    const pause = Uint8Array.of(0x01, 0x80, 0xc2, 0, 0, 1);
    const type = (f: Uint8Array) => f.set([0x88, 0x08], 12);
    expect(deliver(set(1 << 4), pause, type)).toBe(0);
    expect(deliver(set((1 << 4) | (1 << 23)), pause, type)).toBe(1);
  });
});

describe('interrupts', () => {
  test('MSI-X: one message per vector, acknowledged and masked by itself until IMS says again', () => {
    const { clock, a, b } = pair();
    const go = (i: number) => {
      a.queue(frame(b.on.mac, a.on.mac, 100, i));
      a.doorbell();
      clock.advance(10_000);
    };
    go(1);
    expect(b.on.vectors.map((v) => v.raised)).toEqual([1, 0, 0, 0, 0]);
    expect(a.on.vectors.map((v) => v.raised)).toEqual([0, 1, 0, 0, 0]);
    expect(b.on.read(0xd0) & (1 << 20)).toBe(0);
    go(2);
    expect(b.on.vectors[0]!.raised).toBe(1);
    b.on.write(0xd0, 1 << 20);
    expect(b.on.vectors[0]!.raised).toBe(2);
    b.on.write(0xd0, 1 << 20);
    expect(b.on.vectors[0]!.raised).toBe(2);
    expect(b.on.read(0x4100)).toBe(2);
  });

  test('link changes reach the OTHER vector', () => {
    const { clock, a } = pair();
    phyWrite(a.on, 0, 0x1340);
    expect(a.on.vectors[2]!.raised).toBe(1);
    expect(a.on.read(0xc0) >>> 0).toBe(((1 << 31) | (1 << 24) | 4) >>> 0);
    expect(a.on.read(0xc0)).toBe(0);
    clock.advance(200_000);
    expect(a.on.vectors[2]!.raised).toBe(2);
  });

  test('EITR keeps a vector silent for its interval, and loses nothing', () => {
    const { clock, a, b } = pair();
    b.on.write(0xe8, 195);
    b.on.write(0xdc, 0);
    for (let i = 0; i < 10; i++) {
      a.queue(frame(b.on.mac, a.on.mac, 100, i));
      a.doorbell();
      clock.advance(2000);
      b.on.write(0xc0, 1 << 20);
    }
    expect(b.on.vectors[0]!.raised).toBe(1);
    a.queue(frame(b.on.mac, a.on.mac, 100, 11));
    a.doorbell();
    clock.advance(100_000);
    expect(b.on.vectors[0]!.raised).toBe(2);
  });

  test('without IVAR entries everything goes to vector 0, until ICR is read', () => {
    const { clock, a, b } = pair();
    b.on.write(0xe4, 0);
    b.on.write(0xd8, 0xffff_ffff);
    b.on.write(0xd0, 0x9d);
    a.queue(frame(b.on.mac, a.on.mac, 100, 1));
    a.doorbell();
    clock.advance(10_000);
    expect(b.on.vectors[0]!.raised).toBe(1);
    expect(b.on.vectors[0]!.level).toBe(true);
    expect(b.on.read(0xc0) & 0x8000_0080).not.toBe(0);
    expect(b.on.vectors[0]!.level).toBe(false);
    b.on.write(0xc8, 4);
    expect(b.on.vectors[0]!.raised).toBe(2);
  });

  test('TIDV holds transmit interrupts back where descriptors ask for it', () => {
    const { clock, a } = pair();
    a.on.write(0xe4, 0);
    a.on.write(0xd0, 1);
    a.on.write(0x3820, 10);
    const buffer = BigInt(txPlace(0).buffers);
    a.descriptor(0, buffer, 100 | (0xab << 24) | (1 << 20), 0);
    a.doorbell();
    clock.advance(10_000);
    expect(a.on.vectors[0]!.raised).toBe(0);
    clock.advance(1000);
    expect(a.on.vectors[0]!.raised).toBe(1);
    expect([a.on.read(0x410c), a.on.read(0x4110), a.on.read(0x4118)]).toEqual([1, 0, 1]);
    a.descriptor(0, buffer, 100 | (0x2b << 24) | (1 << 20), 0);
    a.on.read(0xc0);
    a.doorbell();
    clock.advance(1000);
    expect(a.on.vectors[0]!.raised).toBe(2);
  });

  test('TXD_LOW when the ring falls below its threshold', () => {
    const { clock, a, b } = pair();
    a.on.write(0x3828, 1 << 25);
    for (let i = 0; i < 40; i++) a.queue(frame(b.on.mac, a.on.mac, 100, i));
    a.doorbell();
    clock.advance(1000);
    expect(a.on.read(0x3810)).toBe(32);
    expect(a.on.read(0xc8) & (1 << 15)).toBe(0);
    clock.advance(100_000);
    expect(a.on.read(0xc8) & (1 << 15)).toBe(1 << 15);
    expect(a.on.read(0x411c)).toBe(1);
  });

  test('RDTR holds receive interrupts back, RADV bounds the wait', () => {
    const { clock, a, b } = pair();
    b.on.write(0xe4, 0);
    b.on.write(0xd0, 0x80);
    b.on.write(0x2820, 20);
    b.on.write(0x282c, 40);
    for (let i = 0; i < 8; i++) {
      a.queue(frame(b.on.mac, a.on.mac, 100, i));
      a.doorbell();
      clock.advance(10_000);
      expect(b.on.vectors[0]!.raised).toBe(i * 10_000 < 40 * 1024 - 10_000 ? 0 : 1);
    }
    expect([b.on.read(0x4104), b.on.read(0x4108)]).toEqual([0, 1]);
  });
});

describe('rings with a PASID', () => {
  const off = {
    ats: false,
    smallestTranslationShift: 12,
    pri: false,
    pageRequestAllocation: 0,
    pasid: false,
    pasidExecute: false,
    pasidPrivileged: false,
  };
  test('everything of such a ring carries it, and nothing of the other rings; its doorbells have a page of their own', () => {
    const { clock, a, b } = pair();
    a.on.device.translation({ ...off, pasid: true });
    b.on.device.translation({ ...off, pasid: true });
    a.on.write(0xbf04, 0x8000_1234);
    b.on.write(0xbe00, 0x8000_0777);
    a.on.memory.pasids.clear();
    b.on.memory.pasids.clear();
    a.queue(frame(b.on.mac, a.on.mac, 100, 1), 1);
    a.on.write(0x1_f018, 1);
    clock.advance(10_000);
    expect(a.on.read(0x1_f010)).toBe(1);
    expect(b.on.read(0x1_e000)).toBe(1);
    expect(b.take().length).toBe(1);
    expect([...a.on.memory.pasids]).toEqual([0x1234]);
    expect([...b.on.memory.pasids]).toEqual([0x777]);
    a.on.memory.pasids.clear();
    a.queue(frame(b.on.mac, a.on.mac, 100, 2), 0);
    a.doorbell(0);
    clock.advance(10_000);
    expect([...a.on.memory.pasids]).toEqual([-1]);
  });

  test('loopback between a ring with and one without', () => {
    const clock = new Clock();
    const a = new TestDriver(adapter(1, clock, loopback()));
    a.start({ rctl: 1 << 6 });
    a.on.device.translation({ ...off, pasid: true });
    a.on.write(0xbe04, 0x8000_0005);
    a.on.memory.pasids.clear();
    for (let i = 0; i < 3; i++) a.queue(frame(a.on.mac, a.on.mac, 100, i));
    a.doorbell();
    clock.advance(10_000);
    expect(a.take().length).toBe(3);
    expect(a.reap()).toBe(3);
    expect([...a.on.memory.pasids].sort()).toEqual([-1, 5]);
  });

  test('without the capability enabled the ring stands still, and starts when it is', () => {
    const { clock, a, b } = pair();
    a.on.write(0xbe04, 0x8000_1234);
    a.on.memory.pasids.clear();
    a.queue(frame(b.on.mac, a.on.mac, 100, 1));
    a.doorbell();
    clock.advance(10_000);
    expect(a.on.memory.pasids.size).toBe(0);
    a.on.device.translation({ ...off, pasid: true });
    clock.advance(10_000);
    expect(b.take().length).toBe(1);
  });
});

describe('what can go wrong', () => {
  test('no descriptors: frames wait in the packet buffer, then are missed', () => {
    const { clock, a, b, ports } = pair();
    const isHeld = (): boolean | undefined => ports[1]!.isHeld?.();
    expect(isHeld()).toBe(false);
    b.on.write(0x2818, 0);
    for (let i = 0; i < 30; i++) a.queue(frame(b.on.mac, a.on.mac, 1000, i));
    a.doorbell();
    clock.advance(1_000_000);
    expect(b.take().length).toBe(0);
    expect(b.on.read(0x40a0)).toBe(30);
    expect(b.on.read(0x4010)).toBe(10);
    expect(b.on.read(0xc0) & (1 << 6)).not.toBe(0);
    expect(isHeld()).toBe(true);
    b.on.write(0x2818, ringSize - 1);
    expect(isHeld()).toBe(false);
    const got = b.take();
    expect(got.length).toBe(20);
    expect(got[19]!.bytes).toEqual(frame(b.on.mac, a.on.mac, 1000, 19));
  });

  test('transmit data that cannot be read: the frame is dropped, the next one goes', () => {
    const { clock, a, b } = pair();
    a.queue(frame(b.on.mac, a.on.mac, 900, 1));
    a.descriptor(0, 0xffff_ffff_ffff_f000n, 900 | (0x2b << 24) | (1 << 20), 0);
    a.queue(frame(b.on.mac, a.on.mac, 900, 2));
    a.doorbell();
    clock.advance(50_000);
    expect(b.take().length).toBe(2);
    expect(a.reap()).toBe(3);
    expect(a.on.device.statistics).toMatchObject({ dmaFaults: 1, framesDropped: 1, framesSent: 2 });
  });

  test('transmit descriptors that cannot be read: the ring stops, and goes on after a doorbell', () => {
    const { clock, a, b } = pair();
    a.on.memory.refused.add(txPlace(0).ring >>> 12);
    a.queue(frame(b.on.mac, a.on.mac, 900, 1));
    a.doorbell();
    clock.advance(50_000);
    expect(a.on.device.statistics.dmaFaults).toBe(1);
    expect(clock.untilNext()).toBe(Infinity);
    a.on.memory.refused.clear();
    a.doorbell();
    clock.advance(50_000);
    expect(b.take().length).toBe(1);
  });

  test('a receive buffer that cannot be written: the descriptor says so, the next frame is whole', () => {
    const { clock, a, b } = pair();
    b.on.memory.refused.add(rxPlace(0).buffers >>> 12);
    a.queue(frame(b.on.mac, a.on.mac, 900, 1));
    a.doorbell();
    clock.advance(20_000);
    const [bad] = b.take();
    expect(bad!.status >>> 24).toBe(0x80);
    expect(bad!.bytes.length).toBe(0);
    b.on.memory.refused.clear();
    a.queue(frame(b.on.mac, a.on.mac, 900, 2));
    a.doorbell();
    clock.advance(20_000);
    expect(b.take()[0]!.bytes).toEqual(frame(b.on.mac, a.on.mac, 900, 2));
    expect(b.on.device.statistics).toMatchObject({ dmaFaults: 1, framesDropped: 1 });
  });

  test.each([
    ['tail beyond the ring', 0x3818, 5000],
    ['head beyond the ring', 0x3810, 5000],
    ['no length', 0x3808, 0],
  ])('transmit ring: %s', (_, register, value) => {
    const { clock, a, b } = pair();
    a.queue(frame(b.on.mac, a.on.mac, 100, 1));
    a.on.write(register, value);
    if (register !== 0x3818) a.doorbell();
    clock.advance(1_000_000);
    expect(b.take().length).toBe(0);
    expect(clock.untilNext()).toBe(Infinity);
  });

  test('no DMA without bus mastering, nor with GIO master disable; reset in flight', () => {
    const { clock, a, b } = pair();
    const calls = () => a.on.memory.calls.read + a.on.memory.calls.write;
    const before = calls();
    a.on.device.busMaster(false);
    a.queue(frame(b.on.mac, a.on.mac, 100, 1));
    a.doorbell();
    clock.advance(10_000);
    expect(calls()).toBe(before);
    a.on.write(0, a.on.read(0) | 4);
    a.on.device.busMaster(true);
    clock.advance(10_000);
    expect(calls()).toBe(before);
    expect(a.on.read(8) & (1 << 19)).toBe(0);
    a.on.write(0, a.on.read(0) & ~4);
    clock.advance(10_000);
    expect(b.take().length).toBe(1);
    a.queue(frame(b.on.mac, a.on.mac, 100, 1));
    a.doorbell();
    a.on.write(0, a.on.read(0) | (1 << 26));
    clock.advance(10_000);
    expect(b.take().length).toBe(0);
    a.start();
    a.queue(frame(b.on.mac, a.on.mac, 100, 2));
    a.doorbell();
    clock.advance(10_000);
    expect(b.take().length).toBe(1);
  });

  test('what happens is traced', () => {
    const clock = new Clock();
    const trace = new Trace(() => clock.now);
    const events: TraceEvent[] = [];
    const on = adapter(1, clock, loopback(), undefined, trace);
    trace.listen((event) => events.push(event));
    on.write(0x100, 2);
    on.read(0x1234);
    expect(events.map((e) => e.name)).toEqual(['nic.register-write', 'nic.register-unknown']);
    expect(events[0]!.fields).toEqual({ device: 'nic1', register: 'RCTL', value: '0x00000002' });
  });
});
