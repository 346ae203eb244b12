import { describe, expect, test } from 'vitest';
import { pciMachine, registers, testFunction } from './machine.ts';

const slot = 1 << 3;

function withMsi(vectors: number) {
  const machine = pciMachine();
  const fn = testFunction({ msi: { vectors } });
  machine.plug(slot, fn);
  machine.store(slot, 4, 4, 2);
  const at = machine.capability(slot, 5);
  machine.store(slot, at + 4, 0x2800_1003);
  machine.store(slot, at + 8, 1);
  machine.store(slot, at + 0xc, 0x40, 2);
  const enable = (log2: number): void => machine.store(slot, at + 2, 1 | (log2 << 4), 2);
  return { ...machine, fn, at, enable };
}

describe('MSI', () => {
  test('the capability: 64-bit, maskable, as many vectors as the function wants', () => {
    const { load, at } = withMsi(8);
    expect(load(slot, at + 2, 2)).toBe((3 << 1) | (1 << 7) | (1 << 8));
    expect(load(slot, at + 4)).toBe(0x2800_1000);
  });

  test('vectors change the low bits of the data, as many as were allocated', () => {
    const { fn, enable, messages } = withMsi(8);
    fn.vectors[1]!.raise();
    expect(messages).toEqual([]);
    enable(3);
    fn.vectors[5]!.raise();
    enable(1);
    fn.vectors[5]!.raise();
    enable(0);
    fn.vectors[5]!.raise();
    // More than the function can: what it can.
    enable(5);
    fn.vectors[7]!.raise();
    expect(messages.map(({ data }) => data)).toEqual([0x45, 0x41, 0x40, 0x47]);
    expect(messages[0]!.address).toBe(0x1_2800_1000n);
  });

  test('masked vectors wait in the pending register', () => {
    const { fn, enable, messages, load, store, at } = withMsi(4);
    enable(2);
    store(slot, at + 0x10, 0b1100);
    fn.vectors[2]!.raise();
    fn.vectors[3]!.raise();
    fn.vectors[2]!.raise();
    expect(load(slot, at + 0x14)).toBe(0b1100);
    store(slot, at + 0x14, 0);
    store(slot, at + 0x10, 0b0100);
    expect(messages.map(({ data }) => data)).toEqual([0x43]);
    store(slot, 4, 0, 2);
    store(slot, at + 0x10, 0);
    expect(load(slot, at + 0x14)).toBe(0b0100);
    store(slot, 4, 4, 2);
    expect(messages.map(({ data }) => data)).toEqual([0x43, 0x42]);
    expect(load(slot, at + 0x14)).toBe(0);
  });

  test('MSI-X goes first where both are enabled', () => {
    const machine = pciMachine();
    const fn = testFunction({
      msi: { vectors: 1 },
      msix: { vectors: 2, tableBar: 0, tableOffset: 0, pbaBar: 0, pbaOffset: 0x800 },
      bars: [{ index: 0, bytes: 0x1000, kind: 'memory32' }],
    });
    machine.plug(slot, fn);
    machine.store(slot, 0x10, 0x4000_0000);
    machine.store(slot, 4, 6, 2);
    const msi = machine.capability(slot, 5);
    machine.store(slot, msi + 0xc, 0x11, 2);
    machine.store(slot, msi + 2, 1, 2);
    fn.vectors[0]!.raise();
    machine.bus.write(0x4000_0008, 4, 0x22);
    machine.bus.write(0x4000_000c, 4, 0);
    machine.store(slot, machine.capability(slot, 0x11) + 2, 0x8000, 2);
    fn.vectors[0]!.raise();
    expect(machine.messages.map(({ data }) => data)).toEqual([0x11, 0x22]);
    expect(machine.bus.read(0x4000_0900, 4)).toBe(0);
  });

  test('a device register BAR keeps working beside it', () => {
    const { bus, plug, store } = pciMachine();
    plug(
      slot,
      testFunction({ msi: { vectors: 32 }, bars: [{ index: 1, bytes: 16, kind: 'memory32', device: registers(3) }] }),
    );
    store(slot, 0x14, 0x4000_0000);
    store(slot, 4, 2, 2);
    expect(bus.read(0x4000_000c, 4)).toBe(0x0300_000c);
  });
});
