import { errno } from '#vmm/base/errno';
import type { Saved } from '#vmm/base/saved';
import { LowestIds } from './ids.ts';

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

  /** What of it changes, for snapshots of a process whose files are open already. */
  readonly saved?: Saved;

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
  readonly #files: (OpenFile | undefined)[] = [];
  readonly #numbers = new LowestIds(3);

  /** A number that is not in use yet and refers to nothing until `install`. */
  reserve(): number {
    return this.#numbers.take();
  }
  /** What `run` opens first gets this number. @throws SavedError where it is in use */
  opening<T>(fd: number, run: () => T): T {
    return this.#numbers.giving(fd, run);
  }
  install(fd: number, file: OpenFile): void {
    this.#files[fd] = file;
  }
  unreserve(fd: number): void {
    this.#numbers.free(fd);
  }
  get(fd: number): OpenFile | undefined {
    return this.#files[fd];
  }
  /** Open files by their numbers. */
  all(): { readonly fd: number; readonly file: OpenFile }[] {
    return this.#files.flatMap((file, fd) => (file ? [{ fd, file }] : []));
  }
  close(fd: number): number {
    const file = this.#files[fd];
    if (!file) return -errno.EBADF;
    this.#files[fd] = undefined;
    this.#numbers.free(fd);
    file.put();
    return 0;
  }
}
