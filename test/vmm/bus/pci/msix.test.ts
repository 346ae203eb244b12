import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { pciMachine, registers, testFunction } from './machine.ts';

const slot = 1 << 3;
const bar = 0x4000_0000;
const table = bar + 0x2000;
const pending = bar + 0x3000;
const enable = 0x8000;
const functionMask = 0x4000;

function withMsix(vectors = 4) {
  const machine = pciMachine();
  const device = registers(9);
  const fn = testFunction({
    bars: [{ index: 0, bytes: 0x4000, kind: 'memory64', device }],
    msix: { vectors, tableBar: 0, tableOffset: 0x2000, pbaBar: 0, pbaOffset: 0x3000 },
  });
  machine.plug(slot, fn);
  machine.store(slot, 0x10, bar);
  machine.store(slot, 4, 6, 2);
  const control = machine.capability(slot, 0x11) + 2;
  const entry = (vector: number, address: bigint, data: number, mask: number): void => {
    const at = table + 16 * vector;
    machine.bus.write(at, 8, address);
    machine.bus.write(at + 8, 4, data);
    machine.bus.write(at + 12, 4, mask);
  };
  return {
    ...machine,
    device,
    fn,
    control,
    entry,
    setControl: (value: number) => machine.store(slot, control, value, 2),
  };
}

describe('MSI-X', () => {
  test('the capability says where table and pending bits are', () => {
    const { load, control } = withMsix(4);
    expect(load(slot, control, 2)).toBe(3);
    expect(load(slot, control + 2)).toBe(0x2000);
    expect(load(slot, control + 6)).toBe(0x3000);
  });

  test('table entries start masked and read back; the rest of the BAR is the device', () => {
    const { bus, device } = withMsix();
    expect(bus.read(table + 12, 4)).toBe(1);
    bus.write(table + 16, 4, 0x2800_0003);
    bus.write(table + 24, 8, 0xffff_fffe_0000_0021n);
    expect(bus.read(table + 16, 8)).toBe(0x2800_0000n);
    expect(bus.read(table + 24, 8)).toBe(0x21n);
    expect(bus.read(table + 24, 2)).toBe(0);
    bus.write(table + 24, 1, 0xff);
    expect(bus.read(table + 24, 4)).toBe(0x21);
    expect(bus.read(table + 64, 4)).toBe(0x0900_2040);
    bus.write(pending, 8, 0xffn);
    expect(bus.read(pending, 8)).toBe(0n);
    expect(device.stores).toEqual([]);
    bus.write(bar + 8, 4, 1);
    expect(device.stores).toEqual([[8, 4, 1]]);
  });

  test('a raised vector is one message with its address and data', () => {
    const { fn, messages, entry, setControl } = withMsix();
    entry(2, 0x1_2800_1000n, 33, 0);
    fn.vectors[2]!.raise();
    expect(messages).toEqual([]);
    setControl(enable);
    fn.vectors[2]!.raise();
    fn.vectors[2]!.lower();
    fn.vectors[2]!.raise();
    expect(messages).toEqual([
      { address: 0x1_2800_1000n, data: 33 },
      { address: 0x1_2800_1000n, data: 33 },
    ]);
  });

  test('what is masked stays pending, once, until it is let go', () => {
    const { fn, bus, messages, entry, setControl, store } = withMsix();
    entry(0, 0x2800_0000n, 10, 0);
    entry(3, 0x2800_0000n, 13, 1);
    setControl(enable);
    fn.vectors[3]!.raise();
    fn.vectors[3]!.raise();
    expect(bus.read(pending, 4)).toBe(8);
    bus.write(table + 3 * 16 + 12, 4, 0);
    expect(messages.map(({ data }) => data)).toEqual([13]);
    expect(bus.read(pending, 4)).toBe(0);
    setControl(enable | functionMask);
    fn.vectors[3]!.raise();
    fn.vectors[0]!.raise();
    expect(bus.read(pending, 8)).toBe(9n);
    setControl(enable);
    expect(messages.map(({ data }) => data)).toEqual([13, 10, 13]);
    // Without bus mastering a message cannot leave either.
    store(slot, 4, 2, 2);
    fn.vectors[0]!.raise();
    expect(messages).toHaveLength(3);
    store(slot, 4, 6, 2);
    expect(messages).toHaveLength(4);
  });

  test('a function-level reset masks all vectors and forgets what was pending', () => {
    const { fn, bus, entry, setControl, store, load, capability, control } = withMsix();
    entry(1, 0x2800_0000n, 11, 1);
    setControl(enable);
    fn.vectors[1]!.raise();
    store(slot, capability(slot, 0x10) + 8, 0x8000, 2);
    expect(load(slot, control, 2)).toBe(3);
    store(slot, 0x10, bar);
    store(slot, 4, 6, 2);
    expect(bus.read(table + 16, 8)).toBe(0n);
    expect(bus.read(table + 28, 4)).toBe(1);
    expect(bus.read(pending, 8)).toBe(0n);
  });

  test('agrees with a model under any sequence of masks and edges', () => {
    const action = fc.oneof(
      fc.record({ kind: fc.constant('raise' as const), vector: fc.nat(69) }),
      fc.record({ kind: fc.constant('mask' as const), vector: fc.nat(69), on: fc.boolean() }),
      fc.record({ kind: fc.constant('control' as const), enabled: fc.boolean(), masked: fc.boolean() }),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 80 }), (actions) => {
        const { fn, bus, messages, entry, setControl } = withMsix(70);
        for (let vector = 0; vector < 70; vector++) entry(vector, 0x2800_0000n, vector, 1);
        const model = {
          masked: new Set(Array.from({ length: 70 }, (_, i) => i)),
          pending: new Set<number>(),
          enabled: false,
          all: false,
        };
        const sent: number[] = [];
        const flush = (): void => {
          if (!model.enabled || model.all) return;
          for (const vector of [...model.pending].sort((a, b) => a - b))
            if (!model.masked.has(vector)) {
              model.pending.delete(vector);
              sent.push(vector);
            }
        };
        for (const act of actions) {
          if (act.kind === 'raise') {
            fn.vectors[act.vector]!.raise();
            if (model.enabled) model.pending.add(act.vector);
          } else if (act.kind === 'mask') {
            bus.write(table + 16 * act.vector + 12, 4, act.on ? 1 : 0);
            if (act.on) model.masked.add(act.vector);
            else model.masked.delete(act.vector);
          } else {
            setControl((act.enabled ? enable : 0) | (act.masked ? functionMask : 0));
            model.enabled = act.enabled;
            model.all = act.masked;
          }
          flush();
        }
        expect(messages.map(({ data }) => data)).toEqual(sent);
        for (const half of [0, 8]) {
          const word = [...model.pending]
            .filter((v) => v >= 8 * half && v < 8 * half + 64)
            .reduce((bits, v) => bits | (1n << BigInt(v % 64)), 0n);
          expect(bus.read(pending + half, 8)).toBe(word);
        }
      }),
      { numRuns: 40 },
    );
  });
});
