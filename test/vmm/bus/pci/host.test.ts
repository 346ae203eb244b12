import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { rid } from '#vmm/base/address';
import type { TraceEvent } from '#vmm/base/events';
import type { BarSpec } from '#vmm/base/ports';
import { pciEvents } from '#vmm/bus/pci/events';
import { ecamBase, pciMachine, registers, testFunction } from './machine.ts';

const slot = 1 << 3;
const memoryEnable = 2;
const busMasterEnable = 4;

describe('ECAM', () => {
  test('the host bridge is at 00:00.0 and empty places read all ones', () => {
    const { load, store, bus } = pciMachine();
    expect(load(0, 0)).toBe(0x0008_1b36);
    expect(load(0, 8) >>> 8).toBe(0x060000);
    expect([load(0, 4), load(0, 0x34)]).toEqual([0, 0]);
    expect(load(slot, 0)).toBe(0xffff_ffff);
    expect(load(slot, 0, 2)).toBe(0xffff);
    expect(load(0xffff, 0xffc)).toBe(0xffff_ffff);
    store(slot, 4, 0xffff);
    expect(bus.read(ecamBase + slot * 4096, 8)).toBe(0xffff_ffff_ffff_ffffn);
  });

  test('the header says what the function is', () => {
    const { load, plug } = pciMachine();
    plug(slot, testFunction());
    expect(load(slot, 0)).toBe(0xabcd_1234);
    expect(load(slot, 8)).toBe(0x01080203);
    expect(load(slot, 0x2c)).toBe(0x1100_1af4);
    expect(load(slot, 0x0e, 1)).toBe(0);
    expect(load(slot, 0x3d, 1)).toBe(0);
    expect(load(slot, 0x100)).toBe(0);
  });

  test('odd widths and alignments do no harm', () => {
    const { load, store, bus, plug } = pciMachine();
    plug(slot, testFunction());
    expect(load(slot, 1, 2)).toBe(0xcd12);
    expect(load(slot, 3, 2)).toBe(0xffff);
    expect(load(slot, 2, 4)).toBe(0xffff_ffff);
    expect(bus.read(ecamBase + slot * 4096, 8)).toBe(0x0010_0000_abcd_1234n);
    expect(bus.read(ecamBase + slot * 4096 + 2, 8)).toBe(0xffff_ffff_ffff_ffffn);
    store(slot, 0x3b, 0xffff, 2);
    bus.write(ecamBase + slot * 4096 + 0x38, 8, 0xffff_ffff_ffff_ffffn);
    expect(load(slot, 0x3c)).toBe(0xff);
  });

  test('two functions on one address are refused by name', () => {
    const { plug, host } = pciMachine();
    plug(slot, testFunction({ name: 'nvme' }));
    expect(() => plug(slot, testFunction({ name: 'nic' }))).toThrow('nic and nvme are both at PCI address 00:01.0');
    expect(() => plug(0, testFunction({ name: 'nic' }))).toThrow('nic and host-bridge are both at PCI address 00:00.0');
    expect(() => plug(0x100, testFunction({ name: 'nic' }))).toThrow('01:00.0 is not on bus 0');
    expect(host.functions().map(({ rid, function: { name } }) => [rid, name])).toEqual([
      [0, 'host-bridge'],
      [slot, 'nvme'],
    ]);
  });

  test('a second function of a device sets the multi-function bit of the first', () => {
    const { plug, load } = pciMachine();
    plug(slot + 1, testFunction());
    plug(slot, testFunction());
    expect(load(slot, 0x0e, 1)).toBe(0x80);
    expect(load(slot + 1, 0x0e, 1)).toBe(0);
  });
});

describe('configuration registers', () => {
  test('no sequence of stores changes what is read-only', () => {
    const fn = testFunction({
      flr: false,
      bars: [{ index: 0, bytes: 0x4000, kind: 'memory64', device: registers(1) }],
      msix: { vectors: 3, tableBar: 0, tableOffset: 0x2000, pbaBar: 0, pbaOffset: 0x3000 },
    });
    const store = fc.tuple(fc.nat(4095), fc.constantFrom(1, 2, 4), fc.nat(0xffff_ffff));
    fc.assert(
      fc.property(fc.array(store, { maxLength: 60 }), (stores) => {
        const machine = pciMachine();
        machine.plug(slot, fn);
        const plugged = machine.host.functions()[1]!;
        const before = new Map(plugged.registers().map((register) => [register.name, register]));
        for (const [offset, bytes, value] of stores) machine.store(slot, offset, value, bytes as 1);
        for (const { name, value, offset, bytes } of plugged.registers()) {
          // What software can set at all, found by writing ones and zeroes to a fresh function.
          const fresh = pciMachine();
          fresh.plug(slot, fn);
          const width = bytes as 1 | 2 | 4;
          fresh.store(slot, offset, 2 ** (8 * bytes) - 1, width);
          const ones = fresh.load(slot, offset, width);
          fresh.store(slot, offset, 0, width);
          const fixed = ~(ones ^ fresh.load(slot, offset, width));
          expect((value & fixed) >>> 0, name).toBe((before.get(name)!.value & fixed) >>> 0);
        }
      }),
      { numRuns: 15 },
    );
  });

  test('byte lanes that were not written clear nothing', () => {
    const { plug, store, load, host } = pciMachine();
    plug(slot, testFunction());
    // Command and status share a double word: a store to one leaves the other.
    store(slot, 4, 0x0507, 2);
    store(slot, 6, 0xffff, 2);
    expect(load(slot, 4, 2)).toBe(0x0507);
    store(slot, 5, 0, 1);
    expect(load(slot, 4, 2)).toBe(0x0007);
    expect(
      host
        .functions()[1]!
        .registers()
        .find(({ name }) => name === 'command')!.meaning,
    ).toBe('io_space=0x1 memory_space=0x1 bus_master=0x1');
  });

  test('the trace names the register and its fields', () => {
    const { plug, store, trace } = pciMachine();
    plug(slot, testFunction());
    const events: TraceEvent[] = [];
    trace.listen((event) => events.push(event));
    store(slot, 4, 6, 2);
    expect(events.find(({ name }) => name === 'pci.config-write')?.fields).toEqual({
      function: slot,
      register: 'command',
      value: 6,
      meaning: 'memory_space=0x1 bus_master=0x1',
    });
    expect(events.map(({ name }) => name)).toContain('pci.bus-master');
    for (const { name, fields } of events)
      if (name in pciEvents)
        expect(Object.keys(fields)).toEqual(Object.keys(pciEvents[name as keyof typeof pciEvents].fields));
  });
});

describe('BARs', () => {
  const spec = fc
    .tuple(fc.constantFrom('memory32', 'memory64', 'io'), fc.nat(27), fc.boolean(), fc.constantFrom(0, 1, 2, 3, 4))
    .map(([kind, size, prefetchable, index]): BarSpec => {
      const shift = kind === 'io' ? 4 + (size % 5) : kind === 'memory64' ? 4 + ((size * 7) % 36) : 4 + size;
      const place = index as BarSpec['index'];
      return { index: place, bytes: 2 ** shift, kind: kind as BarSpec['kind'], prefetchable, device: registers(1) };
    });

  test('sizing finds the size and the type of any BAR', () => {
    fc.assert(
      fc.property(spec, (bar) => {
        const { plug, load, store } = pciMachine();
        plug(slot, testFunction({ bars: [bar] }));
        const offset = 0x10 + 4 * bar.index;
        const type = load(slot, offset);
        store(slot, offset, 0xffff_ffff);
        const low = load(slot, offset);
        if (bar.kind === 'io') {
          expect(type).toBe(1);
          expect((~(low & ~3) + 1) >>> 0).toBe(bar.bytes);
          return;
        }
        expect(type).toBe((bar.kind === 'memory64' ? 4 : 0) | (bar.prefetchable ? 8 : 0));
        expect(low & 15).toBe(type);
        if (bar.kind === 'memory32') {
          expect((~(low & ~15) + 1) >>> 0).toBe(bar.bytes);
          expect(load(slot, offset + 4)).toBe(0);
          return;
        }
        store(slot, offset + 4, 0xffff_ffff);
        const whole = (BigInt(load(slot, offset + 4)) << 32n) | BigInt((low & ~15) >>> 0);
        expect(BigInt.asUintN(64, ~whole + 1n)).toBe(BigInt(bar.bytes));
      }),
      { numRuns: 60 },
    );
  });

  test('a BAR answers where it was put, while decoding is on', () => {
    const { plug, store, bus } = pciMachine();
    const device = registers(5);
    plug(slot, testFunction({ bars: [{ index: 0, bytes: 0x4000, kind: 'memory64', device }] }));
    store(slot, 0x10, 0x4000_0000);
    expect(bus.read(0x4000_0010, 4)).toBe(0xffff_ffff);
    store(slot, 4, memoryEnable, 2);
    expect(bus.read(0x4000_0010, 4)).toBe(0x0500_0010);
    expect(bus.read(0x4000_3ffe, 4)).toBe(0xffff_ffff);
    expect(bus.read(0x4000_4000, 8)).toBe(0xffff_ffff_ffff_ffffn);
    // Moved while it decodes, into the 64-bit window.
    store(slot, 0x14, 4);
    expect(bus.read(0x4000_0010, 4)).toBe(0xffff_ffff);
    expect(bus.read(0x4_4000_0010, 4)).toBe(0x0500_0010);
    expect(bus.write(0x4_4000_0020, 8, 9n)).toBe(true);
    expect(device.stores).toEqual([[0x20, 8, 9n]]);
    store(slot, 4, 0, 2);
    expect(bus.read(0x4_4000_0010, 2)).toBe(0xffff);
  });

  test('an I/O BAR answers in the I/O window', () => {
    const { plug, store, bus } = pciMachine();
    plug(slot, testFunction({ bars: [{ index: 2, bytes: 0x20, kind: 'io', device: registers(7) }] }));
    store(slot, 0x18, 0x1040);
    store(slot, 4, 1, 2);
    expect(bus.read(0x300_1044, 4)).toBe(0x0700_0004);
    expect(bus.read(0x300_1060, 4)).toBe(0xffff_ffff);
  });

  test('overlapping BARs: the lower function wins, the rest of the other still answers', () => {
    const { plug, store, bus, host } = pciMachine();
    plug(
      slot + 8,
      testFunction({ name: 'b', bars: [{ index: 0, bytes: 0x4000, kind: 'memory32', device: registers(2) }] }),
    );
    plug(
      slot,
      testFunction({ name: 'a', bars: [{ index: 0, bytes: 0x1000, kind: 'memory32', device: registers(1) }] }),
    );
    store(slot, 0x10, 0x4000_1000);
    store(slot + 8, 0x10, 0x4000_0000);
    store(slot, 4, memoryEnable, 2);
    store(slot + 8, 4, memoryEnable, 2);
    expect(bus.read(0x4000_0ffc, 4)).toBe(0x0200_0ffc);
    expect(bus.read(0x4000_1000, 4)).toBe(0x0100_0000);
    expect(bus.read(0x4000_2000, 4)).toBe(0x0200_2000);
    expect(bus.read(0x4000_0ffe, 4)).toBe(0xffff_ffff);
    expect(host.functions().flatMap((fn) => fn.bars().map(({ name, address }) => [name, address]))).toEqual([
      ['a.bar0', 0x4000_1000],
      ['b.bar0', 0x4000_0000],
    ]);
  });

  test('any placement of many BARs answers as the priority rule says', () => {
    const placement = fc.array(fc.tuple(fc.nat(15), fc.nat(3)), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(placement, fc.array(fc.nat(0xffff), { maxLength: 20 }), (places, probes) => {
        const { plug, store, bus } = pciMachine();
        const bars = places.map(([page, size]) => ({
          address: 0x4000_0000 + ((page >> size) << size) * 0x1000,
          bytes: 0x1000 << size,
        }));
        bars.forEach(({ address, bytes }, i) => {
          plug(8 * (i + 1), testFunction({ bars: [{ index: 0, bytes, kind: 'memory32', device: registers(i + 1) }] }));
          store(8 * (i + 1), 4, memoryEnable, 2);
          store(8 * (i + 1), 0x10, address);
        });
        for (const probe of probes) {
          const address = 0x4000_0000 + (probe & ~3);
          const winner = bars.findIndex((bar) => address >= bar.address && address < bar.address + bar.bytes);
          const expected = winner < 0 ? 0xffff_ffff : (winner + 1) * 2 ** 24 + address - bars[winner]!.address;
          expect(bus.read(address, 4)).toBe(expected);
        }
      }),
      { numRuns: 50 },
    );
  });
});

describe('bus mastering, power and reset', () => {
  test('DMA leaves the function only with Bus Master Enable in D0', () => {
    const { plug, store, capability, requests } = pciMachine();
    const fn = testFunction();
    plug(slot, fn);
    expect(fn.port!.read(0, 0, 16).faults).toEqual([{ first: 0, last: 15, status: 'unsupported-request' }]);
    expect(fn.port!.message(0, 0, 1)).toBe(false);
    expect(requests()).toBe(0);
    store(slot, 4, busMasterEnable, 2);
    expect(fn.port!.write(0, 0, 16).faults).toEqual([]);
    expect(requests()).toBe(1);
    const power = capability(slot, 1) + 4;
    store(slot, power, 3, 2);
    expect(fn.port!.write(0, 0, 16).count).toBe(0);
    expect(requests()).toBe(1);
    store(slot, power, 0, 2);
    fn.port!.write(0, 0, 16);
    expect(requests()).toBe(2);
    expect(fn.mastering).toEqual([true, false, true]);
  });

  test('D3hot stops decoding, D1 and D2 do not exist', () => {
    const { plug, store, load, capability, bus } = pciMachine();
    plug(slot, testFunction({ bars: [{ index: 0, bytes: 0x1000, kind: 'memory32', device: registers(1) }] }));
    store(slot, 0x10, 0x4000_0000);
    store(slot, 4, memoryEnable, 2);
    const power = capability(slot, 1) + 4;
    store(slot, power, 1, 2);
    expect(load(slot, power, 2) & 3).toBe(0);
    store(slot, power, 3, 2);
    expect(load(slot, power, 2) & 3).toBe(3);
    expect(bus.read(0x4000_0000, 4)).toBe(0xffff_ffff);
    store(slot, power, 2, 2);
    expect(load(slot, power, 2) & 3).toBe(3);
    store(slot, power, 0, 2);
    expect(bus.read(0x4000_0000, 4)).toBe(0x0100_0000);
  });

  test('a function-level reset restores all but the maximum payload size', () => {
    const { plug, store, load, capability } = pciMachine();
    const fn = testFunction({ bars: [{ index: 0, bytes: 0x1000, kind: 'memory32', device: registers(1) }] });
    plug(slot, fn);
    store(slot, 0x10, 0x4000_0000);
    store(slot, 4, memoryEnable | busMasterEnable, 2);
    const control = capability(slot, 0x10) + 8;
    expect(load(slot, control - 4) & (1 << 28)).not.toBe(0);
    store(slot, control, 0x8020, 2);
    expect(fn.resets).toBe(1);
    expect(fn.mastering).toEqual([true, false]);
    expect(load(slot, 4, 2)).toBe(0);
    expect(load(slot, 0x10)).toBe(0);
    expect(load(slot, control, 2)).toBe(0x2830);
    expect(fn.port!.read(0, 0, 4).count).toBe(0);
  });

  test('without FLR the bit does nothing', () => {
    const { plug, store, load, capability } = pciMachine();
    const fn = testFunction({ flr: false });
    plug(slot, fn);
    const control = capability(slot, 0x10) + 8;
    expect(load(slot, control - 4) & (1 << 28)).toBe(0);
    store(slot, control, 0x8000, 2);
    expect(fn.resets).toBe(0);
    expect(load(slot, control, 2)).toBe(0);
  });

  test('a machine reset brings every function back to power-on', () => {
    const { plug, store, load, host } = pciMachine();
    const fn = testFunction();
    plug(slot, fn);
    store(slot, 4, 7, 2);
    host.reset();
    expect(load(slot, 4, 2)).toBe(0);
    expect(fn.resets).toBe(1);
    expect(
      host
        .functions()
        .find((plugged) => plugged.rid === rid(slot))!
        .bars(),
    ).toEqual([]);
  });
});
