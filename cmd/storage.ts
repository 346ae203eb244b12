/** The storage behind a disk of the configuration. */
import { fileStorage } from '#devices/backends/storage/file';
import { overlayStorage } from '#devices/backends/storage/overlay';
import type { StorageBackend } from '#vmm/base/ports';
import { StorageError } from '#vmm/base/ports';
import type { DiskConfig } from '#vmm/config/schema';
import { CommandError } from './exit.ts';

export function openDisk(disk: DiskConfig): StorageBackend {
  try {
    const file = fileStorage(disk.path, { readOnly: disk.readonly || disk.overlay });
    return disk.overlay ? overlayStorage(file) : file;
  } catch (error) {
    if (error instanceof StorageError) throw new CommandError('resource', error.message);
    throw error;
  }
}
