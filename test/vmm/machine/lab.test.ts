import { describe, expect, it } from 'vitest';
import {
  bundledGuest,
  Lab,
  type MachineConfigInput,
  type MachineMatchers,
  machineMatchers,
  MachineError,
  memoryStorage,
} from '../../../index.ts';
import { intercept } from '#vmm/machine/intercept';
import { matchesEvent } from '#vmm/machine/events';

declare module 'vitest' {
  // oxlint-disable-next-line no-empty-object-type -- what a user of the matchers writes
  interface Matchers<T> extends MachineMatchers<T> {}
}
expect.extend(machineMatchers);

const lab = (guest: string, keys: MachineConfigInput = {}): Lab =>
  new Lab(keys, { image: bundledGuest(guest), openDisk: () => memoryStorage(1 << 20) });

describe('matchers in vitest', () => {
  it('pass', () => {
    const one = lab('hello', { memory: '32M' });
    expect(one).toHavePassed();
    expect(one).toHaveConsole('hello from hart 0');
    expect(one).toHaveConsole(/^passed$/m);
    expect(one).toHaveEvent('iommufd.ioctl', { name: 'IOMMU_IOAS_*', result: 0 });
    expect(one).not.toHaveEvent('viommu.fault');
    expect(one).toHaveMemory(0x8020_0000, one.machine.readMemory(0x8020_0000, 4));
  });

  it('fail with what happened', () => {
    const one = lab('fail');
    expect(() => expect(one).toHavePassed()).toThrow(
      /expected the machine to have passed, found failed with code 3[^]*last events\n.*ms {2}[^]*finisher[^]*console\n/,
    );
    expect(() => expect(one).not.toHaveEnded('failed', 3)).toThrow(
      'expected the machine not to have failed with code 3',
    );
    expect(() => expect(one).toHaveConsole('nowhere')).toThrow('found it nowhere');
    expect(() => expect(one).toHaveEvent('iommufd.ioctl', { name: 'NO*' })).toThrow('none with such fields');
  });
});

describe('a machine', () => {
  it('stops at an address, and has its registers written', () => {
    const { machine } = lab('hang');
    expect(machine.run({ address: 0x8020_0004 })).toMatchObject({ outcome: 'met', instructions: 1 });
    machine.writeRegister('t6', 0xdead_beef_0000_0001n);
    machine.writeRegister('sscratch', 5n);
    machine.writeRegister('pc', 0x8020_0000n);
    expect(machine.registers()).toMatchObject({ pc: 0x8020_0000n, t6: 0xdead_beef_0000_0001n });
    expect(machine.harts[0]!.csr('sscratch')).toBe(5n);
    expect(() => machine.writeRegister('x99', 0n)).toThrow(RangeError);
    expect(() => machine.writeRegister('pc', 0n, 7)).toThrow(RangeError);
  });

  it('waits for an event by its fields, and says when none can come', async () => {
    const one = lab('irq');
    const event = await one.event('imsic.message', { file: 'hart0.s', identity: 2 });
    expect(event.fields).toMatchObject({ identity: 2 });
    await expect(one.event('imsic.message', { identity: 250 })).rejects.toThrow('the run ended (passed)');
    await expect(one.event('imsic.mesage')).rejects.toThrow('(did you mean imsic.message?)');
    const asking = lab('exerciser', { exercisers: [{}] });
    expect((await asking.machine.event('pri.request', { pasid: 0x42 })).fields).toMatchObject({ write: 1, last: 1 });
  });

  it('refuses keys that are wrong, all at once', () => {
    expect(() => lab('hello', { memory: '12Q', smp: 99 })).toThrow(MachineError);
  });
});

describe('event fields', () => {
  const event = { time: 0, name: 'x', fields: { n: 8, big: 0x1_0000_0000_0000n, text: 'IOMMU_IOAS_ALLOC' } };
  it.each([
    [{ n: 8 }, true],
    [{ n: '8' }, true],
    [{ n: '0x8' }, true],
    [{ n: '00:01.0' }, true],
    [{ n: 9 }, false],
    [{ n: 'eight' }, false],
    [{ n: 8.5 }, false],
    [{ big: '0x1000000000000' }, true],
    [{ big: 0x1_0000_0000_0000 }, true],
    [{ text: 'IOMMU_*' }, true],
    [{ text: 'IOMMU_IOAS_?LLOC' }, true],
    [{ text: 'IOMMU' }, false],
    [{ missing: 0 }, false],
  ])('%o: %o', (where, expected) => {
    expect(matchesEvent(event, 'x', where as never)).toBe(expected);
    expect(matchesEvent(event, 'y', where as never)).toBe(false);
  });
});

describe('injections', () => {
  it.each([
    ['link', { nic: 'net7', up: false }, 'expected the id of a network card (net0)'],
    ['disk-error', { disk: 'x' }, 'expected the id of a disk (nvme0)'],
    ['page-request', { device: 'x', address: 0 }, 'expected the id of a device (nvme0, net0)'],
    ['torn-write', { address: 4, value: 0 }, 'a multiple of 8'],
    ['torn-write', { address: 0, value: 0 }, 'not guest RAM'],
    ['ioctl', { name: 'IOMMU_DESTROY', errno: 'EWHAT' }, 'ioctl.errno'],
    ['page-response', { outcome: 'eaten' }, 'page-response.outcome'],
  ] as const)('%s %o is refused', (kind, options, said) => {
    const { machine } = lab('hang', { disks: [{ path: 'scratch' }], nics: [{}] });
    expect(() => machine.inject(kind, options as never)).toThrow(said);
  });

  it('refuse the nth call, and so many behind it', () => {
    const { machine } = lab('hang', { exercisers: [{}] });
    machine.inject('ioctl', { name: 'IOMMU_IOAS_ALLOC', errno: 'ENOSPC', nth: 2, times: 2 });
    const results = Array.from({ length: 5 }, () => {
      const made = machine.assignment.iommufd.ioasAlloc();
      return made.ok ? 0 : made.error.errno;
    });
    expect(results).toEqual([0, 28, 28, 0, 0]);
  });

  it('are taken back', () => {
    const { machine } = lab('hang', { exercisers: [{}] });
    const undo = machine.inject('ioctl', { name: 'IOMMU_IOAS_ALLOC', errno: 'ENOSPC', times: 100 });
    expect(machine.assignment.iommufd.ioasAlloc().ok).toBe(false);
    undo();
    undo();
    expect(machine.assignment.iommufd.ioasAlloc().ok).toBe(true);
  });

  it('make a disk fail once, in whichever way it is read', () => {
    const { machine } = lab('hang', { disks: [{ path: 'scratch' }] });
    const disk = machine.disks.get('nvme0')!;
    machine.inject('disk-error', { disk: 'nvme0', on: 'read' });
    expect(() => disk.read(0, new Uint8Array(512))).toThrow('as injected');
    disk.read(0, new Uint8Array(512));
    disk.write(0, new Uint8Array(512));
  });
});

describe('intercept', () => {
  it('leaves methods of the prototype and own properties as they were', () => {
    class Counter {
      value = 1;
      next(): number {
        return this.value++;
      }
    }
    const counter = new Counter();
    const undoNext = intercept(counter, 'next', (original) => () => 10 * original());
    const undoValue = intercept(counter, 'value', () => 5);
    expect(counter.next()).toBe(50);
    undoNext();
    undoValue();
    undoNext();
    expect(counter.next()).toBe(1);
    expect(Object.keys(counter)).toEqual(['value']);
  });
});
