import { quiet, type Trace } from '#vmm/base/events';
import { type Data, field, listOf, part, parts, recordOf, SavedError } from '#vmm/base/saved';
import { encodeCommand } from '#iommufd/arch/riscv/commands';
import { type Cause, causes, type FaultReport, faultRecord, faultRecordBytes } from '#iommufd/arch/riscv/faults';
import type { Command } from '#iommufd/arch/riscv/commands';
import type { CommandOutcome, MemoryPort } from '#iommufd/arch/riscv/ports';
import { ddtpMode } from '#iommufd/arch/riscv/registers';
import { dcTc } from '#iommufd/arch/riscv/tables';
import type { DeviceInvalidations } from './device-invalidations.ts';
import { type DirectoryRead, isProcessDirectoryEntry, lookUpDevice } from './directory.ts';
import type { AssignedDevice, Host } from './host.ts';
import type { PageRequests } from './page-requests.ts';

/** Commands gathered before one IOMMU_HWPT_INVALIDATE carries them to the host. */
const batchCommands = 256;
const commandBytes = 16;

/** What the host does with one device's DMA now. */
type Attachment =
  /** `refused`: the context that the host would not take. */
  | { readonly kind: 'blocked'; readonly cause: Cause; readonly refused?: readonly bigint[] }
  | { readonly kind: 'bypass' }
  | { readonly kind: 'nested'; readonly hwptId: number; readonly words: readonly bigint[] };

interface Assigned {
  readonly device: AssignedDevice;
  attachment: Attachment;
}

export interface BridgeOptions {
  readonly host: Host;
  readonly devices: readonly AssignedDevice[];
  /** Guest memory, for the device directory. */
  readonly memory: MemoryPort;
  /** 64-byte device contexts (capabilities.MSI_FLAT as the guest sees it). */
  readonly extended: boolean;
  readonly pageRequests: PageRequests;
  readonly invalidations: DeviceInvalidations;
  readonly trace?: Trace;
}

const byNumber = new Map<number, Cause>(Object.values(causes).map((row) => [row.cause, row]));

const saveAttachment = (attachment: Attachment): Data =>
  attachment.kind === 'blocked' ? { ...attachment, cause: attachment.cause.cause } : attachment;
const makeAttachment = (data: Data): Attachment => {
  const { cause, ...rest } = recordOf(data);
  if (cause === undefined) return rest as Attachment;
  const row = byNumber.get(Number(cause));
  if (!row) throw new SavedError(`there is no cause ${Number(cause)}`);
  return { ...(rest as { kind: 'blocked' }), cause: row };
};
/**
 * The guest has no second stage: where the host's stage 2 stopped an access, the guest's view is that physical memory
 * did not answer (§3.2, access faults).
 */
const withoutStage2 = new Map<Cause, Cause>([
  [causes.instructionGuestPageFault, causes.instructionAccessFault],
  [causes.readGuestPageFault, causes.readAccessFault],
  [causes.writeGuestPageFault, causes.writeAccessFault],
]);

/** Turns the guest's device directory and commands into iommufd calls, and the host's fault events into the guest's. */
export class Bridge {
  readonly pageRequests: PageRequests;
  readonly invalidations: DeviceInvalidations;
  /** Told which entries of the guest's directory a device's context was read from; undefined where it has none. */
  onContext: ((deviceId: number, entries: readonly DirectoryRead[] | undefined) => void) | undefined;
  readonly #host: Host;
  readonly #memory: MemoryPort;
  readonly #extended: boolean;
  readonly #trace: Trace;
  /** By the guest's device_id. */
  readonly #devices = new Map<number, Assigned>();
  readonly #batch = new Uint8Array(batchCommands * commandBytes);
  readonly #batchView = new DataView(this.#batch.buffer);
  #batched = 0;
  #mode: number = ddtpMode.Off;
  #rootPpn = 0n;
  readonly saved = parts({
    pageRequests: part(() => this.pageRequests),
    invalidations: part(() => this.invalidations),
    attachments: {
      save: () => [...this.#devices].map(([deviceId, { attachment }]) => [deviceId, saveAttachment(attachment)]),
      restore: (data: Data) => this.#restoreAttachments(listOf(data)),
    },
    batch: field(
      () => this.#batch.subarray(0, this.#batched * commandBytes),
      (bytes) => {
        this.#batch.set(bytes);
        this.#batched = bytes.length / commandBytes;
      },
    ),
    mode: field(
      () => this.#mode,
      (value) => (this.#mode = value),
    ),
    rootPpn: field(
      () => this.#rootPpn,
      (value) => (this.#rootPpn = value),
    ),
  });

  #restoreAttachments(items: readonly Data[]): void {
    for (const item of items) {
      const [deviceId, data] = listOf(item);
      const assigned = this.#devices.get(Number(deviceId));
      if (!assigned) throw new SavedError(`there is no device ${Number(deviceId)}`);
      assigned.attachment = makeAttachment(data);
      // The guest named them in this order, in which they are looked at when its directory changes.
      this.#devices.delete(Number(deviceId));
      this.#devices.set(Number(deviceId), assigned);
    }
  }

  constructor({ host, devices, memory, extended, pageRequests, invalidations, trace = quiet }: BridgeOptions) {
    this.pageRequests = pageRequests;
    this.invalidations = invalidations;
    this.#host = host;
    this.#memory = memory;
    this.#extended = extended;
    this.#trace = trace;
    for (const device of devices) this.#blocked(device);
  }

  #blocked(device: AssignedDevice): Assigned {
    const assigned: Assigned = { device, attachment: { kind: 'blocked', cause: causes.allInboundDisallowed } };
    this.#devices.set(device.deviceId, assigned);
    return assigned;
  }

  /** A device that came while the guest runs: what its directory says of it holds at once. */
  addDevice(device: AssignedDevice): void {
    this.pageRequests.add(device);
    this.#reload(this.#blocked(device));
  }

  /** The device goes: its DMA is refused, what it asked is answered by the kernel, and its page table destroyed. */
  removeDevice(deviceId: number): void {
    const assigned = this.#devices.get(deviceId);
    if (!assigned) return;
    this.flushInvalidations();
    const { device, attachment } = assigned;
    this.#devices.delete(deviceId);
    if (attachment.kind !== 'blocked') this.#host.detach(device);
    this.pageRequests.remove(device);
    if (attachment.kind === 'nested') this.#host.destroy(attachment.hwptId);
    this.onContext?.(deviceId, undefined);
  }

  /** ddtp was written: every context is found anew, since none of the old directory may serve a DMA any longer. */
  directoryChanged(mode: number, rootPpn: bigint): void {
    this.flushInvalidations();
    this.#mode = mode;
    this.#rootPpn = rootPpn;
    this.reloadContexts(undefined);
  }

  /** Reads one device's context again (undefined: every device's) and attaches the device accordingly. */
  reloadContexts(deviceId: number | undefined): void {
    this.flushInvalidations();
    if (deviceId === undefined) for (const assigned of this.#devices.values()) this.#reload(assigned);
    else {
      const assigned = this.#devices.get(deviceId);
      if (assigned) this.#reload(assigned);
    }
  }

  /**
   * A device without a valid context is about to be used. A driver need not tell anyone that it made an invalid context
   * valid (§2.8: invalid entries are not cached), so the directory is read again.
   */
  beforeUse(deviceId: number): void {
    const assigned = this.#devices.get(deviceId);
    if (assigned?.attachment.kind === 'blocked' && this.#mode > ddtpMode.Bare) this.#reload(assigned, false);
  }

  /** `isAsked`: the guest said that something changed; else a context that was refused is not tried again as it is. */
  #reload(assigned: Assigned, isAsked = true): void {
    const { device, attachment: old } = assigned;
    const reads: DirectoryRead[] | undefined = this.onContext ? [] : undefined;
    const found = lookUpDevice(this.#memory, this.#mode, this.#rootPpn, device.deviceId, this.#extended, reads);
    this.onContext?.(device.deviceId, found.kind === 'context' ? reads : undefined);
    if (!isAsked && old.kind === 'blocked') {
      if (found.kind === 'none' && found.cause === old.cause) return;
      if (found.kind === 'context' && old.refused?.every((word, i) => word === found.words[i])) return;
    }
    let next: Attachment;
    if (found.kind === 'none') next = { kind: 'blocked', cause: found.cause };
    else if (found.kind === 'bypass') next = found;
    else if (old.kind === 'nested' && old.words.every((word, i) => word === found.words[i])) {
      this.#forgetProcesses(device, old.words);
      return;
    } else next = this.#allocate(device, found.words);

    if (next.kind === 'blocked') {
      if (old.kind !== 'blocked') this.#host.detach(device);
    } else if (next.kind === 'bypass') {
      if (old.kind !== 'bypass') this.#host.attachParent(device);
    } else if (!this.#host.attach(device, next.hwptId)) {
      this.#host.destroy(next.hwptId);
      if (old.kind !== 'blocked') this.#host.detach(device);
      next = { kind: 'blocked', cause: causes.ddtMisconfigured, refused: next.words };
    }
    // With the old table the kernel answered what was outstanding under it, and its cookies are free again.
    if (old.kind === 'nested') {
      this.pageRequests.forget(device.deviceId);
      this.#host.destroy(old.hwptId);
    }
    assigned.attachment = next;
    if (this.#trace.on)
      this.#trace.emit('viommu.context', {
        rid: device.deviceId,
        state: next.kind,
        detail: next.kind === 'blocked' ? next.cause.name : next.kind === 'nested' ? `hwpt ${next.hwptId}` : '',
      });
  }

  /** The context is the same, but the command stands for the process directory, too (§3.1.3). */
  #forgetProcesses(device: AssignedDevice, words: readonly bigint[]): void {
    if (!dcTc.get(words[0]!, 'PDTV')) return;
    this.#append(encodeCommand('IODIR.INVAL_DDT', { DV: 1n, DID: BigInt(device.deviceId) }));
    this.flushInvalidations();
  }

  #allocate(device: AssignedDevice, words: readonly bigint[]): Attachment {
    // iohgatp must be Bare: capabilities offer no second stage (§2.1.4).
    const hasPageRequests = dcTc.get(words[0]!, 'EN_PRI') === 1n;
    const hwptId = words[1] === 0n ? this.#host.allocNested(device, words, hasPageRequests) : undefined;
    if (hwptId === undefined) return { kind: 'blocked', cause: causes.ddtMisconfigured, refused: words };
    return { kind: 'nested', hwptId, words };
  }

  /** The command waits for the next fence, or for a full batch. */
  queueInvalidation(command: Command): void {
    const { DID, DV } = command.operands;
    if (command.name === 'IODIR.INVAL_PDT' && !(DV && this.#devices.has(Number(DID)))) return;
    const present = Object.fromEntries(Object.entries(command.operands).filter(([, value]) => value !== 0n));
    this.#append(encodeCommand(command.name, present));
  }

  #append([low, high]: readonly [bigint, bigint]): void {
    this.#batchView.setBigUint64(this.#batched * commandBytes, low, true);
    this.#batchView.setBigUint64(this.#batched * commandBytes + 8, high, true);
    if (++this.#batched === batchCommands) this.flushInvalidations();
  }

  /**
   * An ATS.INVAL: what was queued before it goes first, since a device would otherwise fetch stale translations again.
   * With no device of that name nobody answers (§3.1.4).
   */
  invalidateDevice(command: Command, itag: number): CommandOutcome {
    this.flushInvalidations();
    const { RID, DSV, DSEG } = command.operands;
    const deviceId = Number(RID) | (DSV ? Number(DSEG) << 16 : 0);
    return this.#devices.has(deviceId) ? this.invalidations.send(command, itag) : 'timeout';
  }

  /** Everything queued has taken effect on return. */
  flushInvalidations(): void {
    if (this.#batched === 0) return;
    const count = this.#batched;
    this.#batched = 0;
    this.#host.invalidate(this.#batch.subarray(0, count * commandBytes), count);
  }

  /**
   * One record of the host's fault queue (the DID is already the guest's), as the guest's hardware would report it;
   * undefined where it would not.
   */
  guestFault(record: Uint8Array): FaultReport | undefined {
    if (record.length < faultRecordBytes) return undefined;
    const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
    const fields = faultRecord.decode(view.getBigUint64(0, true));
    const deviceId = Number(fields.DID);
    const assigned = this.#devices.get(deviceId);
    const hostCause = byNumber.get(Number(fields.CAUSE));
    if (!assigned || !hostCause) return undefined;
    // While we keep the device blocked the host only knows that it has no context; the guest is told its own reason.
    const isBlocked = assigned.attachment.kind === 'blocked' && hostCause === causes.ddtInvalid;
    const processId = Number(fields.PID);
    const iotval2 = view.getBigUint64(24, true);
    let seen = withoutStage2.get(hostCause);
    // Bit 0: it was the IOMMU's own access, to an entry of the process directory or of a page table (§3.2, iotval2).
    if (seen && iotval2 & 1n && assigned.attachment.kind === 'nested') {
      const where = { words: assigned.attachment.words, processIdValid: fields.PV === 1n, processId };
      if (isProcessDirectoryEntry(this.#memory, where, iotval2 & ~3n)) seen = causes.pdtAccessFault;
    }
    return {
      cause: isBlocked && assigned.attachment.kind === 'blocked' ? assigned.attachment.cause : (seen ?? hostCause),
      ttyp: Number(fields.TTYP),
      deviceId,
      processIdValid: fields.PV === 1n,
      processId,
      supervisor: fields.PRIV === 1n,
      iotval: view.getBigUint64(16, true),
      iotval2: seen || isBlocked ? 0n : iotval2,
    };
  }

  /** Per device: guest device_id, what it is attached to, and why not. */
  attachments(): {
    readonly deviceId: number;
    readonly state: string;
    readonly hwptId?: number;
    readonly cause?: string;
  }[] {
    return [...this.#devices.values()].map(({ device, attachment: a }) => ({
      deviceId: device.deviceId,
      state: a.kind,
      ...(a.kind === 'nested' ? { hwptId: a.hwptId } : {}),
      ...(a.kind === 'blocked' ? { cause: a.cause.name } : {}),
    }));
  }
}
