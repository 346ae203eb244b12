import { statSync } from 'node:fs';
import type { MachineConfig } from '#vmm/config/schema';
import { unknownGlobs } from '#vmm/record/catalogue';
import { checkDisks } from './disks.ts';
import { CommandError } from './exit.ts';
import { loadGuest, loadInitrd } from './guests.ts';

/** A machine whose inputs are there and good. */
export interface Prepared {
  readonly config: MachineConfig;
  /** The guest's ELF file or Linux `Image`, unpacked. */
  readonly image: Uint8Array;
  readonly initrd?: Uint8Array;
}

/** The same file under whatever name; false where one of them is not there. */
function isSameFile(a: string, b: string): boolean {
  const [first, second] = [a, b].map((path) => statSync(path, { throwIfNoEntry: false }));
  return first !== undefined && second !== undefined && first.dev === second.dev && first.ino === second.ino;
}

/** Files that a command writes besides those of the configuration, by their options. */
export type Outputs = Readonly<Record<string, string | undefined>>;

/** Finds everything that is wrong with what the configuration names, before a file is written. */
export function prepare(config: MachineConfig, outputs: Outputs = {}): Prepared {
  checkFiles(config, outputs);
  const initrd = loadInitrd(config);
  return { config, image: loadGuest(config), ...(initrd ? { initrd } : {}) };
}

/** The same of a machine whose guest is there already; `inputs`: files that are read, too. */
export function checkFiles(config: MachineConfig, outputs: Outputs, inputs: readonly string[] = []): void {
  checkDisks(config.disks);
  const strangers = unknownGlobs(config.trace.events);
  if (strangers.length > 0)
    throw new CommandError(
      'usage',
      `trace.events: expected globs that match events (see iommulab trace list), found ${strangers.join(', ')}`,
    );
  const { file } = config.trace;
  const kernel = [config.kernel, config.initrd].filter((path) => path !== undefined);
  const read = [...config.disks.map((disk) => disk.path), ...kernel, ...inputs];
  const written = { 'trace.file': file, capture: config.capture, ...outputs };
  for (const [key, output] of Object.entries(written)) {
    const spoiled = output === undefined ? undefined : read.find((path) => isSameFile(path, output));
    if (spoiled !== undefined)
      throw new CommandError(
        'usage',
        `${key}: expected a file of its own, found ${JSON.stringify(output)}, which is ${spoiled}`,
      );
  }
}
