import { describe, expect, it } from 'vitest';
import { causes, faultRecord, ttyp } from '#iommufd/arch/riscv/faults';
import { cqcsr, offsets } from '#iommufd/arch/riscv/registers';
import { encodeDirectoryEntry, encodeProcessContext, fsc, iosatpMode, pdtpMode } from '#iommufd/arch/riscv/tables';
import { layout } from '#vmm/machine/layout';
import type { AtsFunction } from './ats-function.ts';
import { atsDeviceId, Driver, places } from './harness.ts';

const iova = 0x12_3456_7000n;
const page = BigInt(places.page);
const denied = [{ first: 0, last: 63, status: 'unsupported-request' }];

const ready = (more = 0n): { driver: Driver; device: AtsFunction } => {
  const driver = new Driver(1, 2);
  driver.enableDirectory();
  driver.setContext(atsDeviceId, driver.sharing(1, more));
  driver.command('IODIR.INVAL_DDT', {});
  return { driver, device: driver.functions[0]! };
};
/** [cause, TTYP, PASID or -1, iotval, iotval2] of what the guest was told. */
const told = (driver: Driver): [number, number, number, bigint, bigint][] => {
  driver.settle();
  return driver.faults().map(([first, iotval, iotval2]) => {
    const { CAUSE, TTYP, PV, PID } = faultRecord.decode(first!);
    return [Number(CAUSE), Number(TTYP), PV ? Number(PID) : -1, iotval!, iotval2!];
  });
};
const offset = (driver: Driver): number => driver.machine.memory.guestBase + places.page - layout.ram.base;
/** The fence at the head of the guest's command queue waits. */
const isFencing = (driver: Driver): boolean => driver.read(offsets.cqh, 4) !== driver.read(offsets.cqt, 4);
const inval = (driver: Driver, pasid = 1n, at = iova): void =>
  driver.command('ATS.INVAL', { PV: 1n, PID: pasid, RID: BigInt(atsDeviceId), PAYLOAD: at });

describe('device invalidations', () => {
  it('reach the device under the guest’s names, and the fence waits for its completion', () => {
    const { driver, device } = ready();
    device.answers = false;
    inval(driver);
    driver.command('IOFENCE.C', {});
    expect(device.invalidations).toMatchObject([{ pasid: 1, hi: 0x12, lo: 0x3456_7000 }]);
    driver.settle();
    expect(isFencing(driver)).toBe(true);
    expect(driver.leftOver()).toEqual({ groups: 0, invalidations: 1, host: 1, link: 1 });
    // The rest of the host does not wait: another device's context changes meanwhile.
    driver.setContext(8, driver.translating());
    expect(driver.port(1).read(0x12, 0x3456_7000, 4).count).toBe(0);
    device.completeInvalidations();
    driver.settle();
    expect(isFencing(driver)).toBe(false);
    expect(driver.leftOver()).toEqual({ groups: 0, invalidations: 0, host: 0, link: 0 });
    driver.machine.close();
  });

  it('a device that completes at once holds a fence up for an interrupt’s time', () => {
    const { driver } = ready();
    inval(driver);
    driver.command('IOFENCE.C', {});
    driver.settle();
    expect(isFencing(driver)).toBe(false);
    driver.machine.close();
  });

  it('more than there are tags: the guest’s queue waits, in order', () => {
    const { driver, device } = ready();
    device.answers = false;
    for (let i = 0n; i < 40n; i++) inval(driver, 1n, iova + i * 4096n);
    driver.command('IOFENCE.C', {});
    expect(device.invalidations).toHaveLength(32);
    for (let round = 0; round < 3; round++) {
      device.completeInvalidations();
      driver.settle();
    }
    expect(isFencing(driver)).toBe(false);
    expect(driver.leftOver()).toEqual({ groups: 0, invalidations: 0, host: 0, link: 0 });
    driver.machine.close();
  });

  it('a device that never completes: cmd_to at the fence, and the queue goes on when it is cleared', () => {
    const { driver, device } = ready();
    device.answers = false;
    inval(driver);
    driver.command('IOFENCE.C', {});
    driver.machine.clock.advance(20_000_000);
    expect(cqcsr.get(driver.read(offsets.cqcsr, 4), 'cmd_to')).toBe(1n);
    // A completion that comes too late is nobody's.
    device.completeInvalidations();
    driver.write(offsets.cqcsr, 4, cqcsr.encode({ cqen: 1n, cmd_to: 1n }));
    expect(isFencing(driver)).toBe(false);
    driver.command('IODIR.INVAL_DDT', {});
    expect(isFencing(driver)).toBe(false);
    expect(driver.leftOver()).toEqual({ groups: 0, invalidations: 0, host: 0, link: 0 });
    driver.machine.close();
  });

  it('a completion that comes after the timeout does not complete the next request with its tag', () => {
    const { driver, device } = ready();
    device.answers = false;
    inval(driver);
    driver.command('IOFENCE.C', {});
    driver.machine.clock.advance(20_000_000);
    driver.recover();
    const [late] = device.invalidations.splice(0);
    inval(driver);
    driver.command('IOFENCE.C', {});
    expect(device.invalidations).toMatchObject([{ itag: late!.itag }]);
    device.port.invalidationCompleted(late!.itag);
    driver.settle();
    expect(isFencing(driver)).toBe(true);
    device.completeInvalidations();
    driver.settle();
    expect(isFencing(driver)).toBe(false);
    driver.machine.close();
  });

  it.each([
    { name: 'no such device', RID: 0x7777n },
    { name: 'a device without ATS', RID: 8n },
  ])('$name: nobody answers', ({ RID }) => {
    const { driver } = ready();
    driver.command('ATS.INVAL', { RID, PAYLOAD: 0x1000n });
    driver.command('IOFENCE.C', {});
    expect(cqcsr.get(driver.read(offsets.cqcsr, 4), 'cmd_to')).toBe(1n);
    driver.machine.close();
  });

  it('the kernel sends its own where stage 2 changes and where a context with ATS goes', () => {
    const { driver, device } = ready();
    driver.setContext(atsDeviceId, [0n]);
    driver.command('IODIR.INVAL_DDT', {});
    expect(device.invalidations.map(({ pasid, lo }) => [pasid, lo & 1])).toEqual([[-1, 0], [0, 1]]); // prettier-ignore
    driver.setContext(atsDeviceId, driver.sharing());
    driver.command('IODIR.INVAL_DDT', {});
    device.invalidations.length = 0;
    const { iommufd, ioasId } = driver.machine.assignment;
    expect(iommufd.ioasUnmap(ioasId, BigInt(layout.ram.base), BigInt(driver.machine.config.memory)).ok).toBe(true);
    expect(device.invalidations.length).toBeGreaterThan(0);
    expect(device.access('read', page, 64, -1, true).faults).toEqual(denied);
    driver.machine.close();
  });
});

describe('translated addresses', () => {
  it('reach the VM’s own memory and no more, however they were made', () => {
    const { driver, device } = ready();
    const forged = [BigInt(driver.machine.memory.poolBase), 0x1_0000_0000n, 0x7fff_ffff_f000n, 0x1000n];
    for (const address of forged) expect(device.access('write', address, 64, -1, true).faults).toEqual(denied);
    expect(device.access('write', page, 64, -1, true)).toEqual({ segments: [[offset(driver), 64]], faults: [] });
    expect(told(driver)).toEqual(
      forged.map((address) => [causes.writeAccessFault.cause, ttyp.translatedWrite, -1, address, 0n]),
    );
    driver.machine.close();
  });

  it('are forbidden, like translation requests, where the context has no EN_ATS', () => {
    const { driver, device } = ready();
    driver.setContext(atsDeviceId, driver.sharing().map((word, i) => (i === 0 ? word & ~0x46n : word))); // prettier-ignore
    driver.command('IODIR.INVAL_DDT', {});
    expect(device.access('read', page, 64, -1, true).faults).toEqual(denied);
    expect(device.translate(iova, 1).status).toBe('unsupported-request');
    const { cause } = causes.transactionDisallowed;
    expect(told(driver)).toEqual([
      [cause, ttyp.translatedRead, -1, page, 0n],
      [cause, ttyp.atsTranslation, 1, iova, 0n],
    ]);
    driver.machine.close();
  });

  it('T2GPA is the host’s: a guest that sets it has a context that makes no sense', () => {
    const { driver, device } = ready(8n);
    expect(device.translate(iova, 1).status).toBe('unsupported-request');
    expect(told(driver).map(([cause]) => cause)).toEqual([causes.ddtMisconfigured.cause]);
    driver.machine.close();
  });
});

describe('process directories', () => {
  it('a PASID reaches what its own tables map; PASIDs without a context, or too wide, nothing', () => {
    const { driver, device } = ready();
    driver.map(iova);
    expect(device.access('read', iova, 64, 1).segments).toEqual([[offset(driver), 64]]);
    expect(device.access('read', iova, 64, 2).faults).toEqual(denied);
    expect(device.access('read', iova, 64, 0x100).faults).toEqual(denied);
    // Without a PASID it is process 0 (DPE).
    expect(device.access('read', iova, 64).segments).toEqual([[offset(driver), 64]]);
    expect(told(driver)).toEqual([
      [causes.pdtInvalid.cause, ttyp.untranslatedRead, 2, iova, 0n],
      [causes.transactionDisallowed.cause, ttyp.untranslatedRead, 0x100, iova, 0n],
    ]);
    driver.machine.close();
  });

  it('user pages are not a supervisor’s, and a process without ENS has none', () => {
    const { driver, device } = ready();
    driver.map(iova);
    expect(device.access('read', iova, 64, 1, false, true).faults).toEqual(denied);
    const words = encodeProcessContext({
      ta: { V: 1n, ENS: 1n, PSCID: 1n },
      fsc: { MODE: BigInt(iosatpMode.Sv39), PPN: BigInt(places.stage1 / 4096) },
    });
    driver.store(places.processes + 16, ...words);
    driver.command('IODIR.INVAL_PDT', { DV: 1n, DID: BigInt(atsDeviceId), PID: 1n });
    driver.command('IOTINVAL.VMA', {});
    driver.command('IOFENCE.C', {});
    expect(device.access('read', iova, 64, 1, false, true).faults).toEqual(denied);
    expect(told(driver).map(([cause]) => cause)).toEqual([
      causes.transactionDisallowed.cause,
      causes.readPageFault.cause,
    ]);
    driver.machine.close();
  });

  it.each([
    { name: 'PD8', bits: 8, mode: pdtpMode.PD8 },
    { name: 'PD17', bits: 17, mode: pdtpMode.PD17 },
    { name: 'PD20', bits: 20, mode: pdtpMode.PD20 },
  ])('$name directories up to their last process', ({ bits, mode }) => {
    const { driver, device } = ready();
    driver.map(iova);
    const last = 2 ** bits - 1;
    const [tc, gatp, ta] = driver.sharing() as [bigint, bigint, bigint];
    const table = (n: number): number => places.processes + 4096 * n;
    let level = 0;
    const non = (shift: number, width: number): void => {
      const slot = table(level++) + 8 * ((last >>> shift) & (2 ** width - 1));
      driver.store(slot, encodeDirectoryEntry(BigInt(table(level) / 4096)));
    };
    if (bits > 17) non(17, 3);
    if (bits > 8) non(8, 9);
    driver.store(table(level) + 16 * 255, ...encodeProcessContext({ ta: { V: 1n }, fsc: { MODE: 8n, PPN: BigInt(places.stage1 / 4096) } })); // prettier-ignore
    driver.setContext(atsDeviceId, [tc, gatp, ta, fsc.encode({ MODE: BigInt(mode), PPN: BigInt(table(0) / 4096) })]);
    driver.command('IODIR.INVAL_DDT', {});
    expect(device.access('read', iova, 64, last).segments).toEqual([[offset(driver), 64]]);
    expect(told(driver)).toEqual([]);
    driver.machine.close();
  });

  it('a directory outside memory is a PDT access fault, a page table outside memory an access fault', () => {
    const { driver, device } = ready();
    const [tc, gatp, ta] = driver.sharing() as [bigint, bigint, bigint];
    driver.setContext(atsDeviceId, [tc, gatp, ta, fsc.encode({ MODE: BigInt(pdtpMode.PD8), PPN: 0xfff_ffffn })]);
    driver.command('IODIR.INVAL_DDT', {});
    expect(device.access('write', iova, 64, 1).faults).toEqual(denied);
    // The reason is looked up in the context there is when the record is read.
    driver.settle();
    driver.setContext(atsDeviceId, driver.sharing());
    driver.store(
      places.processes + 16,
      ...encodeProcessContext({ ta: { V: 1n }, fsc: { MODE: 8n, PPN: 0xfff_ffffn } }),
    );
    driver.command('IODIR.INVAL_DDT', {});
    expect(device.access('write', iova, 64, 1).faults).toEqual(denied);
    expect(told(driver)).toEqual([
      [causes.pdtAccessFault.cause, ttyp.untranslatedWrite, 1, iova, 0n],
      [causes.writeAccessFault.cause, ttyp.untranslatedWrite, 1, iova, 0n],
    ]);
    driver.machine.close();
  });
});
