import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Rid, rid } from '#vmm/base/address';
import type { TraceEvent } from '#vmm/base/events';
import { type TestFunction, pciMachine, registers, testFunction } from './machine.ts';

const portSlot = 4 << 3;
const child = 5 << 8;
const button = 1;
const presenceChanged = 1 << 3;
const completed = 1 << 4;
const present = 1 << 6;
const linkChanged = 1 << 8;
const linkActive = 1 << 13;
const powerOff = 1 << 10;
const blinking = 2 << 8;
const powerOn = 1 << 8;
const indicatorOff = 3 << 8;
const everyEnable = (1 << 12) | (1 << 5) | completed | presenceChanged | button;

const card = (): TestFunction =>
  testFunction({ name: 'card', bars: [{ index: 0, bytes: 0x1000, kind: 'memory32', device: registers(1) }] });

/** A machine with a hot-plug port whose bus is numbered, as a guest's hot-plug driver sees it. */
function withSlot() {
  const machine = pciMachine();
  const { host, store, load, capability, trace, port } = machine;
  host.plugRootPort(rid(portSlot), 'port0', { number: 9, port });
  const events: TraceEvent[] = [];
  trace.listen((event) => events.push(event));
  const express = capability(portSlot, 0x10);
  const msi = capability(portSlot, 0x05);
  const addresses: (Rid | undefined)[] = [];
  store(portSlot, 0x18, 0x0005_0500);
  store(portSlot, 0x20, 0x4000_4000);
  store(portSlot, 4, 6, 2);
  store(portSlot, msi + 4, 0x2800_0000);
  store(portSlot, msi + 0x0c, 77, 2);
  store(portSlot, msi + 2, 1, 2);
  return {
    ...machine,
    addresses,
    capabilities: () => load(portSlot, express + 0x14),
    control: (value: number) => store(portSlot, express + 0x18, value, 2),
    controlled: () => load(portSlot, express + 0x18, 2),
    status: () => load(portSlot, express + 0x1a, 2),
    clear: (bits: number) => store(portSlot, express + 0x1a, bits, 2),
    isLinkUp: () => (load(portSlot, express + 0x12, 2) & linkActive) !== 0,
    insert: (fn: TestFunction = card(), isCold = false) =>
      host.plugBehind(rid(portSlot), 0, fn, port, (address) => addresses.push(address), isCold),
    takeOut: () => host.unplugBehind(rid(portSlot), 0),
    slot: host.hotPlugSlot(rid(portSlot))!,
    said: () => events.filter(({ name }) => name === 'pci.slot').map(({ fields }) => fields['event']),
  };
}

describe('a hot-plug slot', () => {
  test('says what it can, and is empty and off', () => {
    const { capabilities, status, controlled, isLinkUp, load, capability } = withSlot();
    expect(load(portSlot, capability(portSlot, 0x10) + 2, 2) & (1 << 8)).not.toBe(0);
    expect(capabilities()).toBe((9 << 19) | 0b111_1011);
    expect(status()).toBe(0);
    expect(controlled() & powerOff).toBe(powerOff);
    expect(isLinkUp()).toBe(false);
  });

  test('a card comes: presence, one message; power brings the link, and the card answers', () => {
    const { insert, control, status, clear, isLinkUp, messages, load, said, addresses } = withSlot();
    control(everyEnable | powerOff | indicatorOff);
    clear(completed);
    messages.length = 0;
    insert();
    expect(status()).toBe(present | presenceChanged | button);
    expect(messages).toEqual([{ address: 0x2800_0000n, data: 77 }]);
    expect(load(child, 0)).toBe(0xffff_ffff);
    clear(presenceChanged | button);
    control(everyEnable | powerOn);
    expect(status()).toBe(present | linkChanged | completed);
    expect(isLinkUp()).toBe(true);
    expect(messages).toHaveLength(2);
    expect(load(child, 0)).toBe(0xabcd_1234);
    expect(addresses).toEqual([child]);
    expect(said()).toEqual(['card in', 'power on', 'link up']);
  });

  test('sends a message only when something pending becomes enabled, and again after all was cleared', () => {
    const { insert, control, clear, status, messages } = withSlot();
    insert();
    expect(messages).toHaveLength(0);
    control(presenceChanged | powerOff | indicatorOff);
    expect(messages).toHaveLength(0);
    control(presenceChanged | (1 << 5) | powerOff | indicatorOff);
    expect(messages).toHaveLength(1);
    control(everyEnable | powerOff | indicatorOff);
    expect(messages).toHaveLength(1);
    clear(presenceChanged | button);
    expect(status() & completed).toBe(completed);
    expect(messages).toHaveLength(1);
    clear(completed);
    control(everyEnable | powerOff | indicatorOff);
    expect(messages).toHaveLength(2);
  });

  test('a message waits for Bus Master Enable and for the mask of the port', () => {
    const { insert, control, store, capability, messages } = withSlot();
    control(everyEnable | powerOff | indicatorOff);
    messages.length = 0;
    const { clear } = { clear: (bits: number) => store(portSlot, capability(portSlot, 0x10) + 0x1a, bits, 2) };
    clear(completed);
    store(portSlot, 4, 2, 2);
    insert();
    expect(messages).toHaveLength(0);
    store(portSlot, 4, 6, 2);
    expect(messages).toHaveLength(1);
  });

  test('the guest is asked by the button, and the card goes when power and its indicator are off', () => {
    const { insert, control, clear, status, slot, takeOut, messages, load, isLinkUp, said } = withSlot();
    const fn = card();
    insert(fn, true);
    control(everyEnable | powerOn);
    clear(0xffff);
    messages.length = 0;
    let released = 0;
    slot.onRelease = () => {
      released++;
      takeOut();
    };
    slot.askForRemoval();
    expect(slot.isAsked).toBe(true);
    expect(status()).toBe(present | button);
    expect(messages).toHaveLength(1);
    clear(button);
    control(everyEnable | blinking);
    control(everyEnable | powerOff | blinking);
    expect([released, isLinkUp(), fn.resets]).toEqual([0, false, 1]);
    expect(load(child, 0)).toBe(0xffff_ffff);
    control(everyEnable | powerOff | indicatorOff);
    expect(released).toBe(1);
    expect(status() & present).toBe(0);
    expect(status() & presenceChanged).toBe(presenceChanged);
    expect(said()).toEqual(['button pressed', 'power off', 'link down', 'card out']);
    expect(slot.isAsked).toBe(false);
  });

  test('a card that has no power yet goes at once', () => {
    const { insert, slot, takeOut, status } = withSlot();
    insert();
    let released = 0;
    slot.onRelease = () => (released++, takeOut());
    slot.askForRemoval();
    expect([released, status() & present]).toEqual([1, 0]);
  });

  test('a card that is torn out says nothing more, and the guest hears of link and presence', () => {
    const { insert, takeOut, control, clear, status, store, load, bus, addresses, requests, host } = withSlot();
    const fn = card();
    insert(fn, true);
    control(everyEnable | powerOn);
    store(child, 0x10, 0x4000_0000);
    store(child, 4, 6, 2);
    clear(0xffff);
    expect(bus.read(0x4000_0010, 4)).toBe(0x0100_0010);
    expect(fn.mastering.at(-1)).toBe(true);
    takeOut();
    expect(fn.mastering.at(-1)).toBe(false);
    expect(fn.resets).toBe(1);
    expect(status()).toBe(presenceChanged | linkChanged);
    expect(load(child, 0)).toBe(0xffff_ffff);
    expect(bus.read(0x4000_0010, 4)).toBe(0xffff_ffff);
    const before = requests();
    expect(fn.port!.read(0, 0, 8).faults).toHaveLength(1);
    fn.vectors[0]?.raise();
    expect(requests()).toBe(before);
    expect(addresses).toEqual([child, undefined]);
    expect(host.functions().filter(({ behind }) => behind === portSlot)).toEqual([]);
    takeOut();
    expect(status()).toBe(presenceChanged | linkChanged);
  });

  test('a reset of the machine leaves the card in, with power', () => {
    const { insert, host, status, isLinkUp, controlled, load } = withSlot();
    insert();
    host.reset();
    expect(status()).toBe(present);
    expect(isLinkUp()).toBe(true);
    expect(controlled() & powerOff).toBe(0);
    expect(load(child, 0)).toBe(0xffff_ffff);
  });

  test('cards that come and go while the guest stores anything break nothing', () => {
    const act = fc.oneof(
      fc.constantFrom('in', 'out', 'ask'),
      fc.record({ at: fc.constantFrom(0x14, 0x18, 0x1a), bytes: fc.constantFrom(2, 4), value: fc.nat(0xffff_ffff) }),
    );
    fc.assert(
      fc.property(fc.array(act, { maxLength: 60 }), (acts) => {
        const { insert, takeOut, slot, status, isLinkUp, controlled, store, capability, host } = withSlot();
        const express = capability(portSlot, 0x10);
        let isIn = false;
        const out = (): void => {
          takeOut();
          isIn = false;
        };
        slot.onRelease = out;
        for (const one of acts) {
          if (one === 'in') {
            if (!isIn) insert();
            isIn = true;
          } else if (one === 'out') out();
          else if (one === 'ask') {
            if (isIn && !slot.isAsked) slot.askForRemoval();
          } else if (one.bytes === 4) store(portSlot, express + (one.at & ~3), one.value);
          else store(portSlot, express + one.at, one.value & 0xffff, 2);
          expect((status() & present) !== 0).toBe(isIn);
          expect(isLinkUp()).toBe(isIn && (controlled() & powerOff) === 0);
          expect(host.functions().some(({ behind }) => behind === portSlot)).toBe(isIn);
        }
      }),
      { numRuns: 200 },
    );
  });
});
