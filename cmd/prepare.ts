import type { MachineConfig } from '#vmm/config/schema';
import { unknownGlobs } from '#vmm/record/catalogue';
import { checkDisks } from './disks.ts';
import { CommandError } from './exit.ts';
import { loadGuest } from './guests.ts';

/** A machine whose inputs are there and good. */
export interface Prepared {
  readonly config: MachineConfig;
  /** The guest's ELF file. */
  readonly image: Uint8Array;
}

/** Finds everything that is wrong with what the configuration names, before a file is written. */
export function prepare(config: MachineConfig): Prepared {
  checkDisks(config.disks);
  const strangers = unknownGlobs(config.trace.events);
  if (strangers.length > 0)
    throw new CommandError(
      'usage',
      `trace.events: expected globs that match events (see iommulab trace list), found ${strangers.join(', ')}`,
    );
  return { config, image: loadGuest(config) };
}
