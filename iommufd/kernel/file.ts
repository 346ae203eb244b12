import { errno } from '#vmm/base/errno';

/** poll events (EPOLLIN, EPOLLOUT, EPOLLRDNORM). */
export const pollEvents = { in: 1, out: 4, rdnorm: 64 } as const;

/**
 * An open file description: what a file descriptor refers to. Operations return a result (≥ 0) or a negative errno,
 * as system calls do.
 */
export abstract class OpenFile {
  #references = 1;
  readonly #watchers = new Set<() => void>();

  /** Another holder: a second descriptor, or the kernel (fget). */
  get(): void {
    this.#references++;
  }
  /** fput: the last one releases it. */
  put(): void {
    if (--this.#references === 0) this.release();
  }

  ioctl(_request: number, _argument: number): number {
    return -errno.ENOTTY;
  }
  read(_address: number, _count: number): number {
    return -errno.EINVAL;
  }
  write(_address: number, _count: number): number {
    return -errno.EINVAL;
  }
  /** Pending events. Default: always readable and writable, as regular files are. */
  poll(): number {
    return pollEvents.in | pollEvents.out;
  }
  /** An address, or a negative errno. `shared`: MAP_SHARED. */
  mmap(_length: number, _prot: number, _shared: boolean, _offset: number): number {
    return -errno.ENODEV;
  }
  protected release(): void {}

  /** Calls `wake` whenever the file becomes readable; the result stops that. */
  watch(wake: () => void): () => void {
    this.#watchers.add(wake);
    return () => this.#watchers.delete(wake);
  }
  protected wake(): void {
    for (const watcher of this.#watchers) watcher();
  }
}

/** File descriptors of the process: lowest free number first. */
export class FileTable {
  readonly #files: (OpenFile | null | undefined)[] = [null, null, null];

  /** A number that is not in use yet and refers to nothing until `install`. */
  reserve(): number {
    let fd = 3;
    while (this.#files[fd] !== undefined) fd++;
    this.#files[fd] = null;
    return fd;
  }
  install(fd: number, file: OpenFile): void {
    this.#files[fd] = file;
  }
  unreserve(fd: number): void {
    this.#files[fd] = undefined;
  }
  get(fd: number): OpenFile | undefined {
    return this.#files[fd] ?? undefined;
  }
  close(fd: number): number {
    const file = this.#files[fd];
    if (!file) return -errno.EBADF;
    this.#files[fd] = undefined;
    file.put();
    return 0;
  }
}
