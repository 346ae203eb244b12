import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Uart, uartBytes } from '#devices/uart/uart';

const [rbr, ier, iir, lcr, mcr, lsr, msr, scr] = [0, 1, 2, 3, 4, 5, 6, 7] as const;
const thr = rbr;
const fcr = iir;

function uart() {
  const sent: number[] = [];
  const line: string[] = [];
  const device = new Uart({
    write: (byte) => sent.push(byte),
    irq: { raise: () => line.push('up'), lower: () => line.push('down') },
  });
  const get = (offset: number): number => Number(device.read(offset, 1));
  const set = (offset: number, value: number): void => device.write(offset, 1, value);
  return { device, sent, line, get, set };
}

describe('ns16550a', () => {
  test('the transmitter is always ready', () => {
    const { sent, get, set } = uart();
    expect(get(lsr)).toBe(0x60);
    for (const byte of Buffer.from('hi')) set(thr, byte);
    expect(Buffer.from(sent).toString()).toBe('hi');
    expect(get(lsr)).toBe(0x60);
  });

  test('input waits, in order, up to its bound', () => {
    const { device, get } = uart();
    const many = Uint8Array.from({ length: 5000 }, (_, i) => i & 0xff);
    expect(device.receive(many)).toBe(4096);
    expect(device.receive(many)).toBe(0);
    expect(get(lsr) & 1).toBe(1);
    for (let i = 0; i < 100; i++) expect(get(rbr)).toBe(i);
    expect(device.receive(many.subarray(4096, 4196))).toBe(100);
    for (let i = 100; i < 4196; i++) expect(get(rbr)).toBe(i & 0xff);
    expect(get(lsr) & 1).toBe(0);
    expect(get(rbr)).toBe(0);
  });

  test('the divisor latch hides behind DLAB', () => {
    const { sent, get, set } = uart();
    set(lcr, 0x83);
    set(0, 0x12);
    set(1, 0x34);
    expect([get(0), get(1), get(lcr)]).toEqual([0x12, 0x34, 0x83]);
    set(lcr, 0x03);
    expect([get(0), get(1)]).toEqual([0, 0]);
    expect(sent).toEqual([]);
  });

  test('interrupts by priority, on a level line', () => {
    const { device, line, get, set } = uart();
    expect(get(iir)).toBe(1);
    set(ier, 0xff);
    expect(get(ier)).toBe(0x0f);
    expect(line).toEqual(['up']);
    device.receive(Uint8Array.of(65));
    expect(get(iir)).toBe(4);
    expect(get(rbr)).toBe(65);
    expect(get(iir)).toBe(2);
    expect(line).toEqual(['up', 'down']);
    expect(get(iir)).toBe(1);
    set(thr, 66);
    expect(get(iir)).toBe(2);
    expect(get(iir)).toBe(1);
  });

  test('FIFOs: identified in IIR, cleared through FCR', () => {
    const { device, get, set } = uart();
    set(fcr, 1);
    expect(get(iir)).toBe(0xc1);
    device.receive(Uint8Array.of(1, 2, 3));
    set(fcr, 3);
    expect(get(lsr) & 1).toBe(0);
    set(fcr, 0);
    expect(get(iir)).toBe(1);
  });

  test('loopback: data, modem lines, overrun', () => {
    const { sent, get, set } = uart();
    expect(get(msr)).toBe(0xb0);
    set(mcr, 0x1f);
    expect(get(mcr)).toBe(0x1f);
    expect(get(msr)).toBe(0xf0);
    set(mcr, 0x12);
    // DSR, DCD and RI went away.
    expect(get(msr)).toBe(0x1e);
    expect(get(msr)).toBe(0x10);
    set(thr, 7);
    set(thr, 8);
    expect(get(lsr)).toBe(0x63);
    expect(get(lsr)).toBe(0x61);
    expect(get(rbr)).toBe(7);
    expect(sent).toEqual([]);
  });

  test('scratch, other widths, reset', () => {
    const { device, get, set, line } = uart();
    device.write(scr, 4, 0xffff_ff5a);
    expect(device.read(scr, 4)).toBe(0x5a);
    expect(device.read(scr, 8)).toBe(0x5an);
    set(ier, 2);
    device.reset();
    expect(get(scr)).toBe(0);
    expect(line).toEqual(['up', 'down']);
  });

  test('no store makes it throw, and the line is up exactly while IIR names a cause', () => {
    const store = fc.tuple(fc.nat(uartBytes - 1), fc.constantFrom(1, 2, 4, 8), fc.nat(0xffff_ffff), fc.boolean());
    fc.assert(
      fc.property(fc.array(store, { maxLength: 40 }), (stores) => {
        const { device, line, set } = uart();
        for (const [offset, bytes, value, isRead] of stores) {
          if (isRead) expect(Number(device.read(offset, bytes as 1))).toBeLessThan(256);
          else device.write(offset % 9, bytes as 1, bytes === 8 ? BigInt(value) : value);
        }
        set(lcr, 0);
        const isUp = line.at(-1) === 'up';
        expect(Number(device.read(iir, 1)) & 1).toBe(isUp ? 0 : 1);
        expect(line.every((level, i) => level === (i % 2 === 0 ? 'up' : 'down'))).toBe(true);
      }),
    );
  });
});
