import { readFileSync } from 'node:fs';
import type { CpioEntry } from './cpio.ts';
import { encodeCpio, fileTypes } from './cpio.ts';
import type { KernelModule } from './modules.ts';

const folder = (name: string): CpioEntry => ({ name, mode: fileTypes.folder | 0o755 });
const program = (name: string, content: Uint8Array): CpioEntry => ({ name, mode: fileTypes.file | 0o755, content });
const data = (name: string, content: Uint8Array): CpioEntry => ({ name, mode: fileTypes.file | 0o644, content });

/** The first process. */
export const init = (): Buffer => readFileSync(new URL('init', import.meta.url));

/** The first root file system: our `/init`, busybox, and the modules in the order in which they load. */
export function buildInitramfs(busybox: Uint8Array, modules: readonly KernelModule[]): Buffer {
  const order = modules.map(({ name }) => `${name}.ko\n`).join('');
  return encodeCpio([
    ...['bin', 'dev', 'lib', 'lib/modules', 'proc', 'sys', 'sbin', 'usr'].map(folder),
    // The kernel opens it for the first process before anything is mounted.
    { name: 'dev/console', mode: fileTypes.character | 0o600, device: { major: 5, minor: 1 } },
    program('init', init()),
    program('bin/busybox', busybox),
    data('lib/modules/order', Buffer.from(order)),
    ...modules.map(({ name, content }) => data(`lib/modules/${name}.ko`, content)),
  ]);
}
