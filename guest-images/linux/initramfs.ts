import { readFileSync } from 'node:fs';
import type { CpioEntry } from './cpio.ts';
import { encodeCpio, fileTypes } from './cpio.ts';
import type { KernelModule } from './modules.ts';
import type { TarFile } from './tar.ts';

const folder = (name: string): CpioEntry => ({ name, mode: fileTypes.folder | 0o755 });
const program = (name: string, content: Uint8Array): CpioEntry => ({ name, mode: fileTypes.file | 0o755, content });
const data = (name: string, content: Uint8Array): CpioEntry => ({ name, mode: fileTypes.file | 0o644, content });

/** The first process. */
export const init = (): Buffer => readFileSync(new URL('init', import.meta.url));

/** Programs of e2fsprogs, and the libraries that they are linked with, of whatever version. */
const toolPrograms = /^(?:usr\/)?sbin\/(mke2fs|e2fsck)$/;
const toolLibraries = /^(?:usr\/)?lib\/(?:riscv64-linux-gnu\/)?(lib(?:ext2fs|e2p|com_err|blkid|uuid)\.so\.\d+|libc\.so\.6|ld-linux-riscv64-lp64d\.so\.1)[.\d]*$/; // prettier-ignore

/** mke2fs and e2fsck with what they need, where they look for it: libraries under the names that programs ask for. */
export function fileSystemTools(files: Iterable<TarFile>): CpioEntry[] {
  const found = new Map<string, CpioEntry>();
  for (const { name, content, target } of files) {
    if (target !== undefined) continue;
    const [, tool] = toolPrograms.exec(name) ?? [];
    const [, library] = toolLibraries.exec(name) ?? [];
    const place = tool === undefined ? library && `lib/${library}` : `sbin/${tool}`;
    if (place) found.set(place, program(place, content));
  }
  return [...found.values()];
}

/** The first root file system: our `/init`, busybox, and the modules in the order in which they load. */
export function buildInitramfs(
  busybox: Uint8Array,
  modules: readonly KernelModule[],
  tools: readonly CpioEntry[] = [],
): Buffer {
  const order = modules.map(({ name }) => `${name}.ko\n`).join('');
  return encodeCpio([
    ...['bin', 'dev', 'lib', 'lib/modules', 'proc', 'sys', 'sbin', 'usr'].map(folder),
    // The kernel opens it for the first process before anything is mounted.
    { name: 'dev/console', mode: fileTypes.character | 0o600, device: { major: 5, minor: 1 } },
    program('init', init()),
    program('bin/busybox', busybox),
    data('lib/modules/order', Buffer.from(order)),
    ...modules.map(({ name, content }) => data(`lib/modules/${name}.ko`, content)),
    ...tools,
  ]);
}
