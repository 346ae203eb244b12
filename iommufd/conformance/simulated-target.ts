import type { SharedMemory } from '../client/host.ts';
import { OpenFile } from '../kernel/file.ts';
import { Kernel } from '../kernel/kernel.ts';
import type { Memfd } from '../kernel/memory/memfd.ts';
import { SelftestCommands } from '../kernel/selftest/commands.ts';
import type { BufferRequest, ReplayTarget } from './target.ts';

/** Any file that iommufd knows nothing of. */
class OtherFile extends OpenFile {}

/** Our kernel, built with the selftest, and an empty process of root's. */
export class SimulatedTarget implements ReplayTarget {
  readonly kernel = new Kernel();

  constructor() {
    this.kernel.selftest = new SelftestCommands(this.kernel);
  }

  open(path: string): number {
    return this.kernel.open(path);
  }
  openOther(): number {
    return this.kernel.install(new OtherFile());
  }
  close(fd: number): number {
    return this.kernel.close(fd);
  }
  ioctl(fd: number, request: number, argument: number): number {
    return this.kernel.ioctl(fd, request, argument);
  }
  read(fd: number, address: number, count: number): number {
    return this.kernel.read(fd, address, count);
  }
  write(fd: number, address: number, count: number): number {
    return this.kernel.write(fd, address, count);
  }
  poll(fd: number): number {
    return this.kernel.poll(fd);
  }
  mmap(fd: number, length: number, prot: number, flags: number, offset: number): number {
    return this.kernel.mmap(fd, length, prot, offset, (flags & 1) !== 0);
  }
  memfd(flags: number): number {
    return this.kernel.memfd(flags);
  }
  #file(fd: number): Memfd {
    return this.kernel.files.get(fd) as Memfd;
  }
  ftruncate(fd: number, bytes: number): number {
    return this.#file(fd).truncate(bytes);
  }
  map({ kind, bytes, prot, residue, fd, offset = 0 }: BufferRequest): number {
    const file = fd === undefined ? undefined : this.#file(fd);
    return this.kernel.map({
      bytes,
      prot,
      residue,
      huge: kind === 'hugetlb',
      ...(file ? { backing: file.backing, page: offset / 4096 } : {}),
    });
  }
  munmap(address: number, bytes: number): void {
    this.kernel.memory.unmap(address, bytes);
  }
  protect(address: number, bytes: number, prot: number): void {
    this.kernel.memory.protect(address, bytes, prot);
  }
  scratch(bytes: number): SharedMemory {
    return this.kernel.scratch(bytes);
  }
  load(address: number, target: Uint8Array): void {
    this.kernel.memory.read(address, target);
  }
  store(address: number, source: Uint8Array): void {
    this.kernel.memory.write(address, source);
  }
  setLimits(limits: { memlock: number; ipcLock: boolean; sysResource: boolean }): void {
    const { accounting } = this.kernel;
    accounting.memlock = limits.memlock;
    accounting.capIpcLock = limits.ipcLock;
    accounting.capSysResource = limits.sysResource;
  }
}
