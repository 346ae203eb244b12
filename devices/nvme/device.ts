import type { Clock, Scheduled } from '#vmm/base/clock';
import { type Trace, quiet } from '#vmm/base/events';
import { invariant } from '#vmm/base/invariant';
import type {
  AccessBytes,
  BarSpec,
  DmaPort,
  IrqLine,
  MmioDevice,
  PciFunction,
  StorageBackend,
  TranslationEnables,
} from '#vmm/base/ports';
import { part, partList, parts, timer } from '#vmm/base/saved';
import { Controller, type NvmeTiming, defaultTiming } from './controller.ts';
import { asyncEvent } from './health.ts';
import { logPages } from './log-pages.ts';
import { Namespace, type NamespaceOptions } from './namespaces.ts';
import { bars, msix, pciIdentity } from './pci.ts';
import { CompletionQueue, SubmissionQueue, completionEntryBytes, submissionEntryBytes } from './queues.ts';
import { RegisterFile, type RegisterName, doorbellBase, maxPageSizeExponent, registers } from './registers.ts';
import { Dma } from './transfer.ts';

export interface NvmeOptions {
  /** Shown in traces. */
  readonly name: string;
  readonly clock: Clock;
  readonly trace?: Trace;
  /** Namespace 1, with `blockBytes`; or give `namespaces`. */
  readonly backend?: StorageBackend;
  /** Logical block size of `backend`; default 512. */
  readonly blockBytes?: 512 | 4096;
  /** Namespaces 1, 2, …; each with a backend of its own. */
  readonly namespaces?: readonly NamespaceOptions[];
  /** At most 20 ASCII characters. */
  readonly serial: string;
  /** At most 40 ASCII characters. */
  readonly model?: string;
  /** I/O queue pairs, 1 … 64; default 8. */
  readonly ioQueues?: number;
  /** Largest transfer as a power of two of 4 KiB pages, 1 … 9; default 7: 512 KiB. */
  readonly mdts?: number;
  readonly timing?: Partial<NvmeTiming>;
  /** Offers a PASID capability of so many bits, and I/O queues that carry one; default 0: none. */
  readonly pasidBits?: number;
}

/** Counters since power-on. */
export interface NvmeStats {
  readonly commands: number;
  readonly ioCommands: number;
  readonly reads: number;
  readonly writes: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly errors: number;
}

const asNumber = (value: bigint): number => Number(value);
const { CC, CSTS, AQA } = registers;

/** An NVMe 1.4 controller: registers and life cycle; the commands are `Controller`'s and the queues `Engine`'s. */
export class NvmeDevice implements PciFunction, MmioDevice {
  readonly name: string;
  readonly vendorId = pciIdentity.vendorId;
  readonly deviceId = pciIdentity.deviceId;
  readonly classCode = pciIdentity.classCode;
  readonly revision = pciIdentity.revision;
  readonly subsystemVendorId = pciIdentity.subsystemVendorId;
  readonly subsystemId = pciIdentity.subsystemId;
  readonly flr = pciIdentity.flr;
  readonly bars: readonly BarSpec[];
  readonly msix: NonNullable<PciFunction['msix']>;
  readonly pasid?: NonNullable<PciFunction['pasid']>;
  readonly #clock: Clock;
  readonly #trace: Trace;
  readonly #controller: Controller;
  readonly #registers = new RegisterFile();
  readonly #namespaces: readonly Namespace[];
  #readyEvent: Scheduled | undefined;
  #shutdownEvent: Scheduled | undefined;
  readonly saved = parts({
    registers: part(() => this.#registers),
    controller: part(() => this.#controller),
    namespaces: partList(() => this.#namespaces),
    readyEvent: timer(
      () => this.#readyEvent,
      (event) => (this.#readyEvent = event),
      () => this.#clock.schedule(0, this.#ready),
    ),
    shutdownEvent: timer(
      () => this.#shutdownEvent,
      (event) => (this.#shutdownEvent = event),
      () => this.#clock.schedule(0, this.#shutDownDone),
    ),
  });

  constructor(options: NvmeOptions) {
    const ioQueues = options.ioQueues ?? 8;
    const mdts = options.mdts ?? 7;
    const pasidBits = options.pasidBits ?? 0;
    if (pasidBits > 0) this.pasid = { bits: pasidBits };
    invariant(ioQueues >= 1 && ioQueues <= 64, `${ioQueues} I/O queues`);
    invariant(mdts >= 1 && mdts <= 9, `mdts ${mdts}`);
    const first: NamespaceOptions[] = options.backend
      ? [{ backend: options.backend, blockBytes: options.blockBytes ?? 512 }]
      : [];
    this.#namespaces = [...first, ...(options.namespaces ?? [])].map((ns, i) => new Namespace(i + 1, ns));
    this.name = options.name;
    this.bars = bars(this);
    this.msix = msix(ioQueues);
    this.#clock = options.clock;
    this.#trace = options.trace ?? quiet;
    this.#controller = new Controller(
      {
        name: options.name,
        serial: options.serial,
        model: options.model ?? 'iommulab NVMe',
        firmware: '1.0',
        ioQueues,
        mdts,
        timing: { ...defaultTiming, ...options.timing },
        namespaces: this.#namespaces,
        areUserQueuesOffered: pasidBits > 0,
        onFatal: () => this.#setStatus('CFS', 1n),
      },
      options.clock,
      this.#trace,
    );
  }

  get stats(): NvmeStats {
    const { commands, ioCommands, reads, writes, bytesRead, bytesWritten, errors } = this.#controller.health;
    return { commands, ioCommands, reads, writes, bytesRead, bytesWritten, errors };
  }

  connect(port: DmaPort, vectors: readonly IrqLine[]): void {
    this.#controller.engine.dma = new Dma(port);
    this.#controller.engine.vectors = vectors;
  }

  busMaster(enabled: boolean): void {
    this.#controller.engine.busMaster(enabled);
    if (enabled) this.#controller.reportLater();
  }

  translation(enables: TranslationEnables): void {
    const { dma } = this.#controller.engine;
    if (dma) dma.isPasidEnabled = enables.pasid;
  }

  /** Power-on, bus or function-level reset: every register, the admin queue registers too. */
  reset(): void {
    this.#stop('function reset');
    this.#controller.changedNamespaces.clear();
    this.#registers.reset();
  }

  read(offset: number, bytes: AccessBytes): number | bigint {
    if (bytes === 8) {
      const lo = offset % 8 === 0 ? (this.#readDword(offset) ?? 0) : 0;
      const hi = offset % 8 === 0 ? (this.#readDword(offset + 4) ?? 0) : 0;
      return (BigInt(hi) << 32n) | BigInt(lo);
    }
    if (offset % bytes !== 0) {
      this.#controller.warn(`misaligned ${bytes}-byte read of the registers`);
      return 0;
    }
    const dword = this.#readDword(offset & ~3) ?? 0;
    if (bytes === 4) return dword;
    return (dword >>> ((offset & 3) * 8)) & (bytes === 1 ? 0xff : 0xffff);
  }

  #readDword(offset: number): number | undefined {
    // Doorbells are write-only and read as 0 (§3.1.24).
    return offset < doorbellBase ? this.#registers.readDword(offset) : 0;
  }

  write(offset: number, bytes: AccessBytes, value: number | bigint): void {
    if (bytes === 4 && (offset & 3) === 0) {
      if (offset >= doorbellBase) this.#doorbell((offset - doorbellBase) >> 2, Number(value) >>> 0);
      else this.#writeRegister(offset, Number(value) >>> 0);
    } else if (bytes === 8 && offset % 8 === 0 && offset < doorbellBase) {
      const wide = BigInt(value);
      this.#writeRegister(offset, Number(wide & 0xffff_ffffn));
      this.#writeRegister(offset + 4, Number((wide >> 32n) & 0xffff_ffffn));
    } else this.#controller.warn(`${bytes}-byte write where the registers take aligned dwords`);
  }

  #writeRegister(offset: number, value: number): void {
    const old = this.#registers.values.CC;
    const name = this.#registers.writeDword(offset, value);
    if (!name) {
      this.#controller.warn('write beyond the last register');
      return;
    }
    if (this.#trace.on) this.#trace.emit('nvme.register', { device: this.name, register: name, value });
    this.#afterWrite[name]?.(old);
  }

  readonly #afterWrite: Partial<Record<RegisterName, (oldConfiguration: bigint) => void>> = {
    CC: (old) => {
      const now = this.#registers.values.CC;
      const wasEnabled = CC.layout.get(old, 'EN') === 1n;
      const isEnabled = CC.layout.get(now, 'EN') === 1n;
      if (!wasEnabled && isEnabled) this.#enable();
      else if (wasEnabled && !isEnabled) {
        this.#stop('CC.EN');
        this.#registers.values.CSTS &= CSTS.layout.mask('NSSRO');
      }
      const notification = CC.layout.get(now, 'SHN');
      if ((notification === 1n || notification === 2n) && notification !== CC.layout.get(old, 'SHN')) this.#shutDown();
    },
  };

  #setStatus(field: 'RDY' | 'CFS' | 'SHST', value: bigint): void {
    this.#registers.values.CSTS = CSTS.layout.set(this.#registers.values.CSTS, field, value);
  }

  /** Enabling (§7.6.1): what the registers say now counts; a value that cannot work is a fatal status. */
  #enable(): void {
    const { timing } = this.#controller.setup;
    this.#readyEvent = this.#clock.schedule(timing.ready, this.#ready);
  }

  readonly #ready = (): void => {
    this.#readyEvent = undefined;
    this.#start();
  };

  #start(): void {
    const { values } = this.#registers;
    const exponent = asNumber(CC.layout.get(values.CC, 'MPS'));
    const asqs = asNumber(AQA.layout.get(values.AQA, 'ASQS'));
    const acqs = asNumber(AQA.layout.get(values.AQA, 'ACQS'));
    const isArbitrationKnown = CC.layout.get(values.CC, 'AMS') === 0n;
    const isCommandSetKnown = CC.layout.get(values.CC, 'CSS') === 0n;
    const mask = (1n << BigInt(12 + exponent)) - 1n;
    const areBasesAligned = ((values.ASQ | values.ACQ) & mask) === 0n;
    const areInRange =
      values.ASQ + BigInt((asqs + 1) * submissionEntryBytes) <= 1n << 64n &&
      values.ACQ + BigInt((acqs + 1) * completionEntryBytes) <= 1n << 64n;
    if (
      exponent > maxPageSizeExponent ||
      asqs === 0 ||
      acqs === 0 ||
      !isArbitrationKnown ||
      !isCommandSetKnown ||
      !areBasesAligned ||
      !areInRange
    ) {
      this.#controller.warn('enabled with a configuration that cannot work');
      this.#setStatus('CFS', 1n);
      return;
    }
    const controller = this.#controller;
    controller.pageShift = 12 + exponent;
    controller.areEntrySizesSet =
      CC.layout.get(values.CC, 'IOSQES') === 6n && CC.layout.get(values.CC, 'IOCQES') === 4n;
    const base = (id: number, size: number, address: bigint) =>
      ({ id, size, hi: asNumber(address >> 32n), lo: asNumber(address & 0xffff_ffffn) }) as const;
    const completions = new CompletionQueue(base(0, acqs + 1, values.ACQ), 0);
    completions.users = 1;
    controller.engine.completions[0] = completions;
    controller.engine.submissions[0] = new SubmissionQueue(base(0, asqs + 1, values.ASQ), completions);
    controller.engine.start();
    this.#setStatus('RDY', 1n);
    if (this.#trace.on)
      this.#trace.emit('nvme.ready', {
        device: this.name,
        page_bytes: 2 ** controller.pageShift,
        asq: values.ASQ,
        acq: values.ACQ,
      });
  }

  /** Controller reset (§7.3.1): queues and commands are gone at once; AQA, ASQ and ACQ stay. */
  #stop(cause: string): void {
    this.#readyEvent?.cancel();
    this.#shutdownEvent?.cancel();
    const wasEnabled = cause === 'CC.EN' || CC.layout.get(this.#registers.values.CC, 'EN') === 1n;
    if (this.#trace.on && wasEnabled)
      this.#trace.emit('nvme.reset', { device: this.name, cause, in_flight: this.#controller.engine.inFlight });
    this.#controller.reset();
  }

  /** Shutdown notification (§7.6.2), with the controller enabled or not. */
  #shutDown(): void {
    this.#shutdownEvent?.cancel();
    this.#setStatus('SHST', 1n);
    this.#shutdownEvent = this.#clock.schedule(this.#controller.setup.timing.ready, this.#shutDownDone);
  }

  readonly #shutDownDone = (): void => {
    this.#controller.flushAll();
    this.#setStatus('SHST', 2n);
    if (this.#trace.on) this.#trace.emit('nvme.shutdown', { device: this.name });
  };

  /** Doorbell `index`: submission tails at even, completion heads at odd places. Bad ones become error events (§5.2). */
  #doorbell(index: number, value: number): void {
    const { engine } = this.#controller;
    const id = index >> 1;
    if ((index & 1) === 0) {
      const queue = engine.submissions[id];
      if (!queue) return this.#badDoorbell(0);
      if (value >= queue.size) return this.#badDoorbell(1);
      const { size, head, tail } = queue;
      const added = value >= tail ? value - tail : value - tail + size;
      const pending = tail >= head ? tail - head : tail - head + size;
      if (pending + added >= size) return this.#badDoorbell(1);
      engine.submit(queue, value);
    } else {
      const queue = engine.completions[id];
      if (!queue) return this.#badDoorbell(0);
      if (value >= queue.size) return this.#badDoorbell(1);
      const { size, head, tail } = queue;
      const consumed = value >= head ? value - head : value - head + size;
      const posted = tail >= head ? tail - head : tail - head + size;
      if (consumed > posted) return this.#badDoorbell(1);
      engine.consume(queue, value);
    }
  }

  /** 0: write to the doorbell of no queue; 1: a value out of range (§5.2, figure 146). */
  #badDoorbell(info: 0 | 1): void {
    this.#controller.warn(info === 0 ? 'doorbell of a queue that does not exist' : 'doorbell value out of range');
    if (this.#controller.engine.submissions[0])
      this.#controller.notify(asyncEvent.error, info, logPages.ERROR_INFORMATION.lid);
  }
}

/** An NVMe controller to put on a PCI bus. */
export const nvme = (options: NvmeOptions): NvmeDevice => new NvmeDevice(options);
