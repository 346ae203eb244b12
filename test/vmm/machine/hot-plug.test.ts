import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bundledGuest, Lab, memoryStorage, type MachineConfigInput } from '../../../index.ts';
import type { Machine } from '#vmm/machine/machine';
import { inspections } from '#vmm/inspect/inspections';

const diskBytes = 8 << 20;
/** An invalidation that nobody completes is given up after 10 ms. */
const settleNs = 11e6;
const lab = (guest: string, keys: MachineConfigInput = {}): { lab: Lab; closed: () => number } => {
  let closed = 0;
  const openDisk = () => {
    const disk = memoryStorage(diskBytes);
    const close = disk.close.bind(disk);
    return Object.assign(disk, { close: () => (closed++, close()) });
  };
  return { lab: new Lab(keys, { image: bundledGuest(guest), openDisk }), closed: () => closed };
};
const keysOf = { exerciser: {}, nvme: { path: 'x' }, nic: {} } as const;
type Driver = keyof typeof keysOf;
const drivers = Object.keys(keysOf) as Driver[];

/** Everything of the host that a device may hold. */
const holdings = (machine: Machine) => ({
  objects: inspections.objects.read(machine).map(({ kind, id }) => `${String(kind)} ${String(id)}`),
  files: machine.host.kernel.files.all().length,
  devices: machine.host.devices.map(({ placed }) => placed.id),
  invalidations: [machine.host.link.outstanding, machine.host.driver.deviceInvalidations],
  pageRequests: machine.assignment.viommu?.bridge.pageRequests.outstanding,
  unanswered: inspections.objects
    .read(machine)
    .filter(({ kind }) => kind === 'fault queue')
    .map(({ detail }) => detail),
  pinned: machine.host.kernel.physical.pinned,
  contexts: machine.assignment.viommu?.bridge.attachments().map(({ deviceId }) => deviceId),
  behind: [machine.disks.size, machine.wires.size],
});

describe('guests find cards behind hot-plug ports at power-on', () => {
  it.each([
    ['exerciser', 'exerciser', 1],
    ['nvme', 'nvme', 1],
    ['nic', 'nic', 2],
  ] as const)('%s', (guest, driver, count) => {
    const { machine } = lab(guest, { 'hotplug-ports': count }).lab;
    for (let i = 0; i < count; i++) machine.deviceAdd(driver, keysOf[driver]);
    expect(machine.run({ instructions: 1e9 }).outcome).toBe('passed');
    expect(machine.host.devices.at(-1)!.guestRid).toBeGreaterThan(0xff);
    machine.close();
    expect(machine.host.kernel.physical.pinned).toBe(0);
  });
});

describe('cards come and go while the guest runs', () => {
  it('each kind is used through the IOMMU, let go and missed', () => {
    const { lab: one, closed } = lab('hotplug', { 'hotplug-ports': 3, append: 'departures=4' });
    const { machine } = one;
    const gone: string[] = [];
    machine.hotPlug.onDeleted = (id) => gone.push(id);
    one.run({ console: 'wait for' });
    const empty = holdings(machine);
    for (const driver of drivers) {
      expect(machine.deviceAdd(driver, { ...keysOf[driver], id: driver })).toBe(driver);
      one.run({ console: 'plugged' });
    }
    expect(machine.hotPlug.ports().map(({ device }) => device)).toEqual(drivers);
    expect(machine.host.devices.slice(-3).map(({ guestRid }) => guestRid)).toEqual([0x100, 0x200, 0x300]);
    expect(machine.stats().devices.find(({ id }) => id === 'exerciser')).toMatchObject({
      address: '01:00.0',
      writtenBytes: 65_536,
    });
    machine.deviceDel('exerciser');
    expect(() => machine.deviceDel('exerciser')).toThrow('was asked for it already');
    one.run({ console: 'released' });
    machine.deviceDel('nvme');
    one.run({ event: 'machine.device', where: { device: 'nvme', state: 'gone' } });
    expect(closed()).toBe(1);
    machine.deviceDel('nic', { surprise: true });
    one.run({ console: 'torn out' });
    expect(gone).toEqual(['exerciser', 'nvme', 'nic']);
    expect(holdings(machine)).toEqual(empty);
    machine.deviceAdd('exerciser');
    one.run({ console: 'plugged' });
    machine.deviceDel('exerciser0');
    expect(one.run().outcome).toBe('passed');
    expect(one.console).toContain('hotplug: arrived=4 left=4 torn_out=1');
    expect(one.console).toContain('faults=0');
    machine.close();
    expect(machine.host.kernel.physical.pinned).toBe(0);
  });

  it('a machine without an IOMMU has them too', () => {
    const keys = { 'hotplug-ports': 1, viommu: { model: 'none' as const }, append: 'departures=1' };
    const one = lab('hotplug', keys).lab;
    one.run({ console: 'wait for' });
    one.machine.deviceAdd('nvme', { path: 'x', id: 'd' });
    one.run({ console: 'plugged' });
    one.machine.deviceDel('d');
    expect(one.run().outcome).toBe('passed');
  });

  it('two network cards meet on a hub, whenever they came', () => {
    const one = lab('hotplug', { 'hotplug-ports': 1, nics: [{}] }).lab;
    const { machine } = one;
    one.run({ console: 'wait for' });
    let heard = 0;
    machine.wires.get('net0')!.onFrame = () => (heard++, true);
    machine.deviceAdd('nic');
    one.run({ console: 'plugged' });
    expect(heard).toBe(1);
    machine.deviceDel('net1', { surprise: true });
    expect([...machine.wires.keys()]).toEqual(['net0']);
    one.run();
    machine.close();
  });

  it('thirty times leaves nothing behind', () => {
    const one = lab('hotplug', { 'hotplug-ports': 1, append: 'departures=1000' }).lab;
    const { machine } = one;
    one.run({ console: 'wait for' });
    const empty = holdings(machine);
    for (let i = 0; i < 30; i++) {
      machine.deviceAdd(drivers[i % 3]!, keysOf[drivers[i % 3]!]);
      machine.run({ instructions: 1000 * i });
      const id = machine.hotPlug.ports()[0]!.device!;
      machine.deviceDel(id, { surprise: true });
    }
    machine.run({ virtualNs: settleNs });
    expect(holdings(machine)).toEqual(empty);
    machine.close();
  });
});

describe('a card that is torn out in the middle of its work', () => {
  it('leaves nothing: DMA of the guest’s own making, at any instruction', () => {
    fc.assert(
      fc.property(fc.constantFrom('exerciser', 'nvme'), fc.integer({ min: 1, max: 400_000 }), (driver, instructions) => {
        const one = lab('hotplug', { 'hotplug-ports': 1, append: 'busy=1' }).lab;
        const { machine } = one;
        one.run({ console: 'wait for' });
        const empty = holdings(machine);
        machine.deviceAdd(driver as Driver, { ...keysOf[driver as Driver], id: 'card' });
        one.run({ console: 'plugged' });
        machine.run({ instructions });
        const { counters } = machine.host.devices.at(-1)!.port;
        const { reads, writes, messages } = counters;
        machine.deviceDel('card', { surprise: true });
        machine.run({ virtualNs: settleNs });
        expect({ reads: counters.reads, writes: counters.writes, messages: counters.messages }).toEqual({ reads, writes, messages });
        expect(holdings(machine)).toEqual(empty);
        machine.close();
      }),
      { numRuns: 4 },
    ); // prettier-ignore
  });

  it('leaves nothing: page requests, invalidations and translations under way', () => {
    const points = ['host.page-request', 'ats.invalidate', 'ats.translation'] as const;
    for (const [i, event] of points.entries()) {
      const one = lab('exerciser', { 'hotplug-ports': 1 }).lab;
      const { machine } = one;
      const empty = holdings(machine);
      machine.deviceAdd('exerciser', { id: 'card' });
      for (let nth = 0; nth <= i; nth++) expect(one.run({ event }).outcome, event).toBe('met');
      machine.deviceDel('card', { surprise: true });
      machine.run({ virtualNs: settleNs });
      expect(holdings(machine), event).toEqual(empty);
      machine.close();
      expect(machine.host.kernel.physical.pinned).toBe(0);
    }
  });

  it('is no stale translation for the next one in its place', () => {
    const one = lab('hotplug', { 'hotplug-ports': 1, checks: ['stale-translations'], append: 'departures=2' }).lab;
    one.run({ console: 'wait for' });
    for (let i = 0; i < 2; i++) {
      one.machine.deviceAdd('exerciser');
      one.run({ console: 'plugged' });
      one.machine.deviceDel('exerciser0', { surprise: i === 0 });
      if (i === 0) one.run({ console: 'torn out' });
    }
    expect(one.run().outcome).toBe('passed');
    expect(one.machine.staleTranslations()).toEqual([]);
  });
});

describe('what cannot be is an error that changes nothing', () => {
  const { lab: one, closed } = lab('hang', { 'hotplug-ports': 2, nics: [{ mac: '52:54:00:00:00:02' }] });
  const { machine } = one;
  machine.deviceAdd('nvme', { path: 'x', id: 'disk' });
  machine.run({ instructions: 1 });

  it.each([
    ['floppy', {}, undefined, 'driver: expected one of nvme, nic, exerciser, found "floppy"'],
    ['nvme', {}, undefined, 'path: expected the path of a disk image, found nothing'],
    ['nvme', { path: 'x', id: 'disk' }, undefined, 'id: expected an id that no other device has, found "disk"'],
    ['exerciser', { id: 'net0' }, undefined, 'id: expected an id that no other device has, found "net0"'],
    ['exerciser', { id: 'port1' }, undefined, 'id: expected an id that nothing else has, found "port1"'],
    ['exerciser', { 'pasid-bits': 21 }, undefined, 'pasid-bits: expected a whole number from 1 to 20, found 21'],
    ['exerciser', { address: 5 }, undefined, 'address: expected one of the keys id, pasid-bits, iommu'],
    ['exerciser', { pasid: 5 }, undefined, '(did you mean'],
    ['exerciser', 7, undefined, 'expected a group of keys, found 7'],
    ['nic', { mac: '52:54:00:00:00:02' }, undefined, 'mac: expected a MAC address that no other device has'],
    ['nic', { backend: 'stream' }, undefined, 'expected either local or remote with backend=stream'],
    ['nic', { backend: 'stream', local: './x' }, undefined, 'no way to open a network of kind stream'],
    ['exerciser', {}, 'port7', 'bus: expected one of port0, port1, found "port7"'],
    ['exerciser', {}, 'port0', 'bus: expected a free port, found port0, which disk is in'],
  ] as const)('%s %o in %s', (driver, keys, bus, said) => {
    const before = [holdings(machine), closed()];
    expect(() => machine.deviceAdd(driver, keys as never, bus)).toThrow(said);
    expect([holdings(machine), closed()]).toEqual(before);
  });

  it('every problem at once', () => {
    expect(() => machine.deviceAdd('nvme', { readonly: 3, serial: '', pasid: 1 })).toThrow(
      /serial[^]*path|path[^]*serial/,
    );
  });

  it('a call that the host refuses gives everything back', () => {
    const before = [holdings(machine), closed()];
    machine.inject('ioctl', { name: 'VFIO_DEVICE_BIND_IOMMUFD', errno: 'ENOMEM' });
    expect(() => machine.deviceAdd('nvme', { path: 'x' })).toThrow('VFIO_DEVICE_BIND_IOMMUFD: ENOMEM');
    const [held, count] = [holdings(machine), closed()];
    expect([held, count]).toEqual([before[0], (before[1] as number) + 1]);
  });

  it('no port is free, and none is there', () => {
    machine.deviceAdd('exerciser');
    expect(() => machine.deviceAdd('exerciser')).toThrow('expected a free hot-plug port, found all of them taken');
    const none = lab('hang').lab.machine;
    expect(() => none.deviceAdd('exerciser')).toThrow('found a machine without any (--hotplug-ports)');
  });

  it.each(['net0', 'port0', 'nobody'])('%s cannot be taken out', (id) => {
    expect(() => machine.deviceDel(id)).toThrow('expected a device in a hot-plug slot (disk, exerciser0)');
  });

  it('too many ports beside the devices', () => {
    expect(() => lab('hang', { 'hotplug-ports': 17 })).toThrow('from 0 to 16');
    const exercisers = Array.from({ length: 30 }, () => ({}));
    expect(() => lab('hang', { 'hotplug-ports': 2, exercisers })).toThrow('at most 1 ports beside 30 devices, found 2');
  });
});

it('two ports with one bus number: the second card waits for the name', () => {
  const one = lab('hang', { 'hotplug-ports': 2 }).lab;
  const { machine } = one;
  machine.deviceAdd('exerciser');
  machine.deviceAdd('exerciser');
  const ecam = 0x3000_0000;
  const number = (port: number, bus: number): void => void machine.bus.write(ecam + port * 0x8000 + 0x19, 1, bus);
  const names = (): (number | undefined)[] =>
    machine.assignment.viommu!.bridge.attachments().map(({ deviceId }) => deviceId);
  number(1, 3);
  number(2, 3);
  expect(names()).toEqual([8, 16, 0x300]);
  number(1, 4);
  expect(names().toSorted()).toEqual([8, 16, 0x300, 0x400].toSorted());
  number(2, 0);
  expect(names()).toEqual([8, 16, 0x400]);
  machine.close();
});
