import { expect, it } from 'vitest';
import { rid } from '#vmm/base/address';
import { Clock } from '#vmm/base/clock';
import { descriptor, flag } from '#devices/exerciser/descriptors';
import { exerciser } from '#devices/exerciser/device';
import { operations } from '#devices/exerciser/operations';
import { pciMachine } from '../../vmm/bus/pci/machine.ts';
import { FakePort, bits } from './driver.ts';

const slot = 3 << 3;
const registers = 0x4000_0000;
const local = 0x4010_0000;

/** The function on the project's PCI bus, found, sized, placed and enabled as software does it. */
const plugged = () => {
  const clock = new Clock();
  const device = exerciser({ name: 'ex0', clock });
  const port = new FakePort(1 << 20);
  const messages: number[] = [];
  port.message = (...message: number[]) => {
    messages.push(message[2]!);
    return true;
  };
  const { host, bus, load, store, capability, extended } = pciMachine();
  host.plug(rid(slot), device, port);
  store(slot, 0x10, registers);
  store(slot, 0x18, local);
  store(slot, 4, 6, 2);
  const write = (address: number, value: number): void => void bus.write(address, 4, value);
  const read = (address: number): number => Number(bus.read(address, 4));
  return { clock, device, port, messages, load, store, capability, extended, write, read, bus };
};

const start = ({ write }: ReturnType<typeof plugged>): void => {
  write(registers + 0x1008, 0x8000);
  write(registers + 0x1010, 0xc000);
  write(registers + 0x1000, 0x0066_0807);
};
const submit = (
  { write, bus }: ReturnType<typeof plugged>,
  at: number,
  values: Parameters<typeof descriptor.encode>[0],
): void => {
  // prettier-ignore
  descriptor.encode(values).forEach((byte, i) => void bus.write(local + 0x8000 + at * 64 + i, 1, byte));
  write(registers + 0x1_0000, at + 1);
};
const fill = { opcode: operations.FILL.opcode, destination: 0x5000n, length: 8, operand: 0x77n };
const status = ({ read }: ReturnType<typeof plugged>, at: number): number => read(local + 0xc004 + at * 64) & 0xffff;

it('offers ATS, PRI and PASID, and obeys their enables', () => {
  const on = plugged();
  expect(on.load(slot, 0)).toBe(0xe001_1efd);
  const [ats, pri, pasid] = [0x0f, 0x13, 0x1b].map((id) => on.extended(slot, id)) as [number, number, number];
  expect([ats, pri, pasid].every((offset) => offset > 0)).toBe(true);
  expect(on.load(slot, pri + 8)).toBe(512);
  start(on);
  const asked = { ...fill, destination_mode: bits.ATS | bits.PASID, destination_pasid: 4 };
  submit(on, 0, asked);
  on.clock.advance(10_000);
  expect(status(on, 0)).toBe(0x105);
  on.store(slot, ats + 6, 0x8000, 2);
  on.store(slot, pasid + 6, 1, 2);
  on.store(slot, pri + 0xc, 32);
  on.store(slot, pri + 4, 1, 2);
  expect(on.read(registers + 0x0c) & 0x3e).toBe(0x3e);
  expect(on.read(registers + 0x30)).toBe(32);
  submit(on, 1, asked);
  on.clock.advance(10_000);
  expect(status(on, 1)).toBe(0x100);
  expect(on.port.of('translate')).toMatchObject([{ pasid: 4, lo: 0x5000 }]);
  expect(on.port.memory[0x5000]).toBe(0x77);
});

it('interrupts through MSI-X, and stops at a function-level reset', () => {
  const on = plugged();
  const msix = on.capability(slot, 0x11);
  on.write(registers + 0x4000, 0xfee0_0000);
  on.write(registers + 0x4008, 0x2a);
  on.write(registers + 0x400c, 0);
  on.store(slot, msix + 2, 0x8000, 2);
  start(on);
  submit(on, 0, { ...fill, flags: flag.INTERRUPT.value });
  on.clock.advance(10_000);
  expect(on.messages).toEqual([0x2a]);
  submit(on, 1, { ...fill, length: 0x8000 });
  on.clock.advance(500);
  const express = on.capability(slot, 0x10);
  expect(on.load(slot, express + 10, 2) & 0x20).toBe(0x20);
  const before = on.port.of('access').length;
  on.store(slot, express + 8, 0x8000, 2);
  on.clock.advance(100_000);
  expect(on.port.of('access').length).toBe(before);
  expect(on.load(slot, express + 10, 2) & 0x20).toBe(0);
});
