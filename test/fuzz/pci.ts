/**
 * Nonsense for the PCI host: configuration space, BARs that move while devices work, resets of every kind, power states,
 * bus numbers; with a controller, a network card and an exerciser that have work in flight, at random but from a seed.
 */
import { memoryStorage } from '#devices/backends/storage/memory';
import { exerciser } from '#devices/exerciser/device';
import { nic } from '#devices/nic/device';
import { loopback } from '#devices/backends/packet/loopback';
import { rid } from '#vmm/base/address';
import { FakePort, Driver, pattern } from '#test/devices/nvme/driver';
import { pciMachine } from '#test/vmm/bus/pci/machine';

export interface FuzzReport {
  readonly seed: number;
  readonly stores: number;
  readonly moves: number;
  readonly resets: number;
  readonly accesses: number;
  readonly works: number;
}

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

const portSlot = 4 << 3;
const slots = { nic: 2 << 3, exerciser: 3 << 3 };
const window = { base: 0x4000_0000, bytes: 0x40_0000 };
const secondaryBus = 5;
const memoryBytes = 4 << 20;
/** Bytes on both sides of the memory that no device may touch. */
const marginBytes = 4096;
const marker = 0xa5;
const page = 0x30000;

/**
 * Throws nonsense for `milliseconds` (or `rounds`, whichever ends first). Throws when the host throws, hangs (one round
 * above 2 s), a DMA leaves its memory or happens while nothing may master the bus, or the controller does not work after
 * a reset and a proper set-up.
 */
export function fuzzPci(seed: number, milliseconds: number, rounds = Infinity): FuzzReport {
  const below = random(seed);
  const any32 = (): number => (below(65536) * 65536 + below(65536)) >>> 0;
  const totals = { stores: 0, moves: 0, resets: 0, accesses: 0, works: 0 };
  const began = performance.now();
  for (let round = 0; round < rounds && (round === 0 || performance.now() - began < milliseconds); round++) {
    const started = performance.now();
    const fail = (what: string): never => {
      throw new Error(`seed ${seed}: round ${round}: ${what}`);
    };
    const machine = pciMachine();
    const { bus, host, store, load } = machine;
    const d = new Driver({ backend: memoryStorage(1 << 20) }, memoryBytes, false);
    const port = new FakePort(memoryBytes);
    const { clock, trace } = d;
    const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);
    host.plug(rid(slots.nic), nic({ name: 'nic0', clock, trace, backend: loopback(), mac }), port);
    host.plug(rid(slots.exerciser), exerciser({ name: 'exerciser0', clock, trace }), port);
    host.plugRootPort(rid(portSlot), 'root-port');
    host.plugBehind(rid(portSlot), 0, d.device, d.port);
    const margins = [port, d.port].flatMap(({ memory }) => [memory.subarray(0, marginBytes), memory.subarray(-marginBytes)]); // prettier-ignore
    for (const margin of margins) margin.fill(marker);
    let child = secondaryBus << 8;
    let bar = window.base;
    d.setReg = (offset, value) => void bus.write(bar + offset, 4, value);
    d.reg = (offset) => Number(bus.read(bar + offset, 4));
    const setUp = (): void => {
      host.reset();
      child = secondaryBus << 8;
      bar = window.base;
      store(portSlot, 0x18, (secondaryBus << 16) | (secondaryBus << 8));
      store(portSlot, 0x20, 0x4030_4000);
      store(portSlot, 4, 7, 2);
      store(child, 0x10, bar);
      store(child, 0x14, 0);
      store(child, 4, 6, 2);
      for (const [i, slot] of Object.values(slots).entries()) {
        for (let at = 0x10; at < 0x28; at += 4) store(slot, at, 0x5000_0000 + i * 0x100_0000 + at * 0x1_0000);
        store(slot, 4, 7, 2);
      }
      d.rewind();
      d.port.memory.fill(0, d.port.shift, d.port.shift + memoryBytes);
      d.enable();
      d.createPair(1, 64);
    };
    setUp();
    const data = pattern(4096, round + 1);
    d.backend.write(4096, data);
    const works = (): void => {
      const code = d.command(1, { opcode: 0x02, nsid: 1, prp1: page, cdw: [8, 0, 7] }).code;
      if (code !== 0 || Buffer.compare(d.peek(page, 4096), data) !== 0) fail(`broken after a reset, status ${code}`);
      totals.works++;
    };
    works();
    const targets = [child, portSlot, ...Object.values(slots), 0, 0x100, 0xff00];
    const actions: (() => void)[] = [
      () => {
        totals.stores++;
        const at = 0x3000_0000 + targets[below(targets.length)]! * 4096 + below(below(3) ? 0x200 : 0x1000);
        const bytes = ([1, 2, 4, 8] as const)[below(4)]!;
        if (bytes === 8) bus.write(at, 8, (BigInt(any32()) << 32n) | BigInt(any32()));
        else bus.write(at, bytes, any32() % 2 ** (8 * bytes));
        bus.read(at & ~7, bytes);
      },
      // Work for the controller, wherever its doorbell is; and noise where BARs may lie.
      () => d.pairs[1] && void d.submit(1, { opcode: 0x01 + below(2), nsid: 1, prp1: 0x40000 + below(64) * 4096, cdw: [128 + below(1024), 0, below(16)] }), // prettier-ignore
      () => {
        totals.accesses++;
        const at = [window.base + below(window.bytes), 0x5000_0000 + below(0x200_0000), 0x300_0000 + below(0x1000)][below(3)]! & ~3; // prettier-ignore
        if (below(2)) bus.read(at, 4);
        else bus.write(at, 4, below(3) ? below(65536) : any32());
      },
      () => clock.advance(below(20_000)),
      () => {
        totals.moves++;
        bar = below(4) ? window.base + below(16) * 0x4_0000 : any32() & ~0x3fff;
        store(child, 0x10, bar);
      },
      () => {
        if (below(6) > 0) return;
        totals.resets++;
        const how = below(4);
        const express = machine.capability(child, 0x10);
        const power = machine.capability(child, 1);
        if (how === 0) store(portSlot, 0x3e, below(2) ? 0x40 : 0, 2);
        else if (how === 1 && express !== 0) store(child, express + 8, 1 << 15, 2);
        else if (how === 2 && power !== 0) store(child, power + 4, below(4), 2);
        else store(below(2) ? child : portSlot, 4, below(8), 2);
      },
    ];
    for (let step = 0; step < 300; step++) {
      actions[below(actions.length)]!();
      // While the port may not forward requests, or is held in reset, nothing of the controller leaves.
      const isStopped = (load(portSlot, 4, 2) & 4) === 0 || (load(portSlot, 0x3e, 2) & 0x40) !== 0;
      if (!isStopped) continue;
      const before = d.port.reads + d.port.writes;
      clock.advance(below(5000));
      if (d.port.reads + d.port.writes !== before) fail('a DMA while the port above stops it');
    }
    setUp();
    works();
    for (const margin of margins) if (margin.some((byte) => byte !== marker)) fail('bytes outside memory were changed');
    const took = performance.now() - started;
    if (took > 2000) fail(`a round took ${took} ms`);
  }
  return { seed, ...totals };
}
