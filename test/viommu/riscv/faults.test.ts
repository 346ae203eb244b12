import { describe, expect, it } from 'vitest';
import { causes, faultRecord, ttyp } from '#iommufd/arch/riscv/faults';
import { ddtp, ddtpMode, fqcsr, offsets } from '#iommufd/arch/riscv/registers';
import { encodeDirectoryEntry, fsc, iosatpMode } from '#iommufd/arch/riscv/tables';
import { layout } from '#vmm/machine/layout';
import { Driver, places } from './harness.ts';

const slot = 1;
const deviceId = slot << 3;
const iovaHi = 0x12;
const iovaLo = 0x3456_7000;
const iova = (BigInt(iovaHi) << 32n) | BigInt(iovaLo);

const invalidate = (driver: Driver): void => driver.command('IODIR.INVAL_DDT', {});
const pte = (address: number, flags: number): bigint => (BigInt(address / 4096) << 10n) | BigInt(flags);
/** Writes the three levels of an Sv39 table that lead to `leaf` for `iova`. */
const mapPage = (driver: Driver, leaf: bigint): void => {
  const index = (shift: bigint): number => Number((iova >> shift) & 511n) * 8;
  driver.store(places.stage1 + index(30n), pte(places.stage1 + 4096, 1));
  driver.store(places.stage1 + 4096 + index(21n), pte(places.stage1 + 8192, 1));
  driver.store(places.stage1 + 8192 + index(12n), leaf);
};
const readWrite = 0xd7;

interface Scene {
  readonly name: string;
  readonly cause: { readonly cause: number };
  readonly write?: boolean;
  readonly arrange: (driver: Driver) => void;
}
const useContext = (driver: Driver, words: readonly bigint[]): void => {
  driver.enableDirectory();
  driver.setContext(deviceId, words);
  invalidate(driver);
};

// prettier-ignore
const scenes: readonly Scene[] = [
  { name: 'ddtp is Off', cause: causes.allInboundDisallowed, arrange: () => {} },
  { name: 'no context for the device', cause: causes.ddtInvalid, arrange: (driver) => driver.enableDirectory() },
  { name: 'a directory outside memory', cause: causes.ddtAccessFault, arrange: (driver) => {
    driver.store(places.root, encodeDirectoryEntry(0xfff_ffffn));
    driver.write(offsets.ddtp, 8, ddtp.encode({ iommu_mode: BigInt(ddtpMode['3LVL']), PPN: BigInt(places.root / 4096) }));
  } },
  { name: 'a context with reserved bits', cause: causes.ddtMisconfigured, arrange: (driver) => useContext(driver, [1n | (1n << 40n), 0n, 0n, 0n]) },
  { name: 'a context with a second stage, which is not offered', cause: causes.ddtMisconfigured, arrange: (driver) => useContext(driver, [1n, 8n << 60n, 0n, 0n]) },
  { name: 'a device_id too wide for the directory', cause: causes.transactionDisallowed, arrange: (driver) => {
    driver.write(offsets.ddtp, 8, ddtp.encode({ iommu_mode: BigInt(ddtpMode['1LVL']), PPN: BigInt(places.leaf / 4096) }));
  } },
  { name: 'an unmapped page, read', cause: causes.readPageFault, arrange: (driver) => useContext(driver, driver.translating()) },
  { name: 'an unmapped page, written', cause: causes.writePageFault, write: true, arrange: (driver) => useContext(driver, driver.translating()) },
  { name: 'a table outside memory', cause: causes.readAccessFault, arrange: (driver) =>
    useContext(driver, [1n, 0n, 0n, fsc.encode({ MODE: BigInt(iosatpMode.Sv39), PPN: 0xfff_ffffn })]) },
  { name: 'a page outside memory', cause: causes.writeAccessFault, write: true, arrange: (driver) => {
    useContext(driver, driver.translating());
    mapPage(driver, pte(0x7000_0000, readWrite));
  } },
];

describe('the guest finds in its fault queue what its own hardware would report', () => {
  it.each(scenes)('$name', ({ cause, write = false, arrange }) => {
    // One NIC at slot 16 needs 8 bits of device_id, one more than a 1-level directory has.
    const driver = new Driver(17);
    const wide = cause === causes.transactionDisallowed;
    arrange(driver);
    const device = driver.port(wide ? 16 : slot);
    const result = write ? device.write(iovaHi, iovaLo, 64) : device.read(iovaHi, iovaLo, 64);
    expect(result.count).toBe(0);
    expect(result.faults).toEqual([{ first: 0, last: 63, status: 'unsupported-request' }]);
    driver.settle();
    const faults = driver.faults();
    expect(faults).toHaveLength(1);
    const [first, iotval, iotval2] = faults[0]!;
    const record = faultRecord.decode(first!);
    expect(Number(record.CAUSE)).toBe(cause.cause);
    expect(Number(record.DID)).toBe(wide ? 16 << 3 : deviceId);
    expect(Number(record.TTYP)).toBe(write ? ttyp.untranslatedWrite : ttyp.untranslatedRead);
    expect(iotval).toBe(iova);
    expect(iotval2).toBe(0n);
    driver.machine.close();
  });
});

it('a DMA that is mapped reaches the page, and only that page', () => {
  const driver = new Driver();
  useContext(driver, driver.translating());
  mapPage(driver, pte(places.page, readWrite));
  const { machine } = driver;
  const result = driver.port(slot).write(iovaHi, iovaLo + 0xff0, 32);
  expect([result.count, result.offsets[0], result.lengths[0]]).toEqual([
    1,
    machine.memory.guestBase + places.page - layout.ram.base + 0xff0,
    16,
  ]);
  expect(result.faults).toEqual([{ first: 16, last: 31, status: 'unsupported-request' }]);
  machine.close();
});

it('a translation stays cached until the guest invalidates it', () => {
  const driver = new Driver();
  useContext(driver, driver.translating());
  mapPage(driver, pte(places.page, readWrite));
  expect(driver.port(slot).read(iovaHi, iovaLo, 4).count).toBe(1);
  mapPage(driver, 0n);
  expect(driver.port(slot).read(iovaHi, iovaLo, 4).count).toBe(1);
  driver.command('IOTINVAL.VMA', { AV: 1n, PSCV: 1n, PSCID: 1n, ADDR: iova >> 12n });
  driver.command('IOFENCE.C');
  expect(driver.port(slot).read(iovaHi, iovaLo, 4).count).toBe(0);
  driver.machine.close();
});

it('a context that becomes valid needs no invalidation before the device is used', () => {
  const driver = new Driver();
  driver.enableDirectory();
  mapPage(driver, pte(places.page, readWrite));
  driver.setContext(deviceId, driver.translating());
  // Any register of the device: a driver touches one before there can be a DMA.
  const { machine } = driver;
  machine.bus.write(layout.ecam.base + (deviceId << 12) + 0x10, 4, layout.pci32.base);
  machine.bus.write(layout.ecam.base + (deviceId << 12) + 0x04, 2, 6);
  machine.bus.read(layout.pci32.base, 4);
  expect(driver.port(slot).read(iovaHi, iovaLo, 4).count).toBe(1);
  machine.close();
});

it('more faults than the guest or the kernel can hold end in an overflow, never in a loss that nobody sees', () => {
  const driver = new Driver();
  for (let i = 0; i < 1000; i++) {
    driver.port(slot).read(iovaHi, iovaLo, 4);
    driver.machine.clock.advance(i % 7 === 0 ? 5_000 : 10);
  }
  driver.settle();
  expect(fqcsr.get(driver.read(offsets.fqcsr, 4), 'fqof')).toBe(1n);
  expect(driver.faults().length).toBe(127);
  driver.machine.close();
});
