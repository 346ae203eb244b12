/** The Linux guest: Debian's kernel and an initial RAM disk of ours, in `.cache/linux`. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildInitramfs, fileSystemTools, init } from './initramfs.ts';
import { collectModules } from './modules.ts';
import { fetchPackages, NoPackages } from './packages.ts';
import { tarFiles } from './tar.ts';

export interface LinuxGuest {
  /** Version that the kernel calls itself. */
  readonly version: string;
  /** Paths. */
  readonly kernel: string;
  readonly initrd: string;
  /** Without modules, for kernels that have all drivers built in. */
  readonly plainInitrd: string;
}

const cache = fileURLToPath(new URL('../../.cache/linux/', import.meta.url));

const record = join(cache, 'guest.json');
/** Counts what goes into the RAM disk besides `/init`. */
const contentsVersion = 2;
const digest = (): string => createHash('sha256').update(init()).update(`${contentsVersion}`).digest('hex');

/** What an earlier `makeLinux` left. */
export function cachedLinux(): LinuxGuest | undefined {
  if (!existsSync(record)) return undefined;
  const { made, ...guest } = JSON.parse(readFileSync(record, 'utf8')) as LinuxGuest & { made: string };
  const isWhole = [guest.kernel, guest.initrd, guest.plainInitrd].every((path) => existsSync(path));
  return made === digest() && isWhole ? guest : undefined;
}

/** Fetches and builds what is not there yet. @throws NoPackages where apt cannot give it, with the reason. */
export function makeLinux(say: (line: string) => void): LinuxGuest {
  const before = cachedLinux();
  if (before) return before;
  mkdirSync(cache, { recursive: true });
  const { kernel: version, archives, fileSystemTools: toolArchives } = fetchPackages(join(cache, 'apt'), say);
  const find = (archive: Buffer, name: RegExp): Uint8Array => {
    for (const file of tarFiles(archive)) if (name.test(file.name)) return file.content;
    throw new NoPackages(`a package does not hold ${name.source}`);
  };
  const modules = collectModules(tarFiles(archives.modules()));
  say(`modules: ${modules.map(({ name }) => name).join(' ')}`);
  const busybox = find(archives.busybox(), /(^|\/)bin\/busybox$/);
  const tools = fileSystemTools(toolArchives().flatMap((archive) => [...tarFiles(archive)]));
  say(`programs: busybox ${tools.map(({ name }) => name).join(' ')}`);
  const guest = {
    version,
    kernel: join(cache, `vmlinuz-${version}`),
    initrd: join(cache, `initrd-${version}.img`),
    plainInitrd: join(cache, 'initrd-plain.img'),
  };
  writeFileSync(guest.kernel, find(archives.binary(), /\/vmlinuz(-[^/]*)?$/));
  writeFileSync(guest.initrd, buildInitramfs(busybox, modules, tools));
  writeFileSync(guest.plainInitrd, buildInitramfs(busybox, []));
  writeFileSync(record, JSON.stringify({ ...guest, made: digest() }));
  return guest;
}
