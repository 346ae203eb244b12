import { execFileSync } from 'node:child_process';
import type { TarFile } from './tar.ts';

/** Kernel modules for the devices of the machine, and what a test wants to mount. */
const wanted = ['nvme', 'e1000e', 'ext4'] as const;
const moduleBytes = 64 << 20;

/** modinfo's and the kernel's idea of a module's name: - and _ are the same. */
const moduleName = (path: string): string => path.replace(/^.*\//, '').replace(/\.ko(\.xz|\.zst|\.gz)?$/, '').replaceAll('-', '_'); // prettier-ignore

/** Compression of modules, by the end of the name: what unpacks them. */
const unpackers: Readonly<Record<string, readonly [string, ...string[]]>> = {
  xz: ['xz', '-dc'],
  zst: ['zstd', '-dcq'],
  gz: ['gzip', '-dc'],
};

function unpack({ name, content }: TarFile): Buffer {
  const unpacker = unpackers[name.replace(/^.*\./, '')];
  if (!unpacker) return Buffer.from(content);
  const [command, ...args] = unpacker;
  return execFileSync(command, args, { input: content, maxBuffer: moduleBytes });
}

/** The `depends=` entry of a module's .modinfo section. */
function dependencies(module: Buffer): string[] {
  const key = Buffer.from('\0depends=');
  const at = module.indexOf(key);
  if (at < 0) return [];
  const start = at + key.length;
  const list = module.subarray(start, module.indexOf(0, start)).toString();
  return list === '' ? [] : list.split(',').map((name) => name.replaceAll('-', '_'));
}

export interface KernelModule {
  readonly name: string;
  readonly content: Buffer;
}

/** The modules for the machine and all that they need, in an order in which they load. What is built in is missing. */
export function collectModules(files: Iterable<TarFile>): KernelModule[] {
  const byName = new Map<string, TarFile>();
  for (const file of files) if (/\.ko(\.\w+)?$/.test(file.name)) byName.set(moduleName(file.name), file);
  const done = new Map<string, KernelModule>();
  const visit = (name: string): void => {
    const file = byName.get(name);
    if (!file || done.has(name)) return;
    const content = unpack(file);
    for (const needed of dependencies(content)) visit(needed);
    done.set(name, { name, content });
  };
  for (const name of wanted) visit(name);
  return [...done.values()];
}
