import { readFileSync } from 'node:fs';
import { makeDiskImage } from '#guest-images/disk-image';
import { memoryStorage } from '#devices/backends/storage/memory';
import { JsonLines } from '#vmm/record/jsonl';
import { Machine, type MachineConfigInput, parseConfig } from '../../../index.ts';

/** A bundled guest with a disk and two cards, and its whole trace. */
export function build(
  guest = 'dma',
  keys: MachineConfigInput = { disks: [{ path: 'in memory' }], nics: [{}, {}] },
): { readonly machine: Machine; readonly trace: () => string } {
  const parsed = parseConfig(keys);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.issues));
  const pieces: string[] = [];
  const lines = new JsonLines((text) => pieces.push(text));
  const machine = Machine.create(parsed.config, {
    image: readFileSync(`guest-images/images/${guest}.elf`),
    openDisk: () => memoryStorage(makeDiskImage(1)),
    console: () => {},
    listeners: [lines.sink],
  });
  const trace = (): string => {
    lines.flush();
    return pieces.join('');
  };
  return { machine, trace };
}
