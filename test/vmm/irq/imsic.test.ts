import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Trace, type TraceEvent } from '#vmm/base/events';
import { irqEvents } from '#vmm/irq/events';
import { InterruptFile, interruptFileBytes } from '#vmm/irq/imsic';

const eidelivery = 0x70;
const eithreshold = 0x72;
const eip0 = 0x80;
const eie0 = 0xc0;

function file(identities = 255, trace?: Trace) {
  const signals: boolean[] = [];
  const imsic = new InterruptFile({
    name: 'hart0.s',
    identities,
    onPending: (on) => signals.push(on),
    ...(trace ? { trace } : {}),
  });
  return { imsic, signals };
}

describe('an interrupt file', () => {
  test('takes a message, signals the hart, is claimed', () => {
    const { imsic, signals } = file();
    imsic.writeIndirect(eidelivery, 1n);
    imsic.writeIndirect(eie0, 0xffff_ffff_ffff_ffffn);
    expect(imsic.topei()).toBe(0);
    imsic.write(0, 4, 33);
    imsic.write(0, 4, 7);
    expect(imsic.readIndirect(eip0)).toBe((1n << 33n) | (1n << 7n));
    expect(imsic.topei()).toBe((7 << 16) | 7);
    imsic.claim();
    expect(imsic.topei()).toBe((33 << 16) | 33);
    imsic.claim();
    expect(imsic.topei()).toBe(0);
    imsic.claim();
    expect(signals).toEqual([true, false]);
  });

  test('eidelivery gates the signal but not topei, and is WARL', () => {
    const { imsic, signals } = file();
    imsic.writeIndirect(eie0, ~0n);
    imsic.write(0, 4, 5);
    expect(signals).toEqual([]);
    expect(imsic.topei()).toBe((5 << 16) | 5);
    imsic.writeIndirect(eidelivery, 0x4000_0000);
    expect(imsic.readIndirect(eidelivery)).toBe(0);
    imsic.writeIndirect(eidelivery, 1);
    imsic.writeIndirect(eidelivery, 0xffff_ffff_ffff_ffffn);
    expect(imsic.readIndirect(eidelivery)).toBe(1);
    imsic.writeIndirect(eidelivery, 0);
    expect(signals).toEqual([true, false]);
  });

  test('eithreshold hides its own identity and those above', () => {
    const { imsic, signals } = file();
    imsic.writeIndirect(eidelivery, 1);
    imsic.writeIndirect(eie0, ~0n);
    imsic.write(0, 4, 10);
    imsic.writeIndirect(eithreshold, 10);
    expect(imsic.topei()).toBe(0);
    imsic.writeIndirect(eithreshold, 11);
    expect(imsic.topei()).toBe((10 << 16) | 10);
    imsic.writeIndirect(eithreshold, 256);
    expect(imsic.readIndirect(eithreshold)).toBe(11);
    expect(signals).toEqual([true, false, true]);
  });

  test('reserved and missing registers', () => {
    const { imsic } = file();
    for (const select of [0x71, 0x73, 0x7f]) {
      expect(imsic.writeIndirect(select, 1)).toBe(true);
      expect(imsic.readIndirect(select)).toBe(0);
    }
    for (const select of [0x81, 0xbf, 0xc1, 0xff, 0x30, 0x6f, 0x100]) {
      expect(imsic.readIndirect(select), select.toString(16)).toBeUndefined();
      expect(imsic.writeIndirect(select, 1), select.toString(16)).toBe(false);
    }
    // 255 identities are eip0 … eip6; the others exist and stay 0.
    for (const select of [0x88, 0xbe, 0xc8, 0xfe]) {
      expect(imsic.writeIndirect(select, ~0n)).toBe(true);
      expect(imsic.readIndirect(select)).toBe(0n);
    }
  });

  test('the page: big-endian port, wrong widths, wrong offsets, reads', () => {
    const { imsic } = file();
    imsic.write(4, 4, 0x0300_0000);
    expect(imsic.readIndirect(eip0)).toBe(8n);
    imsic.write(0, 2, 4);
    imsic.write(0, 1, 4);
    imsic.write(0, 8, 4n);
    imsic.write(2, 4, 4);
    imsic.write(8, 4, 4);
    imsic.write(interruptFileBytes - 4, 4, 4);
    imsic.write(0, 4, 0);
    imsic.write(0, 4, 256);
    imsic.write(0, 4, -1);
    expect(imsic.readIndirect(eip0)).toBe(8n);
    expect(imsic.read(0, 4)).toBe(0);
    expect(imsic.read(0, 8)).toBe(0n);
  });

  test('reset drops the signal and everything that was pending', () => {
    const { imsic, signals } = file();
    imsic.writeIndirect(eidelivery, 1);
    imsic.writeIndirect(eie0, ~0n);
    imsic.write(0, 4, 1);
    imsic.reset();
    expect(signals).toEqual([true, false]);
    expect(imsic.readIndirect(eip0)).toBe(0n);
    expect(imsic.readIndirect(eie0)).toBe(0n);
    expect(imsic.readIndirect(eidelivery)).toBe(0);
  });

  test('events carry the fields of the catalogue', () => {
    const trace = new Trace(() => 0);
    const events: TraceEvent[] = [];
    trace.listen((event) => events.push(event));
    const { imsic } = file(255, trace);
    imsic.writeIndirect(eidelivery, 1);
    imsic.writeIndirect(eie0, ~0n);
    imsic.write(0, 4, 3);
    imsic.claim();
    expect(events.map(({ name }) => name)).toEqual(['imsic.message', 'imsic.signal', 'imsic.claim', 'imsic.signal']);
    for (const { name, fields } of events)
      expect(Object.keys(fields)).toEqual(Object.keys(irqEvents[name as keyof typeof irqEvents].fields));
  });

  test('agrees with a model of sets under any sequence', () => {
    const wide = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    const action = fc.oneof(
      fc.record({ kind: fc.constant('message' as const), value: fc.integer({ min: 0, max: 300 }) }),
      fc.record({ kind: fc.constant('eip' as const), index: fc.nat(31), value: wide }),
      fc.record({ kind: fc.constant('eie' as const), index: fc.nat(31), value: wide }),
      fc.record({ kind: fc.constant('threshold' as const), value: fc.nat(300) }),
      fc.record({ kind: fc.constant('delivery' as const), value: fc.nat(2) }),
      fc.record({ kind: fc.constant('claim' as const) }),
    );
    fc.assert(
      fc.property(fc.constantFrom(63, 255, 2047), fc.array(action, { maxLength: 60 }), (identities, actions) => {
        const { imsic, signals } = file(identities);
        const eip = new Set<number>();
        const eie = new Set<number>();
        let threshold = 0;
        let delivery = 0;
        const top = (): number => {
          const ready = [...eip].filter((id) => eie.has(id) && (threshold === 0 || id < threshold));
          return ready.length === 0 ? 0 : Math.min(...ready);
        };
        const assign = (set: Set<number>, index: number, value: bigint): void => {
          for (let bit = 0; bit < 64; bit++) {
            const id = 64 * index + bit;
            set.delete(id);
            if (id >= 1 && id <= identities && (value >> BigInt(bit)) & 1n) set.add(id);
          }
        };
        const bits = (set: Set<number>, index: number): bigint =>
          [...set].filter((id) => Math.floor(id / 64) === index).reduce((sum, id) => sum | (1n << BigInt(id % 64)), 0n);
        let signal = false;
        for (const act of actions) {
          if (act.kind === 'message') {
            imsic.write(0, 4, act.value);
            if (act.value >= 1 && act.value <= identities) eip.add(act.value);
          } else if (act.kind === 'eip' || act.kind === 'eie') {
            imsic.writeIndirect((act.kind === 'eip' ? eip0 : eie0) + 2 * act.index, act.value);
            assign(act.kind === 'eip' ? eip : eie, act.index, act.value);
          } else if (act.kind === 'threshold') {
            imsic.writeIndirect(eithreshold, act.value);
            if (act.value <= identities) threshold = act.value;
          } else if (act.kind === 'delivery') {
            imsic.writeIndirect(eidelivery, act.value);
            if (act.value <= 1) delivery = act.value;
          } else {
            eip.delete(top());
            imsic.claim();
          }
          expect(imsic.topei()).toBe((top() << 16) | top());
          signal = delivery === 1 && top() !== 0;
          expect(signals.at(-1) ?? false).toBe(signal);
          if ('index' in act) {
            expect(imsic.readIndirect(eip0 + 2 * act.index)).toBe(bits(eip, act.index));
            expect(imsic.readIndirect(eie0 + 2 * act.index)).toBe(bits(eie, act.index));
          }
        }
        // The line only ever changes: no level is told twice.
        expect(signals.every((level, i) => level === (i % 2 === 0))).toBe(true);
      }),
      { numRuns: 100 },
    );
  });
});
