import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { pciMachine, testFunction } from './machine.ts';

const slot = 2 << 3;
const offers = {
  ats: { invalidateQueueDepth: 32 },
  pri: { capacity: 64 },
  pasid: { bits: 20, privileged: true },
} as const;

function withTranslation() {
  const machine = pciMachine();
  const fn = testFunction(offers);
  machine.plug(slot, fn);
  machine.store(slot, 4, 4, 2);
  const [ats, pri, pasid] = [0x0f, 0x13, 0x1b].map((id) => machine.extended(slot, id)) as [number, number, number];
  return { ...machine, fn, ats, pri, pasid };
}

describe('ATS, PRI and PASID', () => {
  test('only what a function offers is in the list', () => {
    const { plug, extended, load } = pciMachine();
    plug(slot, testFunction());
    plug(slot + 8, testFunction({ ats: { invalidateQueueDepth: 1 } }));
    expect(load(slot, 0x100)).toBe(0);
    expect(extended(slot + 8, 0x0f)).toBe(0x100);
    expect(extended(slot + 8, 0x1b)).toBe(0);
  });

  test('the capabilities say what the function can', () => {
    const { load, ats, pri, pasid, capability } = withTranslation();
    expect(load(slot, ats + 4, 2)).toBe(0x20);
    const { plug, load: read, extended } = pciMachine();
    plug(slot, testFunction({ ats: { invalidateQueueDepth: 4, globalInvalidate: true } }));
    expect(read(slot, extended(slot, 0x0f) + 4, 2)).toBe(0x64);
    expect(load(slot, pri + 6, 2)).toBe(0x8100);
    expect(load(slot, pri + 8)).toBe(64);
    expect(load(slot, pasid + 4, 2)).toBe(0x1404);
    // A PASID needs an end-to-end prefix.
    expect(load(slot, capability(slot, 0x10) + 0x24)).toBe((1 << 21) | (1 << 22));
  });

  test('the function hears of its enable bits, once a change', () => {
    const { store, load, fn, ats, pri, pasid, host } = withTranslation();
    store(slot, ats + 6, 0x8001, 2);
    store(slot, ats + 6, 0x8001, 2);
    store(slot, pri + 0xc, 1000);
    store(slot, pri + 4, 1, 2);
    // Execute is not offered, so its enable bit does not exist.
    store(slot, pasid + 6, 7, 2);
    expect(load(slot, pasid + 6, 2)).toBe(5);
    const off = { smallestTranslationShift: 12, pasid: false, pasidExecute: false, pasidPrivileged: false };
    expect(fn.enables).toEqual([
      { ...off, ats: true, smallestTranslationShift: 13, pri: false, pageRequestAllocation: 0 },
      { ...off, ats: true, smallestTranslationShift: 13, pri: false, pageRequestAllocation: 64 },
      { ...off, ats: true, smallestTranslationShift: 13, pri: true, pageRequestAllocation: 64 },
      {
        ...off,
        ats: true,
        smallestTranslationShift: 13,
        pri: true,
        pageRequestAllocation: 64,
        pasid: true,
        pasidPrivileged: true,
      },
    ]);
    host.reset();
    expect(fn.enables.at(-1)).toEqual({ ...off, ats: false, pri: false, pageRequestAllocation: 0 });
    expect(fn.enables).toHaveLength(5);
  });

  test('page-request status: stopped while off, failures stay until cleared or reset', () => {
    const { store, load, fn, pri } = withTranslation();
    store(slot, pri + 4, 1, 2);
    expect(load(slot, pri + 6, 2)).toBe(0x8000);
    fn.status!.pageResponseFailed();
    fn.status!.unexpectedPageGroup();
    expect(load(slot, pri + 6, 2)).toBe(0x8003);
    store(slot, pri + 6, 1, 2);
    expect(load(slot, pri + 6, 2)).toBe(0x8002);
    // Reset counts only while the interface is off, and reads 0.
    store(slot, pri + 4, 3, 2);
    expect(load(slot, pri + 4, 2)).toBe(1);
    expect(load(slot, pri + 6, 2)).toBe(0x8002);
    store(slot, pri + 4, 2, 2);
    expect(load(slot, pri + 4, 2)).toBe(0);
    expect(load(slot, pri + 6, 2)).toBe(0x8100);
  });

  test('a DMA with a PASID leaves only while PASIDs are enabled', () => {
    const { store, fn, pasid, requests } = withTranslation();
    expect(fn.port!.read(0, 0, 4, 5).faults).toHaveLength(1);
    expect(fn.port!.write(0, 0, 4, 0).faults).toHaveLength(1);
    fn.port!.read(0, 0, 4);
    fn.port!.read(0, 0, 4, -1);
    expect(requests()).toBe(2);
    store(slot, pasid + 6, 1, 2);
    fn.port!.write(0, 0, 4, 0);
    expect(requests()).toBe(3);
    store(slot, 4, 0, 2);
    fn.port!.write(0, 0, 4, 0);
    expect(requests()).toBe(3);
  });

  test('transactions pending shows in the device status', () => {
    const { fn, load, capability } = withTranslation();
    const status = capability(slot, 0x10) + 0xa;
    fn.status!.transactionsPending(true);
    expect(load(slot, status, 2)).toBe(0x20);
    fn.status!.transactionsPending(false);
    expect(load(slot, status, 2)).toBe(0);
  });

  test('what the function was last told is always what the registers say', () => {
    const { ats, pri, pasid } = withTranslation();
    const store = fc.tuple(fc.constantFrom(ats + 6, pri + 4, pri + 0xc, pasid + 6), fc.nat(0xffff));
    fc.assert(
      fc.property(fc.array(store, { maxLength: 20 }), (stores) => {
        const machine = withTranslation();
        for (const [offset, value] of stores) machine.store(slot, offset, value, 2);
        const told = machine.fn.enables.at(-1);
        expect(told?.ats ?? false).toBe((machine.load(slot, ats + 6, 2) & 0x8000) !== 0);
        expect(told?.pri ?? false).toBe((machine.load(slot, pri + 4, 2) & 1) !== 0);
        expect(told?.pasid ?? false).toBe((machine.load(slot, pasid + 6, 2) & 1) !== 0);
        expect((machine.load(slot, pri + 6, 2) & 0x100) === 0).toBe(told?.pri ?? false);
      }),
      { numRuns: 50 },
    );
  });
});
