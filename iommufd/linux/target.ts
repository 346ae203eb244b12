import type { SharedMemory } from '../client/host.ts';
import type { BufferRequest, ReplayTarget } from '../conformance/target.ts';
import { LinuxHost, mapAnonymous, mapFlags, openFlags, pageBytes } from './host.ts';
import type { Libc } from './libc.ts';

const hugeBytes = 2 << 20;
const rlimitMemlock = 8;
const capabilityVersion = 0x2008_0522;
const capIpcLock = 1 << 14;
const capSysResource = 1 << 24;
const maxFds = 1024;
// fcntl: F_GETFD, F_GETFL, F_SETFL.
const getFlags = 1;
const getStatus = 3;
const setStatus = 4;
const unsigned = (address: number): bigint => BigInt.asUintN(64, BigInt(address));
/** What a recorded case begins with (it runs as root). */
const recordedLimits = { memlock: 8 << 20, ipcLock: true, sysResource: true } as const;

// Words of the scratch page: iovecs of process_vm_*; a capability header and two sets; a resource limit.
const iovecAt = 0;
const headerAt = 64;
const capabilitiesAt = 80;
const limitAt = 128;

/**
 * The running Linux as a target of recordings. It needs a kernel with CONFIG_IOMMUFD_TEST for most of them, and root's
 * rights. What a case opened and mapped goes with `release`.
 */
export class LinuxTarget implements ReplayTarget {
  readonly #libc: Libc;
  readonly #host: LinuxHost;
  readonly #page: SharedMemory;
  readonly #words: DataView;
  /** Descriptors that are not the case's. */
  readonly #before: ReadonlySet<number>;
  readonly #mappings: { readonly address: number; readonly bytes: number }[] = [];

  constructor(libc: Libc) {
    this.#libc = libc;
    this.#host = new LinuxHost(libc);
    this.#page = this.#host.scratch(pageBytes);
    this.#words = new DataView(this.#page.bytes.buffer);
    this.#before = new Set(this.#openFds());
    this.setLimits(recordedLimits);
  }

  /** Lets go of everything, and of the limits. */
  release(): void {
    for (const fd of this.#openFds()) if (!this.#before.has(fd)) this.#libc.call('close', fd);
    for (const { address, bytes } of this.#mappings) this.#libc.call('munmap', address, bytes);
    this.setLimits(recordedLimits);
  }
  #openFds(): number[] {
    return Array.from({ length: maxFds }, (_, fd) => fd).filter((fd) => this.#libc.call('fcntl', fd, getFlags, 0) >= 0);
  }

  open(path: string): number {
    return this.#host.open(path);
  }
  openOther(path: string): number {
    if (path === '/dev/zero') return this.#host.open(path);
    // Any regular file does.
    if (path !== 'pipe') return this.#libc.call('open', '/proc/self/exe', openFlags.closeOnExec, 0);
    const rc = this.#libc.call('pipe', this.#page.address);
    return rc < 0 ? rc : this.#words.getInt32(0, true);
  }
  close(fd: number): number {
    return this.#host.close(fd);
  }
  ioctl(fd: number, request: number, argument: number): number {
    return this.#host.ioctl(fd, request, argument);
  }
  read(fd: number, address: number, count: number): number {
    // Recorded from descriptors that do not block.
    const flags = this.#libc.call('fcntl', fd, getStatus, 0);
    if (flags >= 0) this.#libc.call('fcntl', fd, setStatus, flags | openFlags.nonBlock);
    return this.#libc.call('read', fd, unsigned(address), count);
  }
  write(fd: number, address: number, count: number): number {
    return this.#host.write(fd, address, count);
  }
  poll(fd: number): number {
    return this.#host.poll(fd);
  }
  mmap(fd: number, length: number, prot: number, flags: number, offset: number): number {
    return this.#mapped(this.#libc.call('mmap', 0, length, prot, flags, fd, offset), length);
  }
  memfd(flags: number): number {
    return this.#libc.call('memfd_create', 'iommulab', flags);
  }
  ftruncate(fd: number, bytes: number): number {
    return this.#libc.call('ftruncate', fd, bytes);
  }

  #mapped(address: number, bytes: number): number {
    if (address >= 0) this.#mappings.push({ address, bytes });
    return address;
  }
  map({ kind, bytes, prot, residue, fd, offset = 0 }: BufferRequest): number {
    const huge = kind === 'hugetlb' || kind === 'memfd-hugetlb';
    const whole = Math.ceil(bytes / (huge ? hugeBytes : pageBytes)) * (huge ? hugeBytes : pageBytes);
    // Room to choose the residue in; the mapping then takes its place.
    const room = whole + 2 * hugeBytes;
    const base = this.#mapped(mapAnonymous(this.#libc, room), room);
    if (base < 0) return base;
    const start = Math.ceil((base - residue) / hugeBytes) * hugeBytes + residue;
    this.#libc.call('munmap', base, room);
    const { fixed, shared, anonymous, populate, hugetlb } = mapFlags;
    if (fd !== undefined) return this.#libc.call('mmap', start, whole, prot, shared | fixed, fd, offset);
    if (kind === 'file-private') {
      const file = this.openOther('file');
      return this.#libc.call('mmap', start, whole, prot, mapFlags.private | fixed, file, 0);
    }
    const flags = mapFlags.private | anonymous | fixed | (huge ? hugetlb | populate : 0);
    return this.#libc.call('mmap', start, whole, prot, flags, -1, 0);
  }
  munmap(address: number, bytes: number): void {
    this.#libc.call('munmap', address, bytes);
  }
  protect(address: number, bytes: number, prot: number): void {
    this.#libc.call('mprotect', address, bytes, prot);
  }
  scratch(bytes: number): SharedMemory {
    const memory = this.#host.scratch(bytes);
    this.#mapped(memory.address, memory.bytes.length);
    return memory;
  }

  /** Through the kernel, so that memory that is not there is an error and not a signal. */
  #copy(name: 'process_vm_readv' | 'process_vm_writev', local: SharedMemory, address: number): void {
    const words = this.#words;
    for (const [at, base] of [local.address, address].entries()) {
      words.setBigUint64(iovecAt + 16 * at, BigInt(base), true);
      words.setBigUint64(iovecAt + 16 * at + 8, BigInt(local.bytes.length), true);
    }
    const at = this.#page.address + iovecAt;
    this.#libc.call(name, this.#libc.call('getpid'), at, 1, at + 16, 1, 0);
  }
  #bounce(bytes: number): SharedMemory {
    if (!this.#buffer || this.#buffer.bytes.length < bytes) this.#buffer = this.scratch(bytes);
    return { address: this.#buffer.address, bytes: this.#buffer.bytes.subarray(0, bytes) };
  }
  #buffer: SharedMemory | undefined;
  load(address: number, target: Uint8Array): void {
    const local = this.#bounce(target.length);
    local.bytes.fill(0);
    this.#copy('process_vm_readv', local, address);
    target.set(local.bytes);
  }
  store(address: number, source: Uint8Array): void {
    const local = this.#bounce(source.length);
    local.bytes.set(source);
    this.#copy('process_vm_writev', local, address);
  }

  /** Without the right to change them they stay as they are, and the cases that need them differ. */
  setLimits(limits: { readonly memlock: number; readonly ipcLock: boolean; readonly sysResource: boolean }): void {
    const words = this.#words;
    const { address } = this.#page;
    words.setUint32(headerAt, capabilityVersion, true);
    words.setInt32(headerAt + 4, 0, true);
    // First all that is permitted: raising a limit takes CAP_SYS_RESOURCE.
    if (this.#libc.call('capget', address + headerAt, address + capabilitiesAt) < 0) return;
    const permitted = words.getUint32(capabilitiesAt + 4, true);
    words.setUint32(capabilitiesAt, permitted, true);
    this.#libc.call('capset', address + headerAt, address + capabilitiesAt);
    for (const at of [0, 8]) words.setBigUint64(limitAt + at, BigInt(limits.memlock), true);
    this.#libc.call('setrlimit', rlimitMemlock, address + limitAt);
    const without = (limits.ipcLock ? 0 : capIpcLock) | (limits.sysResource ? 0 : capSysResource);
    words.setUint32(capabilitiesAt, permitted & ~without, true);
    this.#libc.call('capset', address + headerAt, address + capabilitiesAt);
  }
}
