/** What `npm run linux` left in the cache. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface LinuxRecord {
  readonly version: string;
  /** Paths of files. */
  readonly kernel: string;
  readonly initrd: string;
  readonly plainInitrd: string;
}

const record = join('.cache', 'linux', 'guest.json');
/** For a line that says why something is left out. */
export const noLinux = `${record} is not there, or names files that are not: npm run linux makes it`;

/** Undefined unless the record and all that it names are there. */
export function linuxRecord(): LinuxRecord | undefined {
  if (process.platform !== 'linux' || !existsSync(record)) return undefined;
  const made = JSON.parse(readFileSync(record, 'utf8')) as LinuxRecord;
  return [made.kernel, made.initrd, made.plainInitrd].every((path) => existsSync(path)) ? made : undefined;
}
