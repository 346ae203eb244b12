import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AddressConflict, Bus } from '#vmm/bus/bus';
import { busEvents } from '#vmm/bus/events';
import { Trace, type TraceEvent } from '#vmm/base/events';
import type { MmioDevice } from '#vmm/base/ports';

const device = (tag: number): MmioDevice & { stores: [number, number, number | bigint][] } => {
  const stores: [number, number, number | bigint][] = [];
  return {
    stores,
    read: (offset, bytes) => (bytes === 8 ? BigInt(tag * 0x10000 + offset) : tag * 0x10000 + offset),
    write: (offset, bytes, value) => void stores.push([offset, bytes, value]),
    reset: () => {},
  };
};

describe('the address map', () => {
  test('an access reaches the region that holds all of it', () => {
    const bus = new Bus();
    const one = device(1);
    const two = device(2);
    bus.attach({ name: 'one', base: 0x1000, bytes: 0x100, device: one });
    bus.attach({ name: 'two', base: 0x1100, bytes: 0x1000, device: two });
    expect(bus.read(0x1010, 4)).toBe(0x10010);
    expect(bus.read(0x1108, 8)).toBe(0x20008n);
    expect(bus.read(0x10fe, 4)).toBeUndefined();
    expect(bus.read(0xfff, 1)).toBeUndefined();
    expect(bus.read(0x2100, 1)).toBeUndefined();
    expect(bus.write(0x1100, 2, 7)).toBe(true);
    expect(bus.write(0x20fd, 4, 7)).toBe(false);
    expect(two.stores).toEqual([[0, 2, 7]]);
    expect(one.stores).toEqual([]);
  });

  test('an overlap is refused by name and changes nothing', () => {
    const bus = new Bus();
    bus.attach({ name: 'uart', base: 0x1000_0000, bytes: 0x100, device: device(0) });
    expect(() => bus.attach({ name: 'nvme', base: 0x1000_00ff, bytes: 1, device: device(0) })).toThrow(
      new AddressConflict('nvme at 0x100000ff–0x100000ff overlaps uart at 0x10000000–0x100000ff'),
    );
    expect(() => bus.attach({ name: 'big', base: 0, bytes: 2 ** 32, device: device(0) })).toThrow(AddressConflict);
    expect(() => bus.attach({ name: 'empty', base: 0, bytes: 0, device: device(0) })).toThrow(RangeError);
    expect(() => bus.attach({ name: 'far', base: 2 ** 53 - 8, bytes: 16, device: device(0) })).toThrow(RangeError);
    expect(bus.regions().map(({ name }) => name)).toEqual(['uart']);
  });

  test('lookup agrees with a linear search', () => {
    const ranges = fc.uniqueArray(fc.integer({ min: 0, max: 63 }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(
        ranges,
        fc.array(fc.tuple(fc.integer({ min: 0, max: 1100 }), fc.constantFrom(1, 2, 4, 8))),
        (cells, accesses) => {
          const bus = new Bus();
          for (const cell of cells)
            bus.attach({ name: `r${cell}`, base: 16 * cell, bytes: 8 + (cell % 9), device: device(cell) });
          expect(bus.regions().map(({ base }) => base)).toEqual(
            cells.map((cell) => 16 * cell).toSorted((a, b) => a - b),
          );
          for (const [address, bytes] of accesses) {
            const cell = cells.find((c) => address >= 16 * c && address + bytes <= 16 * c + 8 + (c % 9));
            const expected = cell === undefined ? undefined : cell * 0x10000 + address - 16 * cell;
            const value = bus.read(address, bytes as 1);
            expect(value === undefined ? undefined : Number(value)).toBe(expected);
          }
        },
      ),
      { numRuns: 50 },
    );
  });

  test('accesses are told to a listener, with the fields that the catalogue declares', () => {
    const events: TraceEvent[] = [];
    const trace = new Trace(() => 42);
    const bus = new Bus(trace);
    bus.attach({
      name: 'outer',
      base: 0x100,
      bytes: 0x100,
      device: device(0),
      nameAt: (o) => (o >= 0x80 ? 'inner' : 'outer'),
    });
    bus.read(0x100, 4);
    const stop = trace.listen((event) => events.push(event));
    bus.write(0x184, 4, 5);
    bus.read(0x108, 8);
    bus.read(0x300, 8);
    stop();
    bus.read(0x100, 4);
    expect(events).toEqual([
      { time: 42, name: 'mmio.write', fields: { region: 'inner', address: 0x184, bytes: 4, value: 5 } },
      { time: 42, name: 'mmio.read', fields: { region: 'outer', address: 0x108, bytes: 8, value: 8n } },
    ]);
    for (const { name, fields } of events)
      expect(Object.keys(fields)).toEqual(Object.keys(busEvents[name as keyof typeof busEvents].fields));
  });
});
