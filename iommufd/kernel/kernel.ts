import { errno, errnoName } from '#vmm/base/errno';
import { type Trace, quiet } from '#vmm/base/events';
import { invariant } from '#vmm/base/invariant';
import type { HostMemory } from '#vmm/base/memory';
import { array, type Data, listOf, part, parts, plainMap, recordOf, SavedError, within } from '#vmm/base/saved';
import type { IommufdHost } from '../client/host.ts';
import { Command } from './command.ts';
import { Context } from './context.ts';
import { FileTable, type OpenFile } from './file.ts';
import { ioctls } from './ioctls.ts';
import type { HostDevice, IommuDevice, IommuDriver, PageRequest } from './iommu-ops.ts';
import { Accounting } from './iova/accounting.ts';
import { UserSource } from './iova/sources.ts';
import { Memfd } from './memory/memfd.ts';
import { PhysicalMemory } from './memory/physical.ts';
import { type MapRequest, ProcessMemory } from './memory/process-memory.ts';
import { reportPageRequest } from './objects/fault-queue.ts';
import { PhysicalDevice, PhysicalGroup } from './physical-device.ts';
import type { Selftest } from './selftest/selftest.ts';
import { VfioDevice, VfioDeviceFile } from './vfio/device-file.ts';
import { traceArguments, traceChanges } from './trace-format.ts';

export interface KernelOptions {
  /** Host memory of the machine: guest RAM and the page pool of drivers. */
  readonly memory?: HostMemory;
  readonly trace?: Trace;
}

/** What the machine tells the kernel of a device that VFIO owns. */
export interface DeviceRegistration extends HostDevice {
  /** `vfio0` makes `/dev/vfio/devices/vfio0`. */
  readonly vfioName: string;
  /** The IOMMU in front of it. */
  readonly iommu: IommuDriver;
  /** Devices with the same key cannot be kept apart by the IOMMU (one iommu_group). Default: a group of its own. */
  readonly group?: string;
  /** VFIO_DEVICE_RESET, and the reset when the device is closed. */
  reset?(): void;
}

/** Makes allocations fail, one at a time, for the tests. */
export class FaultInjection {
  /** The n-th allocation from now (1 = the next) fails; 0 = none. */
  countdown = 0;
  fails(): boolean {
    return this.countdown > 0 && --this.countdown === 0;
  }
}

/**
 * The host kernel as one process (the VMM) sees it: file descriptors, its memory, and iommufd behind /dev/iommu. The
 * calls are those of a real kernel; `registerDevice` is what firmware and bus would tell one.
 */
export class Kernel implements IommufdHost {
  readonly physical: PhysicalMemory;
  /** Address space of the process. */
  readonly memory: ProcessMemory;
  /** Where pages of its mappings come from. */
  readonly userSource: UserSource;
  readonly files = new FileTable();
  readonly accounting = new Accounting();
  readonly allocator = new FaultInjection();
  readonly trace: Trace;
  /** Calls so far, by row of the ioctl table. */
  readonly ioctlCounts = new Float64Array(Object.keys(ioctls).length);
  /** IOMMU_TEST_CMD; absent where the kernel was built without CONFIG_IOMMUFD_TEST. */
  selftest: Selftest | undefined;
  readonly #vfio = new Map<string, VfioDevice>();
  readonly #devices = new Map<IommuDevice, PhysicalDevice>();
  readonly #drivers = new Set<IommuDriver>();
  readonly #groups = new Map<string, PhysicalGroup>();
  /** Commands under way: a driver's upcall may lead to another ioctl. */
  readonly #commands: Command[] = [];
  #depth = 0;
  /** Of a process that has made its start-up calls; the files are the same ones, under the same numbers. */
  readonly saved = parts({
    memory: part(() => this.memory),
    physical: part(() => this.physical),
    ioctlCounts: array(() => this.ioctlCounts),
    vfioCounts: plainMap(() => this.vfioCounts),
    files: {
      save: () => this.files.all().map(({ fd, file }) => ({ fd, state: file.saved?.save() })),
      restore: (data: Data) => this.#restoreFiles(listOf(data)),
    },
    partial: {
      save: () => [...this.#devices.values()].map(({ partial }) => partial),
      restore: (data: Data) => {
        const devices = [...this.#devices.values()];
        for (const [i, requests] of listOf(data).entries())
          devices[i]!.partial = [...listOf(requests)] as PageRequest[];
      },
    },
  });

  #restoreFiles(items: readonly Data[]): void {
    const open = this.files.all();
    if (items.length !== open.length) throw new SavedError(`expected ${open.length} open files, found ${items.length}`);
    for (const [i, { fd, file }] of open.entries()) {
      const { fd: saved, state } = recordOf(items[i]);
      if (saved !== fd) throw new SavedError(`expected file ${fd} to be open`);
      within(`fd ${fd}`, () => file.saved?.restore(state));
    }
  }

  constructor(options: KernelOptions = {}) {
    this.physical = new PhysicalMemory(options.memory);
    this.memory = new ProcessMemory(this.physical);
    this.userSource = new UserSource(this.memory);
    this.trace = options.trace ?? quiet;
  }

  // ── Devices ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Puts a device behind its IOMMU and under VFIO. Returns 0 or the driver's errno (ENODEV: not one of its). */
  registerDevice(registration: DeviceRegistration): number {
    const physical = this.probe(registration, registration.iommu, registration.group);
    if (typeof physical === 'number') return physical;
    this.#vfio.set(
      `/dev/vfio/devices/${registration.vfioName}`,
      new VfioDevice(physical, () => registration.reset?.()),
    );
    return 0;
  }

  /**
   * The device is taken out of the host. EBUSY while a process has it bound, ENOENT where there is none of that name.
   * Deviation: Linux asks the process for the device and waits; here the VMM is the one who knows when it may go.
   */
  unregisterDevice(vfioName: string): number {
    const path = `/dev/vfio/devices/${vfioName}`;
    const vfio = this.#vfio.get(path);
    if (!vfio) return errno.ENOENT;
    if (vfio.open) return errno.EBUSY;
    this.#vfio.delete(path);
    const { physical } = vfio;
    const { devices } = physical.group;
    devices.splice(devices.indexOf(physical), 1);
    physical.driver.releaseDevice?.(physical.iommu);
    this.unprobe(physical);
    return 0;
  }

  /** Starts the driver if it is new, and lets it probe the device. */
  probe(host: HostDevice, driver: IommuDriver, group?: string): PhysicalDevice | number {
    if (!this.#drivers.has(driver)) {
      this.#drivers.add(driver);
      driver.start({
        reportFault: (device, request) => {
          const physical = this.#devices.get(device);
          invariant(physical, 'a page request of a device that was never probed');
          reportPageRequest(physical, request);
        },
        discardPartial: (device) => {
          const physical = this.#devices.get(device);
          if (physical) physical.partial = [];
        },
      });
    }
    const iommu = driver.probeDevice(host);
    if (typeof iommu === 'number') return iommu;
    let physicalGroup = group === undefined ? undefined : this.#groups.get(group);
    if (!physicalGroup) {
      physicalGroup = new PhysicalGroup();
      if (group !== undefined) this.#groups.set(group, physicalGroup);
    }
    const physical = new PhysicalDevice(host, driver, iommu, physicalGroup);
    this.#devices.set(iommu, physical);
    return physical;
  }

  /** The device is gone. */
  unprobe(device: PhysicalDevice): void {
    this.#devices.delete(device.iommu);
  }

  // ── The process's memory ────────────────────────────────────────────────────────────────────────────────────────

  /** mmap of anonymous memory, guest RAM or device registers; the address. */
  map(request: MapRequest): number {
    return this.memory.map(request);
  }
  /** memfd_create; with `range` the file is a slice of host memory (guest RAM), ready to MAP_FILE. */
  memfd(flags = 0, range?: { readonly hpa: number; readonly bytes: number }): number {
    return this.install(new Memfd(this.physical, flags, range));
  }
  install(file: OpenFile): number {
    const fd = this.files.reserve();
    this.files.install(fd, file);
    return fd;
  }

  // ── System calls ────────────────────────────────────────────────────────────────────────────────────────────────

  open(path: string): number {
    if (path === '/dev/iommu') return this.install(new Context(this, 'user'));
    if (path === '/dev/vfio/vfio') return this.install(new Context(this, 'process'));
    const vfio = this.#vfio.get(path);
    return vfio ? this.install(new VfioDeviceFile(this, vfio)) : -errno.ENOENT;
  }
  close(fd: number): number {
    return this.files.close(fd);
  }
  ioctl(fd: number, request: number, argument: number): number {
    const result = this.files.get(fd)?.ioctl(request, argument) ?? -errno.EBADF;
    return result === 0 ? 0 : result; // never -0
  }
  read(fd: number, address: number, count: number): number {
    const result = (this.files.get(fd)?.read(address, count) ?? -errno.EBADF) || 0;
    if (this.trace.on && result !== 0)
      this.trace.emit('iommufd.read', { fd, count, result: result < 0 ? errnoName(-result) : String(result) });
    return result;
  }
  write(fd: number, address: number, count: number): number {
    const result = (this.files.get(fd)?.write(address, count) ?? -errno.EBADF) || 0;
    if (this.trace.on)
      this.trace.emit('iommufd.write', { fd, count, result: result < 0 ? errnoName(-result) : String(result) });
    return result;
  }
  poll(fd: number): number {
    return this.files.get(fd)?.poll() ?? 32; // POLLNVAL
  }
  mmap(fd: number, length: number, prot: number, offset: number, shared = true): number {
    return this.files.get(fd)?.mmap(length, prot, shared, offset) ?? -errno.EBADF;
  }
  scratch(bytes: number, at?: number): { address: number; bytes: Uint8Array } {
    return this.memory.scratch(bytes, at);
  }
  watch(fd: number, wake: () => void): () => void {
    return this.files.get(fd)?.watch(wake) ?? (() => {});
  }

  // ── For a process that is taken up again ────────────────────────────────────────────────────────────────────────

  /** What `run` opens gets the descriptor `fd`. @throws SavedError where that is in use */
  openingAs<T>(fd: number, run: () => T): T {
    return this.files.opening(fd, run);
  }
  /** The object that `run` makes in the iommufd `fd` gets this id. @throws SavedError where that is in use */
  makingAs<T>(fd: number, id: number, run: () => T): T {
    const context = this.files.get(fd);
    invariant(context instanceof Context, `fd ${fd} is no iommufd`);
    return context.objects.ids.giving(id, run);
  }

  // ── For the ioctl dispatcher ────────────────────────────────────────────────────────────────────────────────────

  beginCommand(): Command {
    let command = this.#commands[this.#depth];
    if (!command) this.#commands.push((command = new Command(this.memory)));
    this.#depth++;
    return command;
  }
  endCommand(): void {
    this.#depth--;
  }

  /** Names of the ioctls called so far, with how often. */
  ioctlsByName(): Record<string, number> {
    const names = Object.keys(ioctls);
    const out: Record<string, number> = {};
    for (const [slot, count] of this.ioctlCounts.entries()) if (count > 0) out[names[slot]!] = count;
    for (const [name, count] of this.vfioCounts) out[name] = count;
    return out;
  }
  readonly vfioCounts = new Map<string, number>();

  /** Counts a VFIO request, and emits it when somebody listens. */
  countVfio(name: string, argument: string, result: number): void {
    this.vfioCounts.set(name, (this.vfioCounts.get(name) ?? 0) + 1);
    if (this.trace.on)
      this.trace.emit('iommufd.ioctl', {
        name,
        in: argument,
        out: '',
        result: result < 0 ? errnoName(-result) : String(result),
      });
  }

  traceIoctl(
    name: string,
    members: readonly { name: string; offset: number; bytes: number; kind: string }[],
    input: Uint8Array,
    output: Uint8Array,
    rc: number,
  ): void {
    const after = output.slice(0, input.length);
    this.trace.tellLater('iommufd.ioctl', () => ({
      name,
      in: traceArguments(members, input),
      out: rc === 0 ? traceChanges(members, input, after) : '',
      result: rc === 0 ? '0' : errnoName(rc),
    }));
  }
}
