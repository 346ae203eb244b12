/** Cards that come and go at random under a guest that keeps them busy: whatever happens, nothing of them is left. */
import { memoryStorage } from '#devices/backends/storage/memory';
import { bundledGuest } from '#guest-images/bundled';
import { parseConfig } from '#vmm/config/parse';
import { inspections } from '#vmm/inspect/inspections';
import { Machine } from '#vmm/machine/machine';
import { MachineError } from '#vmm/machine/machine-error';

const drivers = ['exerciser', 'nvme', 'nic'] as const;
const actsPerMachine = 60;
/** An invalidation that nobody completes is given up after 10 ms. */
const settleNs = 11e6;

const held = (machine: Machine): string => {
  const { host, assignment } = machine;
  return JSON.stringify([
    inspections.objects.read(machine).map(({ kind, id }) => `${String(kind)} ${String(id)}`),
    host.kernel.files.all().length,
    host.devices.map(({ placed }) => placed.id),
    [host.link.outstanding, host.driver.deviceInvalidations, host.kernel.physical.pinned],
    assignment.viommu?.bridge.pageRequests.outstanding,
    [machine.disks.size, machine.wires.size],
  ]);
};

export function fuzzHotPlug(seed: number, milliseconds: number): { machines: number; plugged: number; ended: number } {
  const counts = { machines: 0, plugged: 0, ended: 0 };
  let state = (seed * 2_654_435_761 + 1) >>> 0;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
  const end = Date.now() + milliseconds;
  do {
    const parsed = parseConfig({
      'hotplug-ports': 3,
      append: `departures=1000000 busy=${random(2)} seed=${random(1e6)}`,
    });
    if (!parsed.ok) throw new Error('the fuzz has a wrong configuration');
    const machine = Machine.create(parsed.config, {
      image: bundledGuest('hotplug'),
      openDisk: () => memoryStorage(1 << 20),
      console: () => {},
    });
    counts.machines++;
    machine.run({ console: 'wait for' });
    const empty = held(machine);
    for (let act = 0; act < actsPerMachine; act++) {
      const cards = machine.hotPlug.ports().flatMap(({ device }) => (device === undefined ? [] : [device]));
      try {
        if (cards.length === 0 || random(2) === 0) {
          const driver = drivers[random(3)]!;
          machine.deviceAdd(driver, driver === 'nvme' ? { path: 'memory' } : {});
          counts.plugged++;
        } else machine.deviceDel(cards[random(cards.length)]!, { surprise: random(3) === 0 });
      } catch (error) {
        // No port is free, or the guest was asked already.
        if (!(error instanceof MachineError)) throw error;
      }
      // A guest that gives up over a card that vanished under it is one more way to end.
      const { outcome } = machine.run({ instructions: 1 + random(150_000) });
      if (outcome === 'limit') continue;
      counts.ended++;
      break;
    }
    for (const { device } of machine.hotPlug.ports())
      if (device !== undefined) machine.deviceDel(device, { surprise: true });
    machine.clock.advance(settleNs);
    if (held(machine) !== empty) throw new Error(`machine ${counts.machines}: held ${held(machine)}, not ${empty}`);
    machine.close();
    if (machine.host.kernel.physical.pinned !== 0) throw new Error(`machine ${counts.machines}: pages stayed pinned`);
  } while (Date.now() < end);
  return counts;
}
