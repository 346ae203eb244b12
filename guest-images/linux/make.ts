/** The Linux guest: Debian's kernel and an initial RAM disk of ours, in `.cache/linux`. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildInitramfs } from './initramfs.ts';
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

/** @throws NoPackages where apt cannot give them, with the reason. */
export function makeLinux(say: (line: string) => void): LinuxGuest {
  mkdirSync(cache, { recursive: true });
  const { kernel: version, archives } = fetchPackages(join(cache, 'apt'), say);
  const find = (archive: Buffer, name: RegExp): Uint8Array => {
    for (const file of tarFiles(archive)) if (name.test(file.name)) return file.content;
    throw new NoPackages(`a package does not hold ${name.source}`);
  };
  const modules = collectModules(tarFiles(archives.modules()));
  say(`modules: ${modules.map(({ name }) => name).join(' ')}`);
  const busybox = find(archives.busybox(), /(^|\/)bin\/busybox$/);
  const guest = {
    version,
    kernel: join(cache, `vmlinuz-${version}`),
    initrd: join(cache, `initrd-${version}.img`),
    plainInitrd: join(cache, 'initrd-plain.img'),
  };
  writeFileSync(guest.kernel, find(archives.binary(), /\/vmlinuz(-[^/]*)?$/));
  writeFileSync(guest.initrd, buildInitramfs(busybox, modules));
  writeFileSync(guest.plainInitrd, buildInitramfs(busybox, []));
  return guest;
}
