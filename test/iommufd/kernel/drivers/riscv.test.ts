import { expect, it } from 'vitest';
import { fqcsr, offsets } from '#iommufd/arch/riscv/registers';
import { parseConfig } from '#vmm/config/parse';
import { Machine } from '#vmm/machine/machine';
import { readFileSync } from 'node:fs';
import { atsDeviceId, Driver } from '../../../viommu/riscv/harness.ts';

/** Calls of a machine's start, by name. */
const startUp = (exercisers: number): Record<string, number> => {
  const parsed = parseConfig({ memory: '16M', nics: [{}], exercisers: Array.from({ length: exercisers }, () => ({})) });
  if (!parsed.ok) throw new Error('bad test configuration');
  const image = readFileSync('guest-images/images/hello.elf');
  const openDisk = () => {
    throw new Error('no disk here');
  };
  const machine = Machine.create(parsed.config, { image, openDisk, console: () => {} });
  const calls = machine.host.kernel.ioctlsByName();
  machine.close();
  return calls;
};

it('a fault queue and event queues for invalidations and Stop Markers are made where a device needs them', () => {
  expect(startUp(0)).toMatchObject({ IOMMU_VEVENTQ_ALLOC: 1 });
  expect(startUp(0)['IOMMU_FAULT_QUEUE_ALLOC']).toBeUndefined();
  expect(startUp(2)).toMatchObject({ IOMMU_VEVENTQ_ALLOC: 3, IOMMU_FAULT_QUEUE_ALLOC: 1, IOMMU_VDEVICE_ALLOC: 3 });
});

it('an overflow of the silicon’s fault queue is survived: later faults arrive', () => {
  const driver = new Driver(1);
  const device = driver.port(1);
  for (let i = 0; i < 700; i++) device.read(0, i * 4096, 4);
  driver.settle();
  expect(driver.faults()).toHaveLength(127);
  // The guest takes them, clears its own overflow, and goes on.
  const tail = driver.read(offsets.fqt, 4);
  driver.write(offsets.fqh, 4, tail);
  driver.write(offsets.fqcsr, 4, fqcsr.encode({ fqen: 1n, fqof: 1n }));
  for (let i = 0; i < 3; i++) {
    device.read(0, i * 4096, 4);
    driver.settle();
  }
  expect((driver.read(offsets.fqt, 4) - tail) & 127n).toBe(3n);
  driver.machine.close();
});

it('a timeout of one device does not stop the host’s queue, and its tag is free again', () => {
  const driver = new Driver(1, 2);
  driver.enableDirectory();
  for (const id of [atsDeviceId, atsDeviceId + 8]) driver.setContext(id, driver.sharing());
  driver.command('IODIR.INVAL_DDT', {});
  const [mute, good] = driver.functions;
  mute!.answers = false;
  for (let round = 0; round < 40; round++) {
    driver.command('ATS.INVAL', { RID: BigInt(atsDeviceId), PAYLOAD: 0x1000n });
    driver.command('ATS.INVAL', { RID: BigInt(atsDeviceId + 8), PAYLOAD: 0x2000n });
    driver.machine.clock.advance(11_000_000);
    driver.command('IOFENCE.C', {});
    driver.recover();
    expect(driver.leftOver()).toEqual({ groups: 0, invalidations: 0, host: 0, link: 0 });
  }
  expect(good!.invalidations).toHaveLength(40);
  driver.setContext(atsDeviceId + 8, driver.sharing(2));
  driver.command('IODIR.INVAL_DDT', {});
  expect(driver.read(offsets.cqh, 4)).toBe(driver.read(offsets.cqt, 4));
  driver.machine.close();
});
