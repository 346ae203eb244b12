import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Rid, rid } from '#vmm/base/address';
import type { TraceEvent } from '#vmm/base/events';
import { pciMachine, registers, testFunction } from './machine.ts';

const portSlot = 4 << 3;

function withRootPort() {
  const machine = pciMachine();
  const addresses: (Rid | undefined)[] = [];
  const fn = testFunction({
    name: 'behind',
    bars: [
      { index: 0, bytes: 0x4000, kind: 'memory64', device: registers(1) },
      { index: 2, bytes: 0x20, kind: 'io', device: registers(2) },
    ],
    msix: { vectors: 2, tableBar: 0, tableOffset: 0x2000, pbaBar: 0, pbaOffset: 0x3000 },
  });
  machine.host.plugRootPort(rid(portSlot), 'root-port');
  machine.host.plugBehind(rid(portSlot), 0, fn, machine.port, (address) => addresses.push(address));
  const child = 5 << 8;
  /** As a guest's enumeration leaves it: bus 5, 1 MiB at 0x40000000, 4 KiB of I/O at 0x2000. */
  const configure = (): void => {
    machine.store(portSlot, 0x18, 0x0005_0500);
    machine.store(portSlot, 0x1c, 0x2020, 2);
    machine.store(portSlot, 0x20, 0x4000_4000);
    machine.store(portSlot, 0x24, 0x0000_fff0);
    machine.store(portSlot, 4, 7, 2);
    machine.store(child, 0x10, 0x4000_0000);
    machine.store(child, 0x18, 0x2040);
    machine.store(child, 4, 7, 2);
  };
  return { ...machine, fn, addresses, child, configure };
}

describe('a root port', () => {
  test('is a type 1 function with ACS and a link that is up', () => {
    const { load, capability, extended } = withRootPort();
    expect(load(portSlot, 0)).toBe(0x000c_1b36);
    expect(load(portSlot, 8) >>> 8).toBe(0x060400);
    expect(load(portSlot, 0x0e, 1)).toBe(1);
    const express = capability(portSlot, 0x10);
    expect((load(portSlot, express + 2, 2) >>> 4) & 15).toBe(4);
    expect(load(portSlot, express + 0x12, 2) & (1 << 13)).not.toBe(0);
    const acs = extended(portSlot, 0x0d);
    expect(load(portSlot, acs + 4, 2)).toBe(0x1f);
  });

  test('numbers its bus, and then the function answers there', () => {
    const { load, configure, child, addresses, host } = withRootPort();
    expect(load(child, 0)).toBe(0xffff_ffff);
    expect(host.functions().map((fn) => [fn.rid, fn.behind])).toEqual([
      [0, undefined],
      [portSlot, undefined],
      [undefined, portSlot],
    ]);
    configure();
    expect(load(child, 0)).toBe(0xabcd_1234);
    expect(load(child + 8, 0)).toBe(0xffff_ffff);
    expect(load(child + 1, 0)).toBe(0xffff_ffff);
    expect(load(6 << 8, 0)).toBe(0xffff_ffff);
    expect(addresses).toEqual([child]);
    expect(host.functions().at(-1)?.rid).toBe(child);
  });

  test('forwards what its windows hold, and only that', () => {
    const { bus, store, configure, child } = withRootPort();
    configure();
    expect(bus.read(0x4000_0010, 4)).toBe(0x0100_0010);
    expect(bus.read(0x300_2044, 4)).toBe(0x0200_0004);
    // Out of the 32-bit window, into the prefetchable one above 4 GiB.
    store(child, 0x14, 4);
    expect(bus.read(0x4_4000_0010, 4)).toBe(0xffff_ffff);
    store(portSlot, 0x24, 0x4000_4000);
    store(portSlot, 0x28, 4);
    store(portSlot, 0x2c, 4);
    expect(bus.read(0x4_4000_0010, 4)).toBe(0x0100_0010);
    store(portSlot, 4, 5, 2);
    expect(bus.read(0x4_4000_0010, 4)).toBe(0xffff_ffff);
    expect(bus.read(0x300_2044, 4)).toBe(0x0200_0004);
    store(portSlot, 0x1c, 0x3030, 2);
    expect(bus.read(0x300_2044, 4)).toBe(0xffff_ffff);
  });

  test('lets requests and messages up only while it masters the bus', () => {
    const { bus, store, configure, child, fn, messages, requests, capability } = withRootPort();
    configure();
    bus.write(0x4000_2008, 4, 77);
    bus.write(0x4000_200c, 4, 0);
    store(child, capability(child, 0x11) + 2, 0x8000, 2);
    store(portSlot, 4, 3, 2);
    expect(fn.mastering).toEqual([true, false]);
    expect(fn.port!.read(0, 0, 8).faults).toHaveLength(1);
    fn.vectors[0]!.raise();
    expect([requests(), messages.length]).toEqual([0, 0]);
    store(portSlot, 4, 7, 2);
    expect(messages.map(({ data }) => data)).toEqual([77]);
    fn.port!.read(0, 0, 8);
    expect(requests()).toBe(1);
    // D3hot of the port stops the device behind it as well.
    store(portSlot, capability(portSlot, 1) + 4, 3, 2);
    fn.port!.read(0, 0, 8);
    expect(requests()).toBe(1);
  });

  test('secondary bus reset resets what is behind it and holds it', () => {
    const { load, store, configure, child, fn, trace, addresses } = withRootPort();
    configure();
    const events: TraceEvent[] = [];
    trace.listen((event) => events.push(event));
    store(portSlot, 0x3e, 0x40, 2);
    expect(fn.resets).toBe(1);
    expect(events.find(({ name }) => name === 'pci.reset')?.fields).toEqual({
      function: child,
      name: 'behind',
      cause: 'hot reset',
    });
    expect(load(child, 0)).toBe(0xffff_ffff);
    store(portSlot, 0x3e, 0x40, 2);
    store(portSlot, 0x3e, 0, 2);
    expect(fn.resets).toBe(1);
    expect(load(child, 0)).toBe(0xabcd_1234);
    expect(load(child, 4, 2)).toBe(0);
    expect(load(child, 0x10)).toBe(4);
    expect(fn.port!.read(0, 0, 8).faults).toHaveLength(1);
    // The port itself kept its numbers.
    expect(load(portSlot, 0x19, 1)).toBe(5);
    expect(addresses).toEqual([child]);
  });

  test('a machine reset takes the numbers away', () => {
    const { host, configure, addresses, fn, load, child } = withRootPort();
    configure();
    host.reset();
    expect(addresses).toEqual([child, undefined]);
    expect(fn.resets).toBe(1);
    expect(load(child, 0)).toBe(0xffff_ffff);
  });

  test('mistakes are refused in a sentence', () => {
    const { host, port } = withRootPort();
    const fn = testFunction({ name: 'nic' });
    expect(() => host.plugRootPort(rid(portSlot), 'second')).toThrow(
      'second and root-port are both at PCI address 00:04.0',
    );
    expect(() => host.plugBehind(rid(8), 0, fn, port)).toThrow('nic: there is no root port at PCI address 00:01.0');
    expect(() => host.plugBehind(rid(portSlot), 0, fn, port)).toThrow(
      'nic and behind are both function 0 behind 00:04.0',
    );
    expect(() => host.plugBehind(rid(portSlot), 8, fn, port)).toThrow('function number 8 is not 0 … 7');
    host.plugBehind(rid(portSlot), 1, fn, port);
    expect(host.functions().filter(({ behind }) => behind === portSlot)).toHaveLength(2);
  });

  test('no stores to any configuration space break the host', () => {
    const store = fc.record({
      slot: fc.constantFrom(0, portSlot, 5 << 8, (5 << 8) + 1, 0x100, 0xff00),
      offset: fc.nat(0xfff),
      bytes: fc.constantFrom(1, 2, 4, 8),
      value: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    });
    const probes = [0x4000_0000, 0x4000_2000, 0x300_2040, 0x4_0000_0000, 0x7fff_fffc];
    fc.assert(
      fc.property(fc.array(store, { maxLength: 60 }), (stores) => {
        const { bus, configure, fn, host } = withRootPort();
        configure();
        for (const { slot, offset, bytes, value } of stores) {
          const address = 0x3000_0000 + slot * 4096 + offset;
          bus.write(address, bytes as 8, bytes === 8 ? value : Number(BigInt.asUintN(8 * bytes, value)));
          for (const probe of probes) expect(bus.read(probe, 4)).toBeTypeOf('number');
          fn.vectors[1]!.raise();
        }
        for (const plugged of host.functions())
          expect(plugged.capabilities().every(({ registers }) => registers.length > 1)).toBe(true);
      }),
      { numRuns: 40 },
    );
  });

  test('capabilities are walked as a guest finds them', () => {
    const { host, load } = withRootPort();
    const plugged = host.functions().find(({ rid: at }) => at === portSlot)!;
    expect(plugged.capabilities().map(({ name, isExtended }) => [name, isExtended])).toEqual([
      ['Power Management', false],
      ['PCI Express', false],
      ['Access Control Services', true],
    ]);
    expect(host.functions()[0]!.capabilities()).toEqual([]);
    for (const { id, offset, isExtended } of plugged.capabilities())
      expect(load(portSlot, offset, isExtended ? 2 : 1)).toBe(id);
  });
});
