import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { makeDiskImage } from '#guest-images/disk-image';
import { memoryStorage } from '#devices/backends/storage/memory';
import type { CommandName, Operands } from '#iommufd/arch/riscv/commands';
import { encodeDirectoryEntry, encodeProcessContext, fsc, iosatpMode, pdtpMode } from '#iommufd/arch/riscv/tables';
import { parseConfig } from '#vmm/config/parse';
import type { MachineConfigInput } from '#vmm/config/schema';
import { layout } from '#vmm/machine/layout';
import { Machine } from '#vmm/machine/machine';
import { atsDeviceId, Driver, places } from './harness.ts';

const slot = 1;
const deviceId = slot << 3;
const pasid = 3;
const iova = 0x4567_8000;
const directory = places.processes + 0x10000;
const otherLeaf = places.leaf + 0x8000;
const otherTables = places.stage1 + 0x8000;

/** Three levels that lead to `to`, at `tables`. */
const mapAt = (driver: Driver, tables: number, to: number, flags = 0xd7n): void => {
  const at = (shift: number): number => (Math.floor(iova / 2 ** shift) & 511) * 8;
  const entry = (address: number, bits: bigint): bigint => (BigInt(address / 4096) << 10n) | bits;
  driver.store(tables + at(30), entry(tables + 4096, 1n));
  driver.store(tables + 4096 + at(21), entry(tables + 8192, 1n));
  driver.store(tables + 8192 + at(12), flags === 0n ? 0n : entry(to, flags));
};
const setProcess = (driver: Driver, tables: number): void =>
  driver.store(
    places.processes + 16 * pasid,
    ...encodeProcessContext({
      ta: { V: 1n, PSCID: 5n },
      fsc: { MODE: BigInt(iosatpMode.Sv39), PPN: BigInt(tables / 4096) },
    }),
  );
const context = (dtf = 0n): readonly bigint[] => [
  0x21n | (dtf << 4n),
  0n,
  0n,
  fsc.encode({ MODE: BigInt(pdtpMode.PD17), PPN: BigInt(directory / 4096) }),
];

/** A driver whose device has translated for one process, with everything cached. */
const start = (): Driver => {
  const driver = new Driver(2, 0, { checks: ['stale-translations'] });
  driver.enableDirectory();
  mapAt(driver, places.stage1, places.page);
  mapAt(driver, otherTables, places.page + 0x4000);
  driver.store(directory, encodeDirectoryEntry(BigInt(places.processes / 4096)));
  setProcess(driver, places.stage1);
  driver.setContext(deviceId, context());
  driver.command('IODIR.INVAL_DDT');
  use(driver);
  return driver;
};
const use = (driver: Driver): number => {
  const result = driver.port(slot).read(0, iova, 8, pasid);
  return result.count === 0 ? -1 : result.offsets[0]!;
};

type Sent = readonly (readonly [CommandName, Partial<Operands>])[];
const device = { DV: 1n, DID: BigInt(deviceId) } as const;
// prettier-ignore
const bugs: readonly { readonly name: string; readonly change: (driver: Driver) => void; readonly right: Sent; readonly cache: string; readonly missing: string }[] = [
  { name: 'a page is unmapped', change: (d) => mapAt(d, places.stage1, 0, 0n), cache: 'IOTLB',
    right: [['IOTINVAL.VMA', { AV: 1n, PSCV: 1n, PSCID: 5n, ADDR: BigInt(iova / 4096) }]], missing: 'IOTINVAL.VMA GV=0, AV=1, PSCV=1, PSCID=5, ADDR=0x45678' },
  { name: 'a page is moved', change: (d) => mapAt(d, places.stage1, places.page + 0x1000), cache: 'IOTLB',
    right: [['IOTINVAL.VMA', { PSCV: 1n, PSCID: 5n }]], missing: 'IOTINVAL.VMA GV=0, AV=1, PSCV=1, PSCID=5, ADDR=0x45678' },
  { name: 'a table is taken out', change: (d) => d.store(places.stage1 + 8, 0n), cache: 'IOTLB',
    right: [['IOTINVAL.VMA', {}]], missing: 'IOTINVAL.VMA GV=0, AV=0, PSCV=1, PSCID=5' },
  { name: 'a process gets other tables', change: (d) => setProcess(d, otherTables), cache: 'process context',
    right: [['IODIR.INVAL_PDT', { ...device, PID: BigInt(pasid) }], ['IOTINVAL.VMA', { PSCV: 1n, PSCID: 5n }]], missing: 'IODIR.INVAL_PDT DV=1, DID=0x8, PID=3' },
  { name: 'the process directory is emptied', change: (d) => d.store(directory, 0n), cache: 'process context',
    right: [['IODIR.INVAL_DDT', device], ['IOTINVAL.VMA', {}]], missing: 'IODIR.INVAL_DDT DV=1, DID=0x8' },
  { name: 'the device context is taken away', change: (d) => d.setContext(deviceId, [0n, 0n, 0n, 0n]), cache: 'vIOMMU context',
    right: [['IODIR.INVAL_DDT', device]], missing: 'IODIR.INVAL_DDT DV=1, DID=0x8' },
  { name: 'the device context is changed', change: (d) => d.setContext(deviceId, context(1n)), cache: 'vIOMMU context',
    right: [['IODIR.INVAL_DDT', device]], missing: 'IODIR.INVAL_DDT DV=1, DID=0x8' },
  { name: 'the directory gets another leaf', change: (d) => d.store(places.middle, encodeDirectoryEntry(BigInt(otherLeaf / 4096))), cache: 'vIOMMU context',
    right: [['IODIR.INVAL_DDT', {}]], missing: 'IODIR.INVAL_DDT DV=0' },
];

describe("a guest driver's forgotten invalidation", () => {
  it.each(bugs)('$name', ({ change, cache, missing }) => {
    const driver = start();
    change(driver);
    driver.command('IOFENCE.C');
    use(driver);
    expect(driver.machine.staleTranslations()[0]).toMatchObject({ cache, missing });
    driver.machine.close();
  });

  it.each(bugs)('$name: silent where it was sent', ({ change, right }) => {
    const driver = start();
    change(driver);
    for (const [name, operands] of right) driver.command(name, operands);
    driver.command('IOFENCE.C');
    use(driver);
    use(driver);
    expect(driver.machine.staleTranslations()).toEqual([]);
    driver.machine.close();
  });
});

describe("a device's own translation cache", () => {
  const scene = (): { readonly driver: Driver; readonly use: () => void; readonly fetch: () => void } => {
    const driver = new Driver(1, 1, { checks: ['stale-translations'] });
    driver.enableDirectory();
    driver.setContext(atsDeviceId, driver.sharing());
    driver.command('IODIR.INVAL_DDT');
    driver.map(BigInt(iova));
    const fn = driver.functions[0]!;
    let address = 0n;
    const fetch = (): void => {
      const { hi, lo } = fn.translate(BigInt(iova), 1);
      address = (BigInt(hi) << 32n) | BigInt(lo);
    };
    fetch();
    return { driver, fetch, use: () => void fn.access('read', address + 8n, 8, 1, true) };
  };
  const iotinval = (driver: Driver): void =>
    driver.command('IOTINVAL.VMA', { AV: 1n, PSCV: 1n, PSCID: 1n, ADDR: BigInt(iova / 4096) });
  const inval = (driver: Driver, payload: bigint): void =>
    driver.command('ATS.INVAL', { PV: 1n, PID: 1n, RID: BigInt(atsDeviceId), PAYLOAD: payload });

  it('is told of where only the IOMMU was invalidated, or another page of the device', () => {
    const { driver, use } = scene();
    use();
    driver.map(BigInt(iova), 0n);
    iotinval(driver);
    inval(driver, BigInt(iova) + 0x1000n);
    use();
    use();
    expect(driver.machine.staleTranslations()).toHaveLength(1);
    expect(driver.machine.staleTranslations()[0]).toMatchObject({
      cache: 'device ATC',
      pasid: 1,
      table: 'stage 1 level 0',
      missing: `ATS.INVAL RID=0x${atsDeviceId.toString(16)}, PV=1, PID=1, PAYLOAD=0x${iova.toString(16)}`,
    });
    driver.machine.close();
  });

  it.each([
    ['the page', BigInt(iova)],
    ['a range of two pages', BigInt(iova) | 0x800n],
    ['everything', 0x7fff_ffff_ffff_f800n],
  ])('is right where %s was invalidated', (_, payload) => {
    const { driver, use } = scene();
    driver.map(BigInt(iova), 0n);
    iotinval(driver);
    inval(driver, payload);
    use();
    expect(driver.machine.staleTranslations()).toEqual([]);
    driver.machine.close();
  });

  it('is right where the device asked again', () => {
    const { driver, use, fetch } = scene();
    driver.map(BigInt(iova), 0xd7n, places.page + 0x1000);
    iotinval(driver);
    fetch();
    use();
    expect(driver.machine.staleTranslations()).toEqual([]);
    driver.machine.close();
  });
});

const guest = (name: string, input: MachineConfigInput): { readonly machine: Machine; readonly text: () => string } => {
  const parsed = parseConfig({ checks: ['stale-translations'], ...input });
  if (!parsed.ok) throw new Error('bad test configuration');
  let text = '';
  const decoder = new TextDecoder();
  const machine = Machine.create(parsed.config, {
    image: readFileSync(`guest-images/images/${name}.elf`),
    openDisk: () => {
      const disk = memoryStorage(24 << 20);
      disk.write(0, makeDiskImage(7));
      return disk;
    },
    console: (bytes) => (text += decoder.decode(bytes, { stream: true })),
  });
  return { machine, text: () => text };
};
const disk = { disks: [{ path: 'none' }] };
const dma = { ...disk, nics: [{}, {}] };
/** As in the demos: a disk whose queues can carry PASIDs, two cards, an exerciser. */
const shared: MachineConfigInput = { disks: [{ path: 'none', 'pasid-bits': 20 }], nics: [{}, {}], exercisers: [{}] };

describe('a whole guest', () => {
  // prettier-ignore
  it.each<[string, MachineConfigInput]>([['dma', dma], ['nvme', disk], ['smp', { smp: 2 }], ['irq', {}],
    ['nic', { nics: [{}, {}] }], ['exerciser', { exercisers: [{}] }], ['sva-vsva', shared], ['sva-vpri', shared]])('%s is right: nothing is told', (name, input) => {
    const { machine } = guest(name, input);
    expect(machine.run({ instructions: 2e9 }).outcome).toBe('passed');
    expect(machine.staleTranslations()).toEqual([]);
    machine.close();
  });

  it('whose invalidations are lost is caught, with the store that made the entry stale', () => {
    const { machine } = guest('dma', dma);
    const { bridge } = machine.assignment.viommu!;
    bridge.queueInvalidation = () => {};
    machine.run({ instructions: 2e9 });
    const [first] = machine.staleTranslations();
    expect(first).toMatchObject({ cache: 'IOTLB', writer: { who: 'hart 0' } });
    expect(first!.missing).toMatch(/^IOTINVAL\.VMA GV=0, /);
    expect(first!.writer!.pc).toBeGreaterThanOrEqual(BigInt(layout.ram.base));
    expect(first!.writer!.pc).toBeLessThan(BigInt(layout.ram.base + (4 << 20)));
    machine.close();
  });
});
