/**
 * The C library of the running process, through koffi (an optional peer dependency: loaded only when asked for).
 * Addresses and sizes are numbers; user space has 47 bits of them.
 */

/** What we use of koffi. */
interface Koffi {
  load(path: null): {
    func(name: string, result: string, parameters: readonly string[]): (...values: unknown[]) => number;
  };
  view(address: bigint, bytes: number): ArrayBuffer;
  errno(): number;
}

/** Function → what it returns and takes. */
// prettier-ignore
const signatures = {
  open:             ['int',   'str', 'int', 'int'],
  close:            ['int',   'int'],
  ioctl:            ['int',   'int', 'uint64', 'uint64'],
  read:             ['int64', 'int', 'uint64', 'uint64'],
  write:            ['int64', 'int', 'uint64', 'uint64'],
  poll:             ['int',   'uint64', 'uint64', 'int'],
  fcntl:            ['int',   'int', 'int', 'uint64'],
  pipe:             ['int',   'uint64'],
  mmap:             ['int64', 'uint64', 'uint64', 'int', 'int', 'int', 'int64'],
  munmap:           ['int',   'uint64', 'uint64'],
  mprotect:         ['int',   'uint64', 'uint64', 'int'],
  memfd_create:     ['int',   'str', 'uint32'],
  ftruncate:        ['int',   'int', 'int64'],
  process_vm_readv: ['int64', 'int', 'uint64', 'uint64', 'uint64', 'uint64', 'uint64'],
  process_vm_writev:['int64', 'int', 'uint64', 'uint64', 'uint64', 'uint64', 'uint64'],
  getpid:           ['int'],
  setrlimit:        ['int',   'int', 'uint64'],
  capget:           ['int',   'uint64', 'uint64'],
  capset:           ['int',   'uint64', 'uint64'],
} as const satisfies Record<string, readonly [string, ...string[]]>;
type Call = keyof typeof signatures;

export interface Libc {
  /** Makes a call: what it returned (≥ 0), or a negative errno. */
  call(name: Call, ...values: readonly (number | bigint | string)[]): number;
  /** The process's own memory at an address. */
  view(address: number, bytes: number): Uint8Array;
}

/** Loads koffi by its name; undefined when it is not installed, or has no library for this machine. */
export async function loadLibc(specifier = 'koffi'): Promise<Libc | undefined> {
  let koffi: Koffi;
  const functions = new Map<Call, (...values: unknown[]) => number>();
  try {
    const module = (await import(specifier)) as { readonly default?: Koffi } & Koffi;
    koffi = module.default ?? module;
    const library = koffi.load(null);
    for (const [name, [result, ...parameters]] of Object.entries(signatures) as [
      Call,
      readonly [string, ...string[]],
    ][])
      functions.set(name, library.func(name, result, parameters));
  } catch {
    return undefined;
  }
  return {
    call: (name, ...values) => {
      const result = functions.get(name)!(...values);
      return result === -1 ? -koffi.errno() : result;
    },
    view: (address, bytes) => new Uint8Array(koffi.view(BigInt(address), bytes)),
  };
}
