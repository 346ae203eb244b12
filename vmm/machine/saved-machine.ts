/** What a snapshot holds of a machine, section by section, and in which order that comes back. */
import type { Clock } from '#vmm/base/clock';
import type { HostMemory } from '#vmm/base/memory';
import type { StorageBackend } from '#vmm/base/ports';
import {
  type Data,
  part,
  partList,
  parts,
  recordOf,
  type Saved,
  SavedError,
  sparseBytes,
  within,
} from '#vmm/base/saved';
import type { Uart } from '#devices/uart/uart';
import type { PciHost } from '../bus/pci/host.ts';
import type { HartGroup, Hart } from '../cpu/riscv/hart.ts';
import type { InterruptFile } from '../irq/imsic.ts';
import type { Section } from '../snapshot/container.ts';
import type { Assignment } from './assignment.ts';
import type { Capture } from './capture.ts';
import type { HostSide } from './host-side.ts';
import type { HotPlug, PluggedDevice } from './hot-plug.ts';
import type { Scheduler } from './scheduler.ts';

/** A machine's parts, as it has them itself. */
export interface SavedMachine {
  readonly clock: Clock;
  readonly memory: HostMemory;
  readonly scheduler: Scheduler;
  readonly group: HartGroup;
  readonly harts: readonly Hart[];
  readonly interruptFiles: readonly InterruptFile[];
  readonly uart: Uart;
  readonly pci: PciHost;
  readonly host: HostSide;
  readonly assignment: Assignment;
  readonly hotPlug: HotPlug;
  readonly disks: ReadonlyMap<string, StorageBackend>;
  /** How the guest ended, if it has. */
  readonly ending: Saved;
  /** Of the network cards' frames, where somebody wants them. */
  readonly capture: Capture | undefined;
}

/** Memory goes out in pieces, so that never all of it is there twice. */
const chunkBytes = 16 << 20;
const clockName = 'clock';
const hotPlugName = 'hot-plug';

const savedDisks = (disks: SavedMachine['disks']): Saved =>
  parts(Object.fromEntries([...disks].map(([id, { saved }]) => [id, saved ?? parts({})])));

/** A machine that is taken up again may capture, whether or not it did before. */
const savedCapture = ({ capture }: SavedMachine): Saved => ({
  save: () => capture?.saved.save(),
  restore: (data) => (data === undefined ? undefined : capture?.saved.restore(data)),
});

const memoryChunks = ({ bytes, poolBase, guestBase, end }: HostMemory): [name: string, saved: Saved][] => {
  const chunks: [string, Saved][] = [['memory.pool', sparseBytes(() => bytes.subarray(poolBase, guestBase))]];
  for (let at: number = guestBase; at < end; at += chunkBytes)
    chunks.push([
      `memory.${chunks.length}`,
      sparseBytes(() => bytes.subarray(at, Math.min(end, at + chunkBytes)), true),
    ]);
  return chunks;
};

/** Everything but the memory's bytes. Later ones may look at earlier ones while they are restored. */
const stateSections = (machine: SavedMachine): Readonly<Record<string, Saved>> => {
  const { host, assignment, memory } = machine;
  return {
    pages: part(() => memory),
    harts: parts({
      scheduler: part(() => machine.scheduler),
      lastHart: {
        save: () => machine.group.code.lastHart,
        restore: (data) => (machine.group.code.lastHart = Number(data)),
      },
      harts: partList(() => machine.harts),
    }),
    interrupts: partList(() => machine.interruptFiles),
    board: parts({ uart: part(() => machine.uart), ending: machine.ending, capture: savedCapture(machine) }),
    disks: savedDisks(machine.disks),
    pci: part(() => machine.pci),
    silicon: parts({
      host: part(() => host),
      iommu: part(() => host.silicon),
      link: part(() => host.link),
      ports: partList(() => host.devices.map(({ port }) => port)),
      translated: partList(() => host.devices.map(({ port }) => ({ saved: port.savedTransactions }))),
    }),
    kernel: parts({
      driver: part(() => host.driver),
      kernel: part(() => host.kernel),
      client: part(() => assignment.iommufd),
    }),
    viommu: part(() => assignment.viommu ?? { saved: parts({}) }),
  };
};

/** Every section, memory last. @throws SavedError where something is in the event queue that no part saves */
export function* saveMachine(machine: SavedMachine): Generator<Section> {
  const clock = machine.clock.beginSave();
  const states = Object.entries(stateSections(machine)).map(([name, saved]) => ({ name, data: saved.save() }));
  const { forgotten } = machine.clock;
  if (forgotten > 0) throw new SavedError(`${forgotten} events in the queue belong to nothing that can be saved`);
  yield { name: clockName, data: clock };
  yield { name: hotPlugName, data: machine.hotPlug.save() };
  yield* states;
  for (const [name, saved] of memoryChunks(machine.memory)) yield { name, data: saved.save() };
}

/** The opposite, on a machine of the same configuration that has not run, and with what was plugged in. @throws SavedError */
export const restoreMachine = (
  machine: SavedMachine,
  plugged: readonly PluggedDevice[],
  read: (section: string) => Data,
): void => {
  const { clock } = machine;
  // First: from then on these are devices like any other.
  within(hotPlugName, () => machine.hotPlug.restore(plugged, read(hotPlugName)));
  const { now, order, pending } = recordOf(read(clockName));
  clock.beginRestore(Number(now));
  for (const [name, saved] of Object.entries(stateSections(machine))) within(name, () => saved.restore(read(name)));
  for (const [name, saved] of memoryChunks(machine.memory)) within(name, () => saved.restore(read(name)));
  const there = clock.endRestore(Number(order));
  if (there !== pending) throw new SavedError(`${Number(pending)} events were saved, and ${there} are there again`);
};
