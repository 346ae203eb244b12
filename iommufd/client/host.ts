/** Memory of the calling process that both the caller and the kernel reach. */
export interface SharedMemory {
  /** User address of the first byte. */
  readonly address: number;
  readonly bytes: Uint8Array;
}

/**
 * The system calls that a user of iommufd makes. The simulated kernel (iommufd/kernel) implements it, and so can
 * anything that reaches a real one. Results are ≥ 0, or a negative errno; no call throws. Addresses are user addresses
 * of the calling process.
 */
export interface IommufdHost {
  /** `/dev/iommu`, `/dev/vfio/vfio`, `/dev/vfio/devices/vfioN`: a file descriptor. */
  open(path: string): number;
  close(fd: number): number;
  /** `argument` is the address of the structure, or a plain value for the few VFIO requests that take one. */
  ioctl(fd: number, request: number, argument: number): number;
  /** Event fds never block: 0 when there is nothing. */
  read(fd: number, address: number, count: number): number;
  write(fd: number, address: number, count: number): number;
  /** Events pending now (1 POLLIN, 4 POLLOUT, 64 POLLRDNORM). */
  poll(fd: number): number;
  /** Shared mapping of a file descriptor; its address. */
  mmap(fd: number, length: number, prot: number, offset: number): number;
  /** Memory for arguments; made once and used again for every call. `at`: there, for a process that is taken up again. */
  scratch(bytes: number, at?: number): SharedMemory;
  /** Calls `wake` each time the fd has become readable (from within whatever made it so); the result stops it. */
  watch(fd: number, wake: () => void): () => void;
}
