/** Nonsense for the network adapter: registers, descriptors, frames, faults, resets, at random but from a seed. */
import { Clock } from '#vmm/base/clock';
import { hub } from '#devices/backends/packet/hub';
import { TestDriver, adapter, rxPlace, txPlace } from '../devices/nic/driver.ts';

/** xorshift32: the same run for the same seed. */
const random = (seed: number): ((below: number) => number) => {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % below;
  };
};

/** Registers that matter are hit more often than the rest of the region. */
// prettier-ignore
const favourites = [
  0x0000, 0x0018, 0x0020, 0x00c0, 0x00c4, 0x00c8, 0x00d0, 0x00d8, 0x00dc, 0x00e0, 0x00e4, 0x00e8, 0x0100, 0x0400, 0x1000, 0x2170, 0x2800,
  0x2804, 0x2808, 0x2810, 0x2818, 0x2820, 0x282c, 0x2900, 0x2908, 0x2910, 0x2918, 0x3800, 0x3804, 0x3808, 0x3810, 0x3818, 0x3820, 0x382c,
  0x3840, 0x3900, 0x3908, 0x3910, 0x3918, 0x5000, 0x5008, 0x5404, 0x5818, 0x0014, 0x102c, 0x0010, 0x0038,
];

export interface FuzzReport {
  readonly seed: number;
  readonly operations: number;
  readonly framesSent: number;
  readonly framesReceived: number;
  readonly dmaFaults: number;
  /** Longest single operation, in milliseconds of the wall clock. */
  readonly slowestMs: number;
}

/**
 * Throws nonsense at two adapters on a hub for `milliseconds` (or `operations`, whichever ends first). Throws when an
 * adapter throws, hangs (one operation above 2 s), writes outside what its port granted, or stops working after a reset.
 */
export const fuzzNic = (seed: number, milliseconds: number, operations = Infinity): FuzzReport => {
  const below = random(seed);
  const any32 = (): number => (below(65536) * 65536 + below(65536)) >>> 0;
  const clock = new Clock();
  const ports = hub(3);
  const drivers = [1, 2].map((n) => new TestDriver(adapter(n, clock, ports[n - 1]!, below(2) ? Infinity : 1e9)));
  const start = (d: TestDriver): void =>
    d.start({ extended: below(3) > 0, rctl: any32() & 0x7fff_fcfc & (below(2) ? 0 : -1) });
  for (const d of drivers) start(d);
  const noise = new Uint8Array(20_000);
  for (let i = 0; i < noise.length; i++) noise[i] = below(256);
  const value = (): number =>
    [any32, () => below(256), () => below(0x10000), () => 1 << below(32), () => 0xffff_ffff, () => 0, () => below(64) * 16][below(7)]!() >>> 0; // prettier-ignore

  const actions: ((d: TestDriver) => void)[] = [
    (d) => d.on.write(favourites[below(favourites.length)]!, value()),
    (d) => d.on.write(favourites[below(favourites.length)]!, value()),
    (d) => void d.on.read(favourites[below(favourites.length)]!),
    (d) => d.on.write(below(0x8000) * 4, value()),
    (d) => void d.on.read(below(0x8000) * 4),
    (d) => {
      const bar = d.on.device.bars[below(2) * 2]!.device!;
      const bytes = ([1, 2, 4, 8] as const)[below(4)]!;
      const offset = below(0x20000 - 8);
      if (below(2)) bar.write(offset, bytes, bytes === 8 ? BigInt(any32()) << 17n : value());
      else bar.read(offset, bytes);
    },
    // Descriptors of every kind, whole or noise.
    (d) => {
      const q = below(2);
      const address = below(4) ? BigInt(txPlace(q).buffers + below(0x1000)) : BigInt(any32()) << BigInt(below(33));
      const lower = below(2) ? any32() : below(2000) | (below(256) << 24) | (below(3) << 20);
      d.descriptor(q, address, lower, any32());
    },
    (d) => d.queue(noise.subarray(below(1000), 1000 + below(1600)), below(2), { popts: below(4), tse: below(4) === 0, legacy: below(3) === 0, vlan: below(65536) }), // prettier-ignore
    (d) => d.context(below(2), { ipcss: below(80), ipcso: below(80), ipcse: below(100), tucss: below(100), tucso: below(100), tucse: below(3), tucmd: below(4), hdrlen: below(100), mss: below(4) ? below(2000) : below(8) }), // prettier-ignore
    (d) => d.doorbell(below(2)),
    (d) => d.doorbell(below(2)),
    (d) => {
      const at = rxPlace(below(2)).ring + below(64) * 16;
      d.on.memory.view.setUint32(at, any32(), true);
      d.on.memory.view.setUint32(at + 4, below(3), true);
    },
    () => ports[2]!.send(noise.subarray(0, 1 + below(below(4) ? 1600 : 19_000))),
    () => clock.advance(below(100_000)),
    () => clock.advance(below(2_000_000)),
    (d) => {
      if (below(8) === 0) d.on.device.busMaster(below(3) > 0);
    },
    (d) => {
      if (below(2)) d.on.memory.refused.add(below(0x800));
      else d.on.memory.refused.clear();
    },
    (d) => {
      if (below(16) === 0) d.on.device.reset();
    },
    (d) => {
      if (below(8) === 0) {
        d.on.device.busMaster(true);
        start(d);
      }
    },
  ];

  const began = performance.now();
  let done = 0;
  let slowest = 0;
  while (done < operations && performance.now() - began < milliseconds) {
    const before = performance.now();
    actions[below(actions.length)]!(drivers[below(drivers.length)]!);
    const took = performance.now() - before;
    if (took > slowest) slowest = took;
    if (took > 2000) throw new Error(`seed ${seed}: operation ${done} took ${took} ms`);
    done++;
  }

  // After all that a reset must give a working pair.
  const [a, b] = drivers as [TestDriver, TestDriver];
  for (const d of drivers) {
    d.on.memory.refused.clear();
    d.on.device.busMaster(true);
    d.on.device.reset();
    d.start();
  }
  clock.advance(10_000_000);
  for (const d of drivers) d.take();
  const probe = noise.slice(0, 200);
  // To everybody: the NVM, and so the address, may have been written.
  probe.fill(0xff, 0, 6);
  probe.set([0x88, 0xb5], 12);
  a.queue(probe);
  a.doorbell();
  clock.advance(1_000_000);
  const got = b.take();
  if (got.length !== 1 || Buffer.compare(got[0]!.bytes, probe) !== 0)
    throw new Error(`seed ${seed}: broken after a reset`);
  const sum = (key: 'framesSent' | 'framesReceived' | 'dmaFaults'): number =>
    drivers.reduce((n, d) => n + d.on.device.statistics[key], 0);
  return {
    seed,
    operations: done,
    framesSent: sum('framesSent'),
    framesReceived: sum('framesReceived'),
    dmaFaults: sum('dmaFaults'),
    slowestMs: slowest,
  };
};
