import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import type { PacketBackend } from '#vmm/base/ports';
import { type DatagramBackend, datagram } from '#devices/backends/packet/datagram';
import { FrameReader, type StreamBackend, stream, unpaddedBytes } from '#devices/backends/packet/stream';
import { hub } from '#devices/backends/packet/hub';
import { tap } from '#devices/backends/packet/tap';

const open: { close(): void }[] = [];
afterEach(() => {
  for (const thing of open.splice(0)) thing.close();
});
const opened = <T extends { close(): void }>(thing: T): T => {
  open.push(thing);
  return thing;
};
const until = async (what: string, condition: () => boolean, ms = 5000): Promise<void> => {
  const end = performance.now() + ms;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};
const collect = (backend: PacketBackend): Uint8Array[] => {
  const frames: Uint8Array[] = [];
  backend.onFrame = (frame) => frames.push(frame.slice()) > 0;
  return frames;
};
const pattern = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 31 + seed) & 0xff);

describe('the stream format', () => {
  const encode = (frames: readonly Uint8Array[]): Uint8Array => {
    const out: number[] = [];
    for (const f of frames)
      out.push(f.length >>> 24, (f.length >>> 16) & 255, (f.length >>> 8) & 255, f.length & 255, ...f);
    return Uint8Array.from(out);
  };
  test('frames come out whole however the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }),
        (frames, cuts) => {
          const bytes = encode(frames);
          const out: Uint8Array[] = [];
          const reader = new FrameReader((f) => out.push(f.slice()));
          for (let at = 0, i = 0; at < bytes.length; i++) {
            const end = Math.min(bytes.length, at + cuts[i % cuts.length]!);
            expect(reader.push(bytes.subarray(at, end))).toBe(true);
            at = end;
          }
          expect(out).toEqual(frames);
        },
      ),
    );
  });

  test.each([0, 69_633, 0xffff_ffff])('a length of %d ends it', (length) => {
    const header = new Uint8Array(4);
    new DataView(header.buffer).setUint32(0, length);
    const reader = () => new FrameReader(() => expect.fail('no frame'));
    expect(reader().push(header)).toBe(false);
    const slow = reader();
    expect(slow.push(header.subarray(0, 2))).toBe(true);
    expect(slow.push(header.subarray(2))).toBe(false);
  });
});

describe('what pads a frame to the least of Ethernet', () => {
  const frame = (type: number, length: number, bytes = 60): Uint8Array => {
    const made = new Uint8Array(bytes);
    const at = type === 0x86dd ? 18 : 16;
    made.set([type >> 8, type & 255], 12);
    made.set([length >> 8, length & 255], at);
    return made;
  };
  // prettier-ignore
  test.each([
    ['an ACK of TCP over IPv4', frame(0x0800, 40), 54],
    ['46 bytes fill it', frame(0x0800, 46), 60],
    ['a length beyond the frame', frame(0x0800, 1500), 60],
    ['no header fits', frame(0x0800, 3), 60],
    ['IPv6 without payload', frame(0x86dd, 0), 54],
    ['IPv6 with 4 bytes', frame(0x86dd, 4), 58],
    ['ARP', frame(0x0806, 4), 60],
    ['a longer frame', frame(0x0800, 40, 61), 61],
  ])('%s', (_, bytes, expected) => {
    expect(unpaddedBytes(bytes)).toBe(expected);
  });
});

describe('stream sockets', () => {
  const directory = mkdtempSync(join(tmpdir(), 'packet-'));
  afterEach(() => rmSync(join(directory, 's'), { force: true }));
  const both = async (address: () => { host: string; port: number } | { path: string }) => {
    const server = opened(stream({ address: address(), listen: true }));
    await until('listening', () => server.address !== undefined);
    const client = opened(stream({ address: server.address! }));
    await until('connected', () => server.linkUp && client.linkUp);
    return { server, client };
  };
  test.each([
    ['TCP', () => ({ host: '127.0.0.1', port: 0 })],
    ['Unix', () => ({ path: join(directory, 's') })],
  ])('%s, both ways, in order', async (_, address) => {
    const { server, client } = await both(address);
    const atServer = collect(server);
    const atClient = collect(client);
    const sent = Array.from({ length: 200 }, (_, i) => pattern(60 + i * 8, i));
    for (const f of sent) client.send(f);
    for (const f of sent) server.send(f);
    await until('all frames', () => atServer.length === 200 && atClient.length === 200);
    expect(atServer).toEqual(sent);
    expect(atClient).toEqual(sent);
  });

  test('a burst is handed over in pieces, between which a guest may run', async () => {
    const { server, client } = await both(() => ({ host: '127.0.0.1', port: 0 }));
    let inTurn = 0;
    let most = 0;
    const atServer: number[] = [];
    server.onFrame = (frame) => {
      if (inTurn++ === 0) setImmediate(() => (inTurn = 0));
      most = Math.max(most, inTurn);
      return atServer.push(frame[0]!) > 0;
    };
    for (let i = 0; i < 1000; i++) client.send(pattern(70, i));
    await until('all frames', () => atServer.length === 1000);
    expect(atServer).toEqual(Array.from({ length: 1000 }, (_, i) => i & 255));
    // Those that arrive in one chunk, and those that waited: each at most 128.
    expect(most).toBeLessThanOrEqual(256);
    expect(server.dropped).toBe(0);
  });

  test('what a card has no room for waits on this side, in order, until it has', async () => {
    const { server, client } = await both(() => ({ host: '127.0.0.1', port: 0 }));
    const taken: number[] = [];
    let room = 100;
    const card = tap(server, { sent: () => {}, received: () => {} });
    card.isHeld = () => room === 0;
    card.onFrame = (frame) => {
      room--;
      return taken.push(frame[0]!) > 0;
    };
    for (let i = 0; i < 1000; i++) client.send(pattern(70, i));
    await until('the first', () => taken.length === 100);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(taken).toHaveLength(100);
    const refill = setInterval(() => (room = 100), 2);
    await until('all frames', () => taken.length === 1000).finally(() => clearInterval(refill));
    expect(taken).toEqual(Array.from({ length: 1000 }, (_, i) => i & 255));
    expect(room).toBeGreaterThanOrEqual(0);
    expect(server.dropped).toBe(0);
  });

  test('the link follows the connection', async () => {
    const { server, client } = await both(() => ({ host: '127.0.0.1', port: 0 }));
    let changes = 0;
    server.onLinkChange = () => changes++;
    client.close();
    await until('down', () => !server.linkUp);
    expect(changes).toBe(1);
    const again = opened(stream({ address: server.address! }));
    await until('up', () => server.linkUp && again.linkUp);
    expect(changes).toBe(2);
  });

  test('nobody there: one sentence, no link, frames vanish', async () => {
    const reports: string[] = [];
    const nobody = createServer().listen(0, '127.0.0.1');
    await until('a free port', () => nobody.listening);
    const { port } = nobody.address() as AddressInfo;
    nobody.close();
    const client = opened(stream({ address: { host: '127.0.0.1', port }, report: (m) => reports.push(m) }));
    client.send(pattern(60, 1));
    await until('a report', () => reports.length > 0);
    expect(reports[0]).toMatch(/^network stream: 127\.0\.0\.1:\d+: .*ECONNREFUSED/);
    expect(client.linkUp).toBe(false);
  });
});

const udpPair = async (): Promise<[DatagramBackend, DatagramBackend]> => {
  const host = '127.0.0.1';
  const probe = opened(datagram({ local: { host, port: 0 }, remote: { host, port: 9 } }));
  await until('bound', () => probe.address !== undefined);
  const port = probe.address!.port;
  open.splice(open.indexOf(probe), 1);
  probe.close();
  const a = opened(datagram({ local: { host, port: 0 }, remote: { host, port } }));
  await until('bound', () => a.address !== undefined);
  const b = opened(datagram({ local: { host, port }, remote: a.address! }));
  await until('bound', () => b.address !== undefined);
  return [a, b];
};

test('datagrams: one frame each, only from the other end', async () => {
  const [a, b] = await udpPair();
  const atB = collect(b);
  const stranger = opened(datagram({ local: { host: '127.0.0.1', port: 0 }, remote: b.address! }));
  await until('bound', () => stranger.address !== undefined);
  stranger.send(pattern(70, 9));
  a.send(pattern(60, 1));
  a.send(pattern(1514, 2));
  await until('frames', () => atB.length === 2);
  expect(atB).toEqual([pattern(60, 1), pattern(1514, 2)]);
});

test('a tap sees what passes and changes nothing', () => {
  const [left, right] = hub(2) as [PacketBackend, PacketBackend];
  const seen: string[] = [];
  const tapped = tap(left, { sent: (f) => seen.push(`> ${f.length}`), received: (f) => seen.push(`< ${f.length}`) });
  const atRight = collect(right);
  const atLeft = collect(tapped);
  tapped.send(pattern(60, 1));
  right.send(pattern(70, 2));
  expect(tapped.linkUp).toBe(true);
  expect(seen).toEqual(['> 60', '< 70']);
  expect([atRight.length, atLeft.length]).toEqual([1, 1]);
});

const qemu = 'qemu-system-riscv64';
const hasQemu = spawnSync(qemu, ['--version']).status === 0;

test.skipIf(!hasQemu)(
  'QEMU understands both: a frame goes in as stream and comes out as datagram, and back',
  async () => {
    const host = '127.0.0.1';
    const server: StreamBackend = opened(stream({ address: { host, port: 0 }, listen: true }));
    const [ours, theirs] = await udpPair();
    await until('listening', () => server.address !== undefined);
    const theirPort = theirs.address!.port;
    open.splice(open.indexOf(theirs), 1);
    theirs.close();
    const { port } = server.address as { port: number };
    const inet = (end: string, p: number): string => `${end}.type=inet,${end}.host=${host},${end}.port=${p}`;
    // No guest runs: QEMU only joins its two network ends by a hub.
    const child = spawn(qemu, [
    '-M', 'none', '-display', 'none', '-nodefaults', '-monitor', 'none', '-serial', 'none',
    '-netdev', `stream,id=s,server=off,${inet('addr', port)}`, '-netdev', 'hubport,id=h0,hubid=0,netdev=s',
    '-netdev', `dgram,id=d,${inet('local', theirPort)},${inet('remote', ours.address!.port)}`, '-netdev', 'hubport,id=h1,hubid=0,netdev=d',
  ]); // prettier-ignore
    let complaint = '';
    child.stderr.on('data', (text: Buffer) => (complaint += text.toString()));
    open.push({ close: () => child.kill() });
    await until(`QEMU connects ${complaint}`, () => server.linkUp, 20_000);
    const atUs = collect(ours);
    const atServer = collect(server);
    const frames = [60, 61, 1000, 1514].map((length) => pattern(length, length));
    // The datagram end may come up after the stream.
    await until('the first datagram', () => {
      server.send(frames[0]!);
      return atUs.length > 0;
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    atUs.length = 0;
    for (const f of frames) server.send(f);
    for (const f of frames) ours.send(f);
    await until(`all frames ${complaint}`, () => atUs.length === 4 && atServer.length === 4);
    expect(atUs).toEqual(frames);
    expect(atServer).toEqual(frames);
  },
);

const passt = 'passt';
const hasPasst = spawnSync(passt, ['--version']).error === undefined;

test.skipIf(!hasPasst)('passt answers an ARP request for its router', async (context) => {
  const directory = mkdtempSync(join(tmpdir(), 'passt-'));
  open.push({ close: () => rmSync(directory, { recursive: true, force: true }) });
  // It gives up its rights and has to reach the directory afterwards.
  chmodSync(directory, 0o777);
  const path = join(directory, 's');
  const child = spawn(passt, ['-f', '-1', '--socket', path], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  let ended = false;
  child.stderr.on('data', (text: Buffer) => (said += text.toString()));
  child.on('exit', () => (ended = true));
  open.push({ close: () => child.kill() });
  await until('passt runs or refuses', () => existsSync(path) || ended);
  const router = /router: ([\d.]+)/.exec(said)?.[1];
  // Not every place lets it have its name spaces, or has a network to speak of.
  if (ended || router === undefined) return context.skip();
  const client = opened(stream({ address: { path } }));
  await until('connected', () => client.linkUp);
  const frames = collect(client);
  const mac = [0x52, 0x54, 0, 0x12, 0x34, 1];
  const target = router.split('.').map(Number);
  const request = new Uint8Array(60);
  request.set([
    255,
    255,
    255,
    255,
    255,
    255,
    ...mac,
    8,
    6,
    0,
    1,
    8,
    0,
    6,
    4,
    0,
    1,
    ...mac,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    ...target,
  ]);
  client.send(request);
  const reply = () => frames.find((f) => f[12] === 8 && f[13] === 6 && f[21] === 2);
  await until(`an ARP reply; it said ${said}`, () => reply() !== undefined);
  expect([...reply()!.subarray(0, 6)]).toEqual(mac);
  expect([...reply()!.subarray(28, 32)]).toEqual(target);
});
