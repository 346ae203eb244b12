import { describe, expect, it } from 'vitest';
import { commands as architecture } from '#iommufd/arch/riscv/commands';
import { cqcsr, ddtp, ddtpMode, offsets } from '#iommufd/arch/riscv/registers';
import { commands, type GuestCommand } from '#viommu/riscv/commands';
import { atsDeviceId, Driver } from './harness.ts';

const first = 1 << 3;
const second = 2 << 3;
type Scene = { readonly name: string; readonly calls: readonly string[]; readonly play: (driver: Driver) => void };

/** Every way in which a command leads to host calls, and the calls in order. */
const scenes: Readonly<Record<keyof typeof commands, readonly Scene[]>> = {
  'IOTINVAL.VMA': [
    {
      name: 'waits for the fence, and one call carries the batch',
      calls: ['IOMMU_HWPT_INVALIDATE'],
      play: (driver) => {
        for (let page = 0n; page < 9n; page++)
          driver.command('IOTINVAL.VMA', { AV: 1n, PSCV: 1n, PSCID: 1n, ADDR: page });
        driver.command('IOFENCE.C');
      },
    },
    {
      name: 'a full batch does not wait',
      calls: ['IOMMU_HWPT_INVALIDATE'],
      play: (driver) => {
        for (let i = 0; i < 256; i++) driver.command('IOTINVAL.VMA', {});
      },
    },
  ],
  'IOTINVAL.GVMA': [
    {
      name: 'has nothing to invalidate: the guest has no second stage',
      calls: [],
      play: (driver) => {
        driver.command('IOTINVAL.GVMA', {});
        driver.command('IOFENCE.C');
      },
    },
  ],
  'IOFENCE.C': [
    { name: 'alone is no call', calls: [], play: (driver) => driver.command('IOFENCE.C') },
    {
      name: 'sends what came before it',
      calls: ['IOMMU_HWPT_INVALIDATE'],
      play: (driver) => {
        driver.command('IOTINVAL.VMA', {});
        driver.command('IOFENCE.C', { PR: 1n, PW: 1n });
      },
    },
  ],
  'IODIR.INVAL_DDT': [
    {
      name: 'a context that became valid is allocated and attached',
      calls: ['IOMMU_HWPT_ALLOC', 'VFIO_DEVICE_ATTACH_IOMMUFD_PT'],
      play: (driver) => {
        driver.setContext(second, driver.translating());
        driver.command('IODIR.INVAL_DDT', { DV: 1n, DID: BigInt(second) });
      },
    },
    {
      name: 'a context that changed is replaced without a gap, then the old table goes',
      calls: ['IOMMU_HWPT_ALLOC', 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', 'IOMMU_DESTROY'],
      play: (driver) => {
        driver.setContext(first, driver.translating(7n));
        driver.command('IODIR.INVAL_DDT', { DV: 1n, DID: BigInt(first) });
      },
    },
    {
      name: 'a context that became invalid is detached',
      calls: ['VFIO_DEVICE_DETACH_IOMMUFD_PT', 'IOMMU_DESTROY'],
      play: (driver) => {
        driver.setContext(first, [0n]);
        driver.command('IODIR.INVAL_DDT', { DV: 1n, DID: BigInt(first) });
      },
    },
    {
      name: 'a context the host refuses is detached too',
      calls: ['IOMMU_HWPT_ALLOC', 'VFIO_DEVICE_DETACH_IOMMUFD_PT', 'IOMMU_DESTROY'],
      play: (driver) => {
        driver.setContext(first, [1n, 0n, 0n, 0xfn << 60n]);
        driver.command('IODIR.INVAL_DDT', { DV: 1n, DID: BigInt(first) });
      },
    },
    {
      name: 'the same context again is no call',
      calls: [],
      play: (driver) => driver.command('IODIR.INVAL_DDT', { DV: 1n, DID: BigInt(first) }),
    },
    {
      name: 'the same context again, with a process directory, forgets what of that is cached',
      calls: ['IOMMU_HWPT_INVALIDATE'],
      play: (driver) => driver.command('IODIR.INVAL_DDT', {}),
    },
    {
      name: 'a device that is not there is no call',
      calls: [],
      play: (driver) => driver.command('IODIR.INVAL_DDT', { DV: 1n, DID: 0x7777n }),
    },
  ],
  'IODIR.INVAL_PDT': [
    {
      name: 'is forwarded by the fence',
      calls: ['IOMMU_HWPT_INVALIDATE'],
      play: (driver) => {
        driver.command('IODIR.INVAL_PDT', { DV: 1n, DID: BigInt(first), PID: 3n });
        driver.command('IOFENCE.C');
      },
    },
  ],
  'ATS.INVAL': [
    {
      name: 'goes to the host at once, after what was queued before it',
      calls: ['IOMMU_HWPT_INVALIDATE', 'IOMMU_HWPT_INVALIDATE'],
      play: (driver) => {
        driver.command('IOTINVAL.VMA', {});
        driver.command('ATS.INVAL', { RID: BigInt(atsDeviceId), PAYLOAD: 0x1000n });
      },
    },
    {
      name: 'to a device that is not there is no call',
      calls: [],
      play: (driver) => driver.command('ATS.INVAL', { RID: 0x7777n, PAYLOAD: 0x1000n }),
    },
  ],
  'ATS.PRGR': [
    {
      name: 'answers the group that it names',
      calls: ['write(fault)'],
      play: (driver) => {
        driver.functions[0]!.ask(0x5000n, 3);
        driver.settle();
        driver.respond(atsDeviceId, 1, 3);
      },
    },
    {
      name: 'that answers nothing is no call',
      calls: [],
      play: (driver) => driver.respond(atsDeviceId, 1, 4),
    },
  ],
};

/** A driver that has one device's context in place. */
const ready = (): Driver => {
  const driver = new Driver(2, 1);
  driver.enableDirectory();
  driver.enablePageRequests();
  driver.setContext(first, driver.translating());
  driver.setContext(atsDeviceId, driver.sharing());
  driver.command('IODIR.INVAL_DDT', {});
  driver.take();
  return driver;
};

describe.each(Object.entries(commands) as [keyof typeof commands, GuestCommand][])('%s', (name, row) => {
  const seen = new Set<string>();
  it.each(scenes[name])('$name', ({ calls, play }) => {
    const driver = ready();
    play(driver);
    const made = driver.take();
    expect(made).toEqual(calls);
    for (const call of made) seen.add(call);
    expect(cqcsr.get(driver.read(offsets.cqcsr, 4), 'cmd_ill')).toBe(0n);
    driver.machine.close();
  });
  it('makes every call of its row, and no other', () => {
    expect([...seen].toSorted()).toEqual([...row.issues].toSorted());
  });
});

it('every command of the architecture has a row', () => {
  expect(Object.keys(commands).toSorted()).toEqual(Object.keys(architecture).toSorted());
});

it('ddtp: Off blocks, Bare attaches the second stage, and back', () => {
  const driver = new Driver();
  driver.enableDirectory();
  driver.setContext(first, driver.translating());
  driver.command('IODIR.INVAL_DDT', {});
  driver.take();
  driver.write(offsets.ddtp, 8, ddtp.encode({ iommu_mode: BigInt(ddtpMode.Off) }));
  expect(driver.take()).toEqual(['VFIO_DEVICE_DETACH_IOMMUFD_PT', 'IOMMU_DESTROY']);
  driver.write(offsets.ddtp, 8, ddtp.encode({ iommu_mode: BigInt(ddtpMode.Bare) }));
  expect(driver.take()).toEqual(['VFIO_DEVICE_ATTACH_IOMMUFD_PT', 'VFIO_DEVICE_ATTACH_IOMMUFD_PT']);
  driver.write(offsets.ddtp, 8, ddtp.encode({ iommu_mode: BigInt(ddtpMode.Off) }));
  expect(driver.take()).toEqual(['VFIO_DEVICE_DETACH_IOMMUFD_PT', 'VFIO_DEVICE_DETACH_IOMMUFD_PT']);
});
