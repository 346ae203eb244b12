/** Disk images of the command line: judged before the machine is built, so that a wrong one changes nothing. */
import { statSync } from 'node:fs';
import type { DiskConfig } from '#vmm/config/schema';
import { CommandError } from './exit.ts';
import { fileError } from './files.ts';

const sectorBytes = 512;

/** Every problem of every image, at once. */
export function checkDisks(disks: readonly DiskConfig[]): void {
  const problems: string[] = [];
  const writers = new Map<string, string>();
  for (const [index, { path, readonly, overlay }] of disks.entries()) {
    const here = `disks[${index}].path`;
    try {
      const file = statSync(path);
      if (!file.isFile()) problems.push(`${here}: expected a file, found ${JSON.stringify(path)}, which is none`);
      else if (file.size === 0 || file.size % sectorBytes !== 0)
        problems.push(
          `${here}: expected an image of whole ${sectorBytes}-byte sectors, found ${JSON.stringify(path)} of ${file.size} bytes`,
        );
      if (readonly || overlay) continue;
      const key = `${file.dev}:${file.ino}`;
      const other = writers.get(key);
      if (other !== undefined)
        problems.push(
          `${here}: expected an image that no other disk writes, found ${JSON.stringify(path)}, which ${other} writes too`,
        );
      writers.set(key, `disks[${index}]`);
    } catch (error) {
      const said = fileError(error, path, 'a disk image');
      if (!(said instanceof CommandError)) throw error;
      problems.push(`${here}: ${said.message}`);
    }
  }
  if (problems.length > 0) throw new CommandError('usage', problems[0]!, problems.slice(1));
}
