import { describe, expect, it } from 'vitest';
import { causes, faultRecord, messageCode, pageResponseCode, ttyp } from '#iommufd/arch/riscv/faults';
import { ddtp, ddtpMode, msiConfigOffset, offsets, pqcsr } from '#iommufd/arch/riscv/registers';
import { layout } from '#vmm/machine/layout';
import type { AtsFunction } from './ats-function.ts';
import { atsDeviceId, Driver, places } from './harness.ts';

const iova = 0x12_3456_7000n;
const group = 5;

/** A guest with its page-request queue on and a context for the first function with ATS, PRI and PASID. */
const ready = (functions = 1, log2 = 6): { driver: Driver; device: AtsFunction } => {
  const driver = new Driver(1, functions);
  driver.enableDirectory();
  driver.enablePageRequests(log2);
  for (let i = 0; i < functions; i++) driver.setContext(atsDeviceId + 8 * i, driver.sharing());
  driver.command('IODIR.INVAL_DDT', {});
  driver.take();
  return { driver, device: driver.functions[0]! };
};
const nothing = { groups: 0, invalidations: 0, host: 0, link: 0 };
const done = (driver: Driver): void => {
  expect(driver.leftOver()).toEqual(nothing);
  driver.machine.close();
};
/** PAYLOAD of a record: R, W, L, group. */
const payload = (at: bigint, index: number, flags: number): bigint => at | (BigInt(index) << 3n) | BigInt(flags);

describe('a page request’s way through iommufd', () => {
  it('misses, is asked for, mapped, answered, and then succeeds', () => {
    const { driver, device } = ready();
    expect(device.translate(iova, 1)).toMatchObject({ status: 'success', read: false, write: false });
    device.ask(iova, group);
    expect(driver.takePageRequests()).toEqual([]);
    driver.settle();
    expect(driver.takePageRequests()).toEqual([{ deviceId: atsDeviceId, pasid: 1, payload: payload(iova, group, 7) }]);
    expect(driver.leftOver().groups).toBe(1);
    driver.map(iova);
    driver.respond(atsDeviceId, 1, group);
    expect(device.takeResponses()).toEqual([[1, group, 0]]);
    // Under the host’s T2GPA the device is given the guest-physical address, and comes back with it.
    const completion = device.translate(iova, 1);
    expect(completion).toMatchObject({ status: 'success', read: true, write: true, shift: 12, lo: places.page, hi: 0 });
    const at = driver.machine.memory.guestBase + places.page - layout.ram.base;
    const segments = [[at + 8, 64]];
    expect(device.access('write', BigInt(places.page) + 8n, 64, -1, true)).toEqual({ segments, faults: [] });
    expect(device.access('read', iova + 8n, 64, 1)).toEqual({ segments, faults: [] });
    done(driver);
  });

  it('raises the guest’s interrupt and tells nothing as a fault', () => {
    const { driver, device } = ready();
    driver.write(msiConfigOffset(0), 8, BigInt(layout.imsic.base));
    driver.write(offsets.pqcsr, 4, pqcsr.encode({ pqen: 1n, pie: 1n }));
    device.ask(iova, group);
    driver.settle();
    expect(driver.read(offsets.ipsr, 4) & 8n).toBe(8n);
    expect(driver.faults()).toEqual([]);
    driver.respond(atsDeviceId, 1, group);
    done(driver);
  });

  it('keeps a group of several pages together, and several groups apart', () => {
    const { driver, device } = ready(2);
    const other = driver.functions[1]!;
    device.ask(iova, 1, { last: false, write: false });
    other.ask(iova, 1, { pasid: 2 });
    device.ask(iova + 0x1000n, 2, { pasid: -1 });
    device.ask(iova + 0x2000n, 1, { read: false });
    driver.settle();
    expect(driver.takePageRequests()).toEqual([
      { deviceId: atsDeviceId + 8, pasid: 2, payload: payload(iova, 1, 7) },
      { deviceId: atsDeviceId, pasid: -1, payload: payload(iova + 0x1000n, 2, 7) },
      { deviceId: atsDeviceId, pasid: 1, payload: payload(iova, 1, 1) },
      { deviceId: atsDeviceId, pasid: 1, payload: payload(iova + 0x2000n, 1, 6) },
    ]);
    expect(driver.leftOver().groups).toBe(3);
    driver.respond(atsDeviceId, 1, 1, 1);
    driver.respond(atsDeviceId + 8, 2, 1);
    driver.respond(atsDeviceId, -1, 2, 15);
    // The uAPI knows success and invalid: the guest’s Response Failure arrives as Invalid Request.
    expect(device.takeResponses()).toEqual([[1, 1, 1], [-1, 2, 1]]); // prettier-ignore
    expect(other.takeResponses()).toEqual([[2, 1, 0]]);
    done(driver);
  });

  it('a group of more pages than the VMM reads at once', () => {
    const { driver, device } = ready(1, 11);
    for (let page = 0; page < 1000; page++) device.ask(iova + BigInt(page) * 4096n, 9, { last: page === 999 });
    driver.settle();
    expect(driver.takePageRequests()).toHaveLength(1000);
    driver.respond(atsDeviceId, 1, 9);
    expect(device.takeResponses()).toEqual([[1, 9, 0]]);
    done(driver);
  });

  it('the same PASID and index twice are answered in their order; a PASID that nobody waits with is not', () => {
    const { driver, device } = ready();
    device.ask(iova, group);
    device.ask(iova, group, { pasid: 7 });
    device.ask(iova, group);
    driver.settle();
    driver.respond(atsDeviceId, 8, group);
    expect(device.takeResponses()).toEqual([]);
    driver.respond(atsDeviceId, 1, group);
    driver.respond(atsDeviceId, 1, group, 1);
    driver.respond(atsDeviceId, 7, group);
    expect(device.takeResponses()).toEqual([[1, group, 0], [1, group, 1], [7, group, 0]]); // prettier-ignore
    done(driver);
  });
});

describe('what the guest’s queue cannot take is answered for it (§2.7)', () => {
  it('a queue that is off: the device is told not to ask again', () => {
    const { driver, device } = ready();
    driver.write(offsets.pqcsr, 4, 0n);
    device.ask(iova, 1, { last: false });
    device.ask(iova, 1);
    driver.settle();
    expect(device.takeResponses()).toEqual([[1, 1, 1]]);
    done(driver);
  });

  it('a full queue: Success, so that the device asks again, and pqof until it is cleared', () => {
    const { driver, device } = ready(1, 2);
    for (let i = 0; i < 6; i++) device.ask(iova, i);
    driver.settle();
    expect(pqcsr.get(driver.read(offsets.pqcsr, 4), 'pqof')).toBe(1n);
    expect(device.takeResponses()).toEqual([[1, 3, 0], [1, 4, 0], [1, 5, 0]]); // prettier-ignore
    expect(driver.takePageRequests()).toHaveLength(3);
    device.ask(iova, 6);
    driver.settle();
    expect(device.takeResponses()).toEqual([[1, 6, 0]]);
    driver.write(offsets.pqcsr, 4, pqcsr.encode({ pqen: 1n, pqof: 1n }));
    device.ask(iova, 7);
    driver.settle();
    expect(driver.takePageRequests()).toHaveLength(1);
    for (const index of [0, 1, 2, 7]) driver.respond(atsDeviceId, 1, index);
    expect(device.takeResponses()).toHaveLength(4);
    done(driver);
  });

  it('a queue outside memory: pqmf', () => {
    const { driver, device } = ready();
    driver.write(offsets.pqcsr, 4, 0n);
    driver.write(offsets.pqb, 8, (0xfff_ffffn << 10n) | 5n);
    driver.write(offsets.pqcsr, 4, pqcsr.encode({ pqen: 1n }));
    device.ask(iova, 1);
    driver.settle();
    expect(pqcsr.get(driver.read(offsets.pqcsr, 4), 'pqmf')).toBe(1n);
    expect(device.takeResponses()).toEqual([[1, 1, 1]]);
    done(driver);
  });

  it.each([
    { name: 'no PRI in the context', cause: causes.transactionDisallowed, code: 1, context: (d: Driver) => d.sharing(1).map((w, i) => (i === 0 ? w & ~0x44n : w)) }, // prettier-ignore
    { name: 'no context', cause: causes.ddtInvalid, code: 15, context: () => [0n, 0n, 0n, 0n] },
  ])('$name: the silicon answers, and the guest is told the fault', ({ cause, code, context }) => {
    const { driver, device } = ready();
    driver.setContext(atsDeviceId, context(driver));
    driver.command('IODIR.INVAL_DDT', {});
    device.ask(iova, 1);
    driver.settle();
    expect(device.takeResponses().map(([, index, answer]) => [index, answer])).toEqual([[1, code]]);
    const [record, iotval] = driver.faults()[0]!;
    const fields = faultRecord.decode(record!);
    expect([Number(fields.CAUSE), Number(fields.DID), Number(fields.TTYP)]).toEqual([
      cause.cause,
      atsDeviceId,
      ttyp.message,
    ]);
    expect(iotval).toBe(BigInt(messageCode.pageRequest));
    done(driver);
  });

  it('ddtp Bare: nobody may ask', () => {
    const { driver, device } = ready();
    driver.write(offsets.ddtp, 8, ddtp.encode({ iommu_mode: BigInt(ddtpMode.Off) }));
    driver.write(offsets.ddtp, 8, ddtp.encode({ iommu_mode: BigInt(ddtpMode.Bare) }));
    device.ask(iova, 1);
    expect(device.translate(BigInt(places.page)).status).toBe('unsupported-request');
    driver.settle();
    expect(device.takeResponses()).toEqual([[-1, 1, 1]]);
    expect(driver.faults().map(([first]) => Number(first! & 0xfffn))).toEqual([260, 260]);
    done(driver);
  });

  it('a Stop Marker reaches the guest behind the requests of its PASID, and is answered by nobody', () => {
    const { driver, device } = ready();
    device.ask(iova, 7);
    device.ask(0n, 0, { read: false, write: false });
    driver.settle();
    expect(driver.takePageRequests()).toEqual([
      { deviceId: atsDeviceId, pasid: 1, payload: payload(iova, 7, 7) },
      { deviceId: atsDeviceId, pasid: 1, payload: 4n },
    ]);
    expect([device.takeResponses(), driver.leftOver().groups]).toEqual([[], 1]);
    driver.respond(atsDeviceId, 1, 7);
    expect(device.takeResponses()).toEqual([[1, 7, 0]]);
    done(driver);
  });

  it('a Stop Marker that finds the guest’s queue full is dropped, and the queue says so', () => {
    const { driver, device } = ready();
    driver.write(offsets.pqcsr, 4, 0n);
    driver.enablePageRequests(1);
    device.ask(iova, 7);
    device.ask(0n, 0, { read: false, write: false });
    driver.settle();
    expect(driver.takePageRequests()).toHaveLength(1);
    expect(pqcsr.get(driver.read(offsets.pqcsr, 4), 'pqof')).toBe(1n);
    expect(device.takeResponses()).toEqual([]);
    driver.respond(atsDeviceId, 1, 7);
    device.takeResponses();
    done(driver);
  });

  it('a guest’s Response Failure becomes Invalid Request: the uAPI has no third code', () => {
    const { driver, device } = ready();
    device.ask(iova, 7);
    driver.settle();
    driver.respond(atsDeviceId, 1, 7, pageResponseCode.responseFailure);
    expect(device.takeResponses()).toEqual([[1, 7, pageResponseCode.invalidRequest]]);
    // The interface goes on, which a Response Failure would have ended (PCI Express Base 6.0 §10.4.2.1).
    device.ask(iova, 8);
    driver.settle();
    driver.respond(atsDeviceId, 1, 8);
    expect(device.takeResponses()).toEqual([[1, 8, 0]]);
    done(driver);
  });
});

describe('in mid-flight', () => {
  it('a context that changes: what is outstanding under the old one is answered Invalid, and late answers go nowhere', () => {
    const { driver, device } = ready();
    for (let i = 0; i < 3; i++) device.ask(iova, i);
    driver.settle();
    driver.setContext(atsDeviceId, driver.sharing(2));
    driver.setContext(atsDeviceId, driver.sharing(1, 0x10n));
    driver.command('IODIR.INVAL_DDT', { DV: 1n, DID: BigInt(atsDeviceId) });
    expect(device.takeResponses()).toEqual([[1, 0, 1], [1, 1, 1], [1, 2, 1]]); // prettier-ignore
    expect(driver.leftOver().groups).toBe(0);
    driver.take();
    // Cookies are used again: an answer to what is gone must not reach what has come.
    device.ask(iova, 4);
    driver.settle();
    driver.respond(atsDeviceId, 1, 0);
    expect(driver.take()).toEqual([]);
    driver.respond(atsDeviceId, 1, 4);
    expect(device.takeResponses()).toEqual([[1, 4, 0]]);
    done(driver);
  });

  it('requests that the host has not looked at yet', () => {
    const { driver, device } = ready();
    device.ask(iova, 1);
    driver.setContext(atsDeviceId, [0n]);
    driver.command('IODIR.INVAL_DDT', {});
    driver.settle();
    expect(device.takeResponses()).toEqual([[1, 1, 1]]);
    done(driver);
  });

  it('the guest’s queue is turned off: answers still go through', () => {
    const { driver, device } = ready();
    device.ask(iova, 1);
    driver.settle();
    driver.write(offsets.pqcsr, 4, 0n);
    driver.respond(atsDeviceId, 1, 1);
    expect(device.takeResponses()).toEqual([[1, 1, 0]]);
    done(driver);
  });

  it('a second answer goes nowhere', () => {
    const { driver, device } = ready();
    device.ask(iova, 1);
    driver.settle();
    driver.respond(atsDeviceId, 1, 1);
    driver.take();
    driver.respond(atsDeviceId, 1, 1, 1);
    expect([driver.take(), device.takeResponses()]).toEqual([[], [[1, 1, 0]]]);
    done(driver);
  });

  it('no answer ever: Invalid after a second', () => {
    const { driver, device } = ready();
    device.ask(iova, 1);
    driver.settle();
    driver.machine.clock.advance(990_000_000);
    expect(device.takeResponses()).toEqual([]);
    driver.machine.clock.advance(20_000_000);
    expect(device.takeResponses()).toEqual([[1, 1, 1]]);
    done(driver);
  });

  it('a vIOMMU reset and the machine’s end leave nothing', () => {
    const { driver, device } = ready();
    for (let i = 0; i < 3; i++) device.ask(iova, i);
    driver.settle();
    driver.machine.assignment.viommu!.reset();
    expect(device.takeResponses().map(([, , code]) => code)).toEqual([1, 1, 1]);
    done(driver);
  });

  it('the host’s own queue overflows: every group is answered once, and the path works again', () => {
    const { driver, device } = ready(1, 12);
    device.ask(iova, 77, { last: false });
    for (let i = 0; i < 1200; i++) device.ask(iova, i % 64, { pasid: 2 + (i >> 6) });
    device.ask(iova, 77);
    driver.settle();
    const automatic = device.takeResponses();
    expect(automatic.every(([, , code]) => code === 0)).toBe(true);
    const queued = driver.takePageRequests();
    for (const { deviceId, pasid, payload: p } of queued) driver.respond(deviceId, pasid, Number((p >> 3n) & 511n));
    expect(automatic.length + device.takeResponses().length).toBe(1201);
    // What was kept of the group whose last request was lost is not put before the next group of that index.
    device.ask(iova + 0x5000n, 77);
    driver.settle();
    expect(driver.takePageRequests()).toEqual([
      { deviceId: atsDeviceId, pasid: 1, payload: payload(iova + 0x5000n, 77, 7) },
    ]);
    driver.respond(atsDeviceId, 1, 77);
    done(driver);
  });
});
