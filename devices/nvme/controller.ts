import type { Clock, Scheduled } from '#vmm/base/clock';
import type { EventKind, Trace } from '#vmm/base/events';
import { StorageError, type StorageErrorKind, noPasid } from '#vmm/base/ports';
import { field, part, parts, plainList, plainMap, plainSet, timer } from '#vmm/base/saved';
import { type CommandRow, commandFor, effectsLog } from './commands.ts';
import { Engine, held } from './engine.ts';
import { FeatureValues } from './features.ts';
import { asyncEventLimit } from './identify.ts';
import { type ErrorEntry, Health, asyncEvent } from './health.ts';
import { logPages } from './log-pages.ts';
import type { Namespace } from './namespaces.ts';
import { parsePrp } from './prp.ts';
import { parseSgl } from './sgl.ts';
import { type Command, CommandList, type CompletionQueue, type SubmissionQueue } from './queues.ts';
import { moreInLog, status, statusName } from './status.ts';
import { type Dma, ScatterList } from './transfer.ts';

/** Virtual latencies in ns from fetch to completion, and the width of the data path that all commands share. */
export interface NvmeTiming {
  readonly fetch: number;
  readonly admin: number;
  readonly read: number;
  readonly write: number;
  readonly flush: number;
  /** From CC.EN to CSTS.RDY, and from CC.SHN to CSTS.SHST. */
  readonly ready: number;
  /** Bytes per ns (GB/s). */
  readonly bandwidth: number;
  /** Completions happen at multiples of it. */
  readonly grid: number;
}
export const defaultTiming: NvmeTiming = {
  fetch: 1000,
  admin: 2000,
  read: 6000,
  write: 6000,
  flush: 20_000,
  ready: 10_000,
  bandwidth: 56,
  grid: 1000,
};

export interface ControllerSetup {
  readonly name: string;
  readonly serial: string;
  readonly model: string;
  readonly firmware: string;
  /** I/O queue pairs offered. */
  readonly ioQueues: number;
  /** Largest data transfer: 2^mdts pages of 4 KiB. */
  readonly mdts: number;
  readonly timing: NvmeTiming;
  readonly namespaces: readonly Namespace[];
  /** I/O queues can be given a PASID. */
  readonly areUserQueuesOffered: boolean;
  /** CSTS.CFS. */
  readonly onFatal: () => void;
}

/** Asynchronous event information of type error (§5.2, figure 146). */
const transientInternalError = 4;
/** Different warnings told; a guest cannot flood the trace. */
const maxWarnings = 64;

// prettier-ignore
const storageStatus: Readonly<Record<StorageErrorKind, { read: number; write: number }>> = {
  'read-only': { read: status.INTERNAL_ERROR,         write: status.NAMESPACE_WRITE_PROTECTED },
  'no-space':  { read: status.INTERNAL_ERROR,         write: status.CAPACITY_EXCEEDED },
  io:          { read: status.UNRECOVERED_READ_ERROR, write: status.WRITE_FAULT },
  range:       { read: status.UNRECOVERED_READ_ERROR, write: status.WRITE_FAULT },
};

/** What commands work on: namespaces, features, logs, data transfer. The pipeline is the engine's. */
const commandEvent: EventKind = {
  name: 'nvme.command',
  fields: ({ subject, detail, value, a, b, c, d, e }) => ({
    device: subject,
    sqid: value,
    cid: a,
    name: detail,
    nsid: b,
    cdw10: c,
    cdw12: d,
    status: statusName(e),
  }),
};

export class Controller {
  readonly setup: ControllerSetup;
  readonly clock: Clock;
  readonly trace: Trace;
  readonly engine: Engine;
  readonly features: FeatureValues;
  readonly health: Health;
  /** Largest data transfer in bytes. */
  readonly maxTransfer: number;
  readonly list = new ScatterList();
  /** Room for the small structures that commands carry. */
  readonly scratch = new Uint8Array(4096);
  /** Whose format changed since the Changed Namespace List was read. */
  readonly changedNamespaces = new Set<number>();
  /** CC.MPS as log2 bytes. */
  pageShift = 12;
  /** CC.IOSQES and CC.IOCQES allow I/O queues. */
  areEntrySizesSet = false;
  readonly requests = new CommandList();
  readonly #events: { type: number; info: number; logPage: number }[] = [];
  /** Event types reported and not yet cleared, and the log page whose reading clears them. */
  readonly #masked = new Map<number, number>();
  #reportEvent: Scheduled | undefined;
  readonly #warned = new Set<string>();
  readonly saved = parts({
    engine: part(() => this.engine),
    features: part(() => this.features),
    health: part(() => this.health),
    changedNamespaces: plainSet(() => this.changedNamespaces),
    pageShift: field(
      () => this.pageShift,
      (value) => (this.pageShift = value),
    ),
    areEntrySizesSet: field(
      () => this.areEntrySizesSet,
      (value) => (this.areEntrySizesSet = value),
    ),
    events: plainList(() => this.#events),
    masked: plainMap(() => this.#masked),
    reportEvent: timer(
      () => this.#reportEvent,
      (event) => (this.#reportEvent = event),
      () => this.clock.schedule(0, this.#reportDue),
    ),
    warned: plainSet(() => this.#warned),
  });

  constructor(setup: ControllerSetup, clock: Clock, trace: Trace) {
    this.setup = setup;
    this.clock = clock;
    this.trace = trace;
    this.maxTransfer = 4096 * 2 ** setup.mdts;
    this.engine = new Engine(clock, this, setup.timing);
    this.features = new FeatureValues(setup.ioQueues);
    this.health = new Health(clock);
  }

  get dma(): Dma {
    return this.engine.dma!;
  }

  /** Controller-level reset (§7.3.2): what is in flight is gone, features return to their defaults. */
  reset(): void {
    for (let command = this.requests.shift(); command; command = this.requests.shift()) this.engine.release(command);
    this.engine.reset();
    this.features.reset();
    this.#events.length = 0;
    this.#masked.clear();
    this.#reportEvent?.cancel();
    this.#reportEvent = undefined;
  }

  namespace(nsid: number): Namespace | undefined {
    return this.setup.namespaces[nsid - 1];
  }

  admit(command: Command): number {
    const { timing } = this.setup;
    const row = commandFor(command);
    if (!row) return timing.admin;
    row.atFetch?.(this, command);
    if (row.data) {
      const blockBytes = this.namespace(command.nsid)?.blockBytes ?? 512;
      command.bytes = Math.min(((command.dw[12]! & 0xffff) + 1) * blockBytes, this.maxTransfer);
    }
    return timing[row.latency];
  }

  execute(command: Command): number {
    const row = commandFor(command);
    const outcome = row ? this.#run(row, command) : status.INVALID_OPCODE;
    if (outcome === status.SUCCESS || outcome < 0) {
      if (outcome >= 0 && this.trace.on) this.#show(command, row, outcome);
      return outcome;
    }
    if (this.trace.on) this.#show(command, row, outcome);
    const entry: ErrorEntry = {
      sqid: command.queue.id,
      cid: command.cid,
      status: outcome,
      nsid: command.nsid,
      lba: row?.data ? (command.dw[11]! >>> 0) * 2 ** 32 + (command.dw[10]! >>> 0) : 0,
    };
    this.health.logError(entry);
    return outcome | moreInLog;
  }

  #run(row: CommandRow, command: Command): number {
    // Fused operations are not offered (Identify Controller, FUSES = 0).
    if (command.dw[0]! & 0x300) return status.INVALID_FIELD;
    try {
      return row.run(this, command);
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      this.warn(`${row.name}: ${error.message}`);
      const isWrite = row.latency !== 'read';
      if (error.kind === 'io' || error.kind === 'range') this.health.mediaErrors++;
      return storageStatus[error.kind][isWrite ? 'write' : 'read'];
    }
  }

  #show(command: Command, row: CommandRow | undefined, outcome: number): void {
    const name = row?.name ?? `opcode 0x${command.opcode.toString(16)}`;
    const { dw } = command;
    this.trace.tell(
      commandEvent, this.setup.name, name, command.queue.id, command.cid, command.nsid, dw[10]! >>> 0, dw[12]! >>> 0,
      outcome,
    ); // prettier-ignore
  }

  completed(command: Command): void {
    this.health.commands++;
    if (command.queue.id !== 0) this.health.ioCommands++;
  }

  /** A queue of one process (with a PASID) must not take the controller down with it; any other is a fatal status (§9.5). */
  lost(queue: SubmissionQueue | CompletionQueue, what: string): boolean {
    if (this.trace.on) this.trace.emit('nvme.fatal', { device: this.setup.name, what, qid: queue.id });
    if (queue.pasid !== noPasid) {
      queue.isStopped = true;
      this.notify(asyncEvent.error, transientInternalError, logPages.ERROR_INFORMATION.lid);
      return true;
    }
    this.engine.halt();
    this.setup.onFatal();
    return false;
  }

  /** Shutdown: what cannot be flushed is told, since nobody waits for a status. */
  flushAll(): void {
    for (const ns of this.setup.namespaces) {
      try {
        ns.backend.flush();
      } catch (error) {
        if (!(error instanceof StorageError)) throw error;
        this.warn(`Flush at shutdown: ${error.message}`);
      }
    }
  }

  effectsLog(): Uint8Array {
    return effectsLog();
  }

  /** One warning a kind. */
  warn(what: string): void {
    if (!this.trace.on || this.#warned.has(what) || this.#warned.size >= maxWarnings) return;
    this.#warned.add(what);
    this.trace.emit('nvme.warning', { device: this.setup.name, what });
  }

  /** Fills `list` with where `length` bytes of the command's data lie, which go to the host or come from it. A status field. */
  locate(command: Command, length: number, toHost: boolean): number {
    this.list.clear(command.queue.pasid);
    const selection = command.dw[0]! & 0xc000;
    if (selection === 0) return parsePrp(this.dma, this.list, command.dw, length, this.pageShift);
    // PSDT 3 is reserved, and admin commands use PRPs over PCI Express (§4.2, figure 105).
    if (selection === 0xc000 || command.queue.id === 0) return status.INVALID_FIELD;
    return parseSgl(this.dma, this.list, command.dw, length, toHost);
  }

  /** Controller → host, for admin data. */
  send(command: Command, data: Uint8Array): number {
    if (data.length === 0) return status.SUCCESS;
    const located = this.locate(command, data.length, true);
    return located === status.SUCCESS ? this.dma.scatter(this.list, data) : located;
  }

  /** Host → controller: the first `length` bytes (at most 4096) of `scratch`. */
  receive(command: Command, length: number): number {
    const located = this.locate(command, length, false);
    return located === status.SUCCESS ? this.dma.gather(this.list, this.scratch) : located;
  }

  /** Asynchronous Event Request (§5.2). */
  holdRequest(command: Command): number {
    if (this.requests.count > asyncEventLimit) return status.AER_LIMIT_EXCEEDED;
    this.requests.push(command);
    this.#report();
    return held;
  }

  /** Notes an event; it is reported when a request is outstanding and its type is not masked by an unread report. */
  notify(type: number, info: number, logPage: number): void {
    if (this.#events.some((event) => event.type === type && event.info === info)) return;
    this.#events.push({ type, info, logPage });
    if (this.trace.on) this.trace.emit('nvme.async-event', { device: this.setup.name, type, info, log_page: logPage });
    this.reportLater();
  }

  /** Reports what can be reported, outside of whatever register access or bus event caused it. */
  reportLater(): void {
    if (this.#events.length === 0) return;
    this.#reportEvent ??= this.clock.schedule(0, this.#reportDue);
  }

  readonly #reportDue = (): void => {
    this.#reportEvent = undefined;
    if (!this.engine.canMove()) return;
    this.#report();
    this.engine.signal();
  };

  /** Get Log Page without Retain Asynchronous Event clears the event (§5.14). */
  clearEvents(logPage: number): void {
    for (const [type, page] of this.#masked) if (page === logPage) this.#masked.delete(type);
    this.#report();
  }

  #report(): void {
    for (let i = 0; i < this.#events.length && this.requests.count > 0;) {
      const { type, info, logPage } = this.#events[i]!;
      if (this.#masked.has(type)) {
        i++;
        continue;
      }
      this.#events.splice(i, 1);
      this.#masked.set(type, logPage);
      const command = this.requests.shift()!;
      command.result = type | (info << 8) | (logPage << 16);
      this.engine.finish(command, status.SUCCESS);
    }
  }

  /** Abort of an outstanding Asynchronous Event Request or of a command in the pipeline. */
  abort(sqid: number, cid: number): boolean {
    const request = this.requests.find(sqid, cid);
    if (!request) return this.engine.abort(sqid, cid);
    this.requests.remove(request);
    this.engine.finish(request, status.ABORT_REQUESTED);
    return true;
  }
}
