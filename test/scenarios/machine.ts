/** Runs a bundled guest on our machine, with its disk in memory, and gives its lines. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { makeDiskImage } from '#guest-images/disk-image';
import { memoryStorage } from '#devices/backends/storage/memory';
import { parseConfig } from '#vmm/config/parse';
import type { MachineConfigInput } from '#vmm/config/schema';
import { Machine, type RunResult } from '#vmm/machine/machine';
import type { MachineStats } from '#vmm/record/summary';

export interface Scenario extends RunResult {
  readonly lines: readonly string[];
  readonly stats: MachineStats;
  /** The `key=value` pairs of the one line that begins with `name: `. */
  result(name: string): Readonly<Record<string, string>>;
}

export const runGuest = (name: string, input: MachineConfigInput = {}): Scenario => {
  const parsed = parseConfig({ 'max-instructions': 5e9, ...input });
  if (!parsed.ok) throw new Error(parsed.issues.map((issue) => issue.path).join(', '));
  const image = readFileSync(fileURLToPath(new URL(`../../guest-images/images/${name}.elf`, import.meta.url)));
  let text = '';
  const decoder = new TextDecoder();
  const machine = Machine.create(parsed.config, {
    image,
    openDisk: () => {
      const disk = memoryStorage(24 << 20);
      disk.write(0, makeDiskImage(7));
      return disk;
    },
    console: (bytes) => {
      text += decoder.decode(bytes, { stream: true });
    },
  });
  const outcome = machine.run({ instructions: 3e9 });
  const stats = machine.stats();
  machine.close();
  const lines = text.split(/\r?\n/).filter((line) => line !== '');
  const result = (key: string): Record<string, string> => {
    const line = lines.find((one) => one.startsWith(`${key}: `)) ?? '';
    return Object.fromEntries([...line.matchAll(/(\S+?)=("[^"]*"|\S+)/g)].map(([, k, v]) => [k!, v!]));
  };
  return { ...outcome, lines, stats, result };
};
