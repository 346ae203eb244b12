import { type Hpa, pageBytes } from '#vmm/base/address';
import { invariant } from '#vmm/base/invariant';
import type { HostMemory } from '#vmm/base/memory';
import type { MmioDevice } from '#vmm/base/ports';
import { field, parts } from '#vmm/base/saved';
import { type CommandName, encodeCommand } from '#iommufd/arch/riscv/commands';
import type { Operands } from '#iommufd/arch/riscv/commands';
import { faultRecordBytes, pageRequestRecordBytes } from '#iommufd/arch/riscv/faults';
import * as registers from '#iommufd/arch/riscv/registers';
import { ddi, deviceContextBytes, directoryEntry, encodeDirectoryEntry } from '#iommufd/arch/riscv/tables';

const { offsets } = registers;
const queuePages = 4;
const commandBytes = 16;
const commands = (queuePages * pageBytes) / commandBytes;
const faults = (queuePages * pageBytes) / faultRecordBytes;
const pageRequests = (queuePages * pageBytes) / pageRequestRecordBytes;
const commandTimeout = Number(registers.cqcsr.mask('cmd_to'));
const fip = Number(registers.ipsr.mask('fip'));
const pip = Number(registers.ipsr.mask('pip'));
const faultsOn = Number(registers.fqcsr.encode({ fqen: 1n, fie: 1n }));
const faultErrors = Number(registers.fqcsr.encode({ fqof: 1n, fqmf: 1n }));
const pageRequestsOn = Number(registers.pqcsr.encode({ pqen: 1n, pie: 1n }));
const pageRequestErrors = Number(registers.pqcsr.encode({ pqof: 1n, pqmf: 1n }));
/** Times that `drain` looks again before it leaves the rest for later. */
const mostTurns = 8;

/** What `drain` finds; each gets a copy of the record. */
export interface QueueReader {
  fault(record: Uint8Array): void;
  /** The two doublewords of a page-request record, in halves. */
  pageRequest(headLo: number, headHi: number, payloadLo: number, payloadHi: number): void;
  /** Page requests were lost, and answered by the silicon (§2.7). */
  pageRequestsLost(): void;
}

/**
 * The driver's grip on the silicon: register page, 3-level device directory, and the three queues, all in pages of
 * the host kernel's pool (RISC-V IOMMU v1.0.1 §6.2, initialization).
 */
export class Hardware {
  readonly features: registers.Capabilities;
  /** Raw `capabilities` and `fctl`, for IOMMU_GET_HW_INFO. */
  readonly capabilities: bigint;
  readonly fctl: number;
  readonly #registers: MmioDevice;
  readonly #memory: HostMemory;
  readonly #directory: Hpa;
  readonly #commandQueue: Hpa;
  readonly #faultQueue: Hpa;
  /** Undefined without ATS. */
  readonly #pageRequestQueue: Hpa | undefined;
  #commandTail = 0;
  #faultHead = 0;
  #pageRequestHead = 0;
  /** ATS.INVAL commands that devices have not completed: a fence would keep the silicon from fetching anything else. */
  deviceInvalidations = 0;
  readonly saved = parts({
    commandTail: field(
      () => this.#commandTail,
      (value) => (this.#commandTail = value),
    ),
    faultHead: field(
      () => this.#faultHead,
      (value) => (this.#faultHead = value),
    ),
    pageRequestHead: field(
      () => this.#pageRequestHead,
      (value) => (this.#pageRequestHead = value),
    ),
    deviceInvalidations: field(
      () => this.deviceInvalidations,
      (value) => (this.deviceInvalidations = value),
    ),
  });

  constructor(page: MmioDevice, memory: HostMemory) {
    this.#registers = page;
    this.#memory = memory;
    this.capabilities = BigInt(page.read(offsets.capabilities, 8));
    this.features = registers.decodeCapabilities(this.capabilities);
    // Interrupts by wire: the host's own interrupt controller is not modelled further than that.
    this.#write(offsets.fctl, 4, registers.fctl.encode({ WSI: 1n }));
    this.fctl = Number(page.read(offsets.fctl, 4));
    this.#directory = this.#page(1);
    this.#commandQueue = this.#page(queuePages);
    this.#faultQueue = this.#page(queuePages);

    const base = (queue: Hpa, entries: number): bigint =>
      registers.cqb.encode({ 'LOG2SZ-1': BigInt(Math.log2(entries) - 1), PPN: BigInt(queue / pageBytes) });
    this.#write(offsets.cqb, 8, base(this.#commandQueue, commands));
    this.#write(offsets.cqcsr, 4, registers.cqcsr.encode({ cqen: 1n, cie: 1n }));
    this.#write(offsets.fqb, 8, base(this.#faultQueue, faults));
    page.write(offsets.fqcsr, 4, faultsOn);
    this.#pageRequestQueue = this.features.ATS ? this.#page(queuePages) : undefined;
    if (this.#pageRequestQueue !== undefined) {
      this.#write(offsets.pqb, 8, base(this.#pageRequestQueue, pageRequests));
      page.write(offsets.pqcsr, 4, pageRequestsOn);
    }
    const root = BigInt(this.#directory / pageBytes);
    this.#write(offsets.ddtp, 8, registers.ddtp.encode({ iommu_mode: BigInt(registers.ddtpMode['3LVL']), PPN: root }));
    this.command('IODIR.INVAL_DDT');
    this.command('IOTINVAL.VMA');
    this.command('IOTINVAL.GVMA');
    this.fence();
  }

  #page(count: number): Hpa {
    const first = this.#memory.allocatePages(count);
    invariant(first !== undefined, 'the host page pool is too small for the IOMMU driver');
    return first;
  }

  #write(offset: number, bytes: 4 | 8, value: bigint): void {
    this.#registers.write(offset, bytes, bytes === 8 ? value : Number(value));
  }

  /** Puts one command into the queue and lets the silicon run; it has been executed on return. */
  command(name: CommandName, operands: Partial<Operands> = {}): void {
    const [low, high] = encodeCommand(name, operands);
    this.raw(low, high);
  }

  /** As `command`, for two ready doublewords that this silicon accepts. */
  raw(low: bigint, high: bigint): void {
    const at = this.#commandQueue + this.#commandTail * commandBytes;
    this.#memory.view.setBigUint64(at, low, true);
    this.#memory.view.setBigUint64(at + 8, high, true);
    this.#commandTail = (this.#commandTail + 1) % commands;
    this.#registers.write(offsets.cqt, 4, this.#commandTail);
    if (Number(this.#registers.read(offsets.cqcsr, 4)) & commandTimeout) {
      // A device did not complete an invalidation: whoever asked for it is told, the queue goes on (§3.1.4).
      this.#write(offsets.cqcsr, 4, registers.cqcsr.encode({ cqen: 1n, cie: 1n, cmd_to: 1n }));
      this.#write(offsets.ipsr, 4, registers.ipsr.encode({ cip: 1n }));
    }
    if (Number(this.#registers.read(offsets.cqh, 4)) === this.#commandTail) return;
    const status = BigInt(this.#registers.read(offsets.cqcsr, 4));
    invariant(false, `the host IOMMU stopped at a command of its driver: ${registers.cqcsr.describe(status)}`);
  }

  /**
   * Everything before it has taken effect when this returns (§3.1.2), but ATS.INVAL.
   * Deviation: while a device has an invalidation to complete there is no fence, which would wait for it; this silicon
   * has executed every other command once it was fetched.
   */
  fence(): void {
    if (this.deviceInvalidations === 0) this.command('IOFENCE.C', { PR: 1n, PW: 1n });
  }

  /** Writes a device's context and makes the silicon forget the old one; undefined = V=0. False: no table page left. */
  setDeviceContext(deviceId: number, words: readonly bigint[] | undefined): boolean {
    const slot = this.#contextSlot(deviceId, words !== undefined);
    if (slot === undefined) return words === undefined;
    const { view } = this.#memory;
    view.setBigUint64(slot, 0n, true);
    this.command('IODIR.INVAL_DDT', { DV: 1n, DID: BigInt(deviceId) });
    if (words) {
      // tc, with V, goes last: the silicon may look at any moment (§6.3).
      for (let i = words.length - 1; i >= 0; i--) view.setBigUint64(slot + 8 * i, words[i]!, true);
      this.command('IODIR.INVAL_DDT', { DV: 1n, DID: BigInt(deviceId) });
    }
    this.fence();
    return true;
  }

  #contextSlot(deviceId: number, create: boolean): number | undefined {
    const extended = this.features.MSI_FLAT === 1;
    const { view } = this.#memory;
    let table: number = this.#directory;
    for (const level of [2, 1] as const) {
      const slot = table + 8 * ddi(deviceId, level, extended);
      let entry = view.getBigUint64(slot, true);
      if (!directoryEntry.get(entry, 'V')) {
        if (!create) return undefined;
        const page = this.#memory.allocatePages();
        if (page === undefined) return undefined;
        entry = encodeDirectoryEntry(BigInt(page / pageBytes));
        view.setBigUint64(slot, entry, true);
      }
      table = Number(directoryEntry.get(entry, 'PPN')) * pageBytes;
    }
    return table + deviceContextBytes(extended) * ddi(deviceId, 0, extended);
  }

  /**
   * Takes every record out of the fault and page-request queues. False: so much came meanwhile that there is more, to be
   * taken later.
   */
  drain(reader: QueueReader): boolean {
    for (let turn = 0; turn < mostTurns; turn++) {
      const pending = Number(this.#registers.read(offsets.ipsr, 4));
      if (pending === 0) return true;
      // First, so that what comes from now on raises the wire anew. An error's bit stays until the error is cleared.
      this.#registers.write(offsets.ipsr, 4, pending);
      if (pending & fip) this.#drainFaults(reader);
      if (pending & pip) this.#drainPageRequests(reader);
    }
    return false;
  }

  #drainFaults(reader: QueueReader): void {
    const tail = Number(this.#registers.read(offsets.fqt, 4));
    while (this.#faultHead !== tail) {
      const at = this.#faultQueue + this.#faultHead * faultRecordBytes;
      this.#faultHead = (this.#faultHead + 1) % faults;
      reader.fault(this.#memory.bytes.slice(at, at + faultRecordBytes));
    }
    this.#registers.write(offsets.fqh, 4, this.#faultHead);
    // An overflow stopped recording; there is room again (§5.16).
    if (Number(this.#registers.read(offsets.fqcsr, 4)) & faultErrors)
      this.#registers.write(offsets.fqcsr, 4, faultsOn | faultErrors);
  }

  #drainPageRequests(reader: QueueReader): void {
    const queue = this.#pageRequestQueue;
    if (queue === undefined) return;
    const { view } = this.#memory;
    const tail = Number(this.#registers.read(offsets.pqt, 4));
    while (this.#pageRequestHead !== tail) {
      const at = queue + this.#pageRequestHead * pageRequestRecordBytes;
      this.#pageRequestHead = (this.#pageRequestHead + 1) % pageRequests;
      const half = (offset: number): number => view.getUint32(at + offset, true);
      reader.pageRequest(half(0), half(4), half(8), half(12));
    }
    this.#registers.write(offsets.pqh, 4, this.#pageRequestHead);
    if (!(Number(this.#registers.read(offsets.pqcsr, 4)) & pageRequestErrors)) return;
    reader.pageRequestsLost();
    this.#registers.write(offsets.pqcsr, 4, pageRequestsOn | pageRequestErrors);
  }
}
