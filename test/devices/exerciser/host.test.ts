import { expect, it } from 'vitest';
import { offsets } from '#iommufd/arch/riscv/registers';
import { descriptor } from '#devices/exerciser/descriptors';
import { exerciser } from '#devices/exerciser/device';
import { operations } from '#devices/exerciser/operations';
import { atsDeviceId, Driver, places } from '../../viommu/riscv/harness.ts';
import { bits, everything, status } from './driver.ts';

const iova = 0x12_3456_7000n;

/** The exerciser in the place of a function of a whole machine, whose guest the test is. */
const ready = () => {
  const guest = new Driver(1, 1);
  guest.enableDirectory();
  guest.enablePageRequests();
  guest.setContext(atsDeviceId, guest.sharing());
  guest.command('IODIR.INVAL_DDT', {});
  const { clock } = guest.machine;
  const device = exerciser({ name: 'ex0', clock });
  device.connect(guest.functions[0]!.port, []);
  device.busMaster(true);
  device.translation(everything);
  const [registers, local] = device.bars.map((bar) => bar.device!);
  registers!.write(0x1008, 4, 0x8000);
  registers!.write(0x1010, 4, 0xc000);
  registers!.write(0x1000, 4, 0x0066_0807);
  let tail = 0;
  const submit = (values: Parameters<typeof descriptor.encode>[0]): void => {
    descriptor.encode(values).forEach((byte, i) => local!.write(0x8000 + tail * 64 + i, 1, byte));
    registers!.write(0x1_0000, 4, ++tail);
  };
  /** Phase and status of a completion. */
  const completion = (at: number): unknown => [local!.read(0xc005 + at * 64, 1), local!.read(0xc004 + at * 64, 1)];
  const memory = (address: number): number => guest.machine.readMemory(address, 1)[0]!;
  return { guest, device, clock, submit, completion, memory };
};
const demand = bits.ATS | bits.PASID | bits.PAGE_REQUEST;
const fill = (operand: bigint, mode: number = demand) => ({ opcode: operations.FILL.opcode, destination: iova, destination_mode: mode, destination_pasid: 1, length: 16, operand }); // prettier-ignore

it('works on a process’s pointer that is not there yet, and lets go of it when told', () => {
  const { guest, clock, submit, completion, memory } = ready();
  submit(fill(0x55n));
  guest.settle();
  const [asked] = guest.takePageRequests();
  // W and L, for the page; the device waits.
  expect(asked).toMatchObject({ deviceId: atsDeviceId, pasid: 1 });
  expect(asked!.payload & ~0xff8n).toBe(iova | 6n);
  expect(completion(0)).toEqual([0, 0]);
  guest.map(iova);
  guest.respond(atsDeviceId, 1, Number((asked!.payload >> 3n) & 511n));
  guest.settle();
  expect(completion(0)).toEqual([1, status.SUCCESS]);
  expect(memory(places.page + 8)).toBe(0x55);

  // Unmapped while a request is in flight: the fence waits for it, and the next one asks anew.
  submit(fill(0x66n));
  clock.advance(100);
  guest.map(iova, 0n);
  guest.command('IOTINVAL.VMA', { AV: 1n, PSCV: 1n, PSCID: 1n, ADDR: iova >> 12n });
  guest.command('ATS.INVAL', { PV: 1n, PID: 1n, RID: BigInt(atsDeviceId), PAYLOAD: iova });
  guest.command('IOFENCE.C', {});
  expect(guest.read(offsets.cqh, 4)).not.toBe(guest.read(offsets.cqt, 4));
  guest.settle();
  expect(guest.read(offsets.cqh, 4)).toBe(guest.read(offsets.cqt, 4));
  submit(fill(0x77n));
  guest.settle();
  expect(guest.takePageRequests()).toHaveLength(1);
  expect(memory(places.page + 8)).not.toBe(0x77);
  guest.machine.close();
});

it('is refused where the guest says so, and beyond its own memory', () => {
  const { guest, submit, completion } = ready();
  submit(fill(1n));
  guest.settle();
  guest.respond(atsDeviceId, 1, Number((guest.takePageRequests()[0]!.payload >> 3n) & 511n), 1);
  guest.settle();
  expect(completion(0)).toEqual([1, status.PAGE_INVALID]);
  // Forged translated addresses: none leads out of the guest's memory.
  submit({ ...fill(1n, bits.TRANSLATED), destination: 0xdead_beef_0000n });
  submit({ ...fill(1n, bits.TRANSLATED), destination: 0n });
  guest.settle();
  expect(completion(1)).toEqual([1, status.UNSUPPORTED_REQUEST]);
  expect(completion(2)).toEqual([1, status.UNSUPPORTED_REQUEST]);
  expect(guest.faults().length).toBeGreaterThan(0);
  guest.machine.close();
});
