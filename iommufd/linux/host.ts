import type { IommufdHost, SharedMemory } from '../client/host.ts';
import type { Libc } from './libc.ts';

export const pageBytes = 4096;
// asm-generic/fcntl.h, mman.h, poll.h
export const openFlags = { readWrite: 2, nonBlock: 0o4000, closeOnExec: 0o2000000 } as const;
export const mapFlags = {
  shared: 1,
  private: 2,
  fixed: 0x10,
  anonymous: 0x20,
  populate: 0x8000,
  hugetlb: 0x40000,
} as const;
const pollAll = 1 | 4 | 64;
/** Milliseconds between two looks at a watched descriptor. */
const watchInterval = 1;

/** Anonymous memory, zeroed, with a hole after it; a negative errno. */
export function mapAnonymous(libc: Libc, bytes: number, flags = 0): number {
  const whole = Math.ceil(bytes / pageBytes) * pageBytes;
  const noAccess = 0;
  const base = libc.call('mmap', 0, whole + pageBytes, noAccess, mapFlags.private | mapFlags.anonymous, -1, 0);
  if (base < 0) return base;
  const fixed = mapFlags.private | mapFlags.anonymous | mapFlags.fixed | flags;
  return libc.call('mmap', base, whole, 3, fixed, -1, 0);
}

/** The iommufd of the Linux that runs this process. Calls block as long as the kernel does. */
export class LinuxHost implements IommufdHost {
  readonly libc: Libc;
  readonly #pollfd: SharedMemory;
  readonly #view: DataView;

  constructor(libc: Libc) {
    this.libc = libc;
    this.#pollfd = this.scratch(pageBytes);
    this.#view = new DataView(this.#pollfd.bytes.buffer);
  }

  open(path: string): number {
    return this.libc.call('open', path, openFlags.readWrite | openFlags.closeOnExec, 0);
  }
  close(fd: number): number {
    return this.libc.call('close', fd);
  }
  ioctl(fd: number, request: number, argument: number): number {
    return this.libc.call('ioctl', fd, request, BigInt.asUintN(64, BigInt(argument)));
  }
  /** Of an event fd only when something is there: those of the kernel can be in blocking mode. */
  read(fd: number, address: number, count: number): number {
    return this.poll(fd) & 1 ? this.libc.call('read', fd, BigInt.asUintN(64, BigInt(address)), count) : 0;
  }
  write(fd: number, address: number, count: number): number {
    return this.libc.call('write', fd, BigInt.asUintN(64, BigInt(address)), count);
  }
  poll(fd: number): number {
    this.#view.setInt32(0, fd, true);
    this.#view.setInt16(4, pollAll, true);
    this.#view.setInt16(6, 0, true);
    const ready = this.libc.call('poll', this.#pollfd.address, 1, 0);
    return ready < 0 ? ready : this.#view.getUint16(6, true);
  }
  mmap(fd: number, length: number, prot: number, offset: number): number {
    return this.libc.call('mmap', 0, length, prot, mapFlags.shared, fd, offset);
  }
  scratch(bytes: number): SharedMemory {
    const address = mapAnonymous(this.libc, bytes);
    if (address < 0) throw new RangeError(`the host has no ${bytes} bytes of memory`);
    return { address, bytes: this.libc.view(address, Math.ceil(bytes / pageBytes) * pageBytes) };
  }
  /** Looks once a millisecond, for as long as something else keeps the process going. */
  watch(fd: number, wake: () => void): () => void {
    let before = 0;
    const timer = setInterval(() => {
      const now = this.poll(fd) & 1;
      if (now && !before) wake();
      before = now;
    }, watchInterval) as unknown as number;
    (timer as unknown as { unref?(): void }).unref?.();
    return () => clearInterval(timer);
  }
}
