/** A run of which only the last events are kept, as parts, shows what a run that was traced from beginning to end shows. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { makeDiskImage } from '#guest-images/disk-image';
import { memoryStorage } from '#devices/backends/storage/memory';
import { type Listener, Recollection, type TraceEvent } from '#vmm/base/events';
import { Machine, type MachineConfigInput, parseConfig } from '../../../index.ts';

const shown = 24;

function run(guest: string, keys: MachineConfigInput, listeners: readonly Listener[]) {
  const parsed = parseConfig(keys);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.issues));
  const recollection = new Recollection(shown, 'uart');
  const machine = Machine.create(parsed.config, {
    image: readFileSync(`guest-images/images/${guest}.elf`),
    openDisk: () => {
      const disk = memoryStorage(24 << 20);
      disk.write(0, makeDiskImage(7));
      return disk;
    },
    console: () => {},
    listeners,
    recollection,
  });
  /** At several moments: what would be shown if the guest crashed there. */
  const stories: (readonly TraceEvent[])[] = [];
  let outcome: string;
  do {
    ({ outcome } = machine.run({ instructions: 150_000 }));
    stories.push(recollection.list());
  } while (outcome === 'limit');
  return { outcome, stories };
}

describe.each<[guest: string, keys: MachineConfigInput]>([
  ['dma', { disks: [{ path: 'disk' }], nics: [{}, {}] }],
  ['irq', { exercisers: [{}] }],
  ['crash', {}],
])('the guest %s', (guest, keys) => {
  it('is remembered alike whether anybody listens or not', () => {
    const all: TraceEvent[] = [];
    const warnings: TraceEvent[] = [];
    const traced = run(guest, keys, [{ sink: (event) => void all.push(event) }]);
    const plain = run(guest, keys, [{ sink: (event) => void warnings.push(event), wants: (name) => name === 'nic.dma-fault' }]); // prettier-ignore
    expect(plain.outcome).toBe(traced.outcome);
    expect(plain.stories).toEqual(traced.stories);
    expect(traced.stories.at(-1)).toEqual(all.filter(({ fields }) => fields['region'] !== 'uart').slice(-shown));
    expect(warnings).toEqual(all.filter(({ name }) => name === 'nic.dma-fault'));
  });
});
