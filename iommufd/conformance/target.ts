import type { SharedMemory } from '../client/host.ts';

/** A user mapping that a recording needs. */
export interface BufferRequest {
  readonly kind: string;
  readonly bytes: number;
  readonly prot: number;
  /** Address modulo 2 MiB. */
  readonly residue: number;
  /** memfd kinds: the file and the offset in it. */
  readonly fd?: number;
  readonly offset?: number;
}

/**
 * The process and kernel that a recording is played to. Results are ≥ 0 or a negative errno; addresses are the
 * process's.
 */
export interface ReplayTarget {
  open(path: string): number;
  /** A descriptor of something that is no iommufd file: `/dev/zero`, `pipe`, a regular file. */
  openOther(path: string): number;
  close(fd: number): number;
  ioctl(fd: number, request: number, argument: number): number;
  read(fd: number, address: number, count: number): number;
  write(fd: number, address: number, count: number): number;
  poll(fd: number): number;
  mmap(fd: number, length: number, prot: number, flags: number, offset: number): number;
  memfd(flags: number): number;
  ftruncate(fd: number, bytes: number): number;
  /** The address of a new mapping. */
  map(request: BufferRequest): number;
  munmap(address: number, bytes: number): void;
  protect(address: number, bytes: number, prot: number): void;
  /** Readable and writable memory after whose last page nothing is mapped. */
  scratch(bytes: number): SharedMemory;
  /** CPU loads and stores of the program. */
  load(address: number, target: Uint8Array): void;
  store(address: number, source: Uint8Array): void;
  setLimits(limits: { readonly memlock: number; readonly ipcLock: boolean; readonly sysResource: boolean }): void;
}
