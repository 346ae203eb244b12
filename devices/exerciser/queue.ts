/** One ring of descriptors and its ring of completions. */
import { noPasid } from '#vmm/base/ports';
import { array, type Data, field, list, listOf, part, parts, properties } from '#vmm/base/saved';
import type { PageListener } from '../ats/page-requests.ts';
import { Access } from './access.ts';
import { completionBytes, descriptorBytes, flag, mode } from './descriptors.ts';
import type { Link } from './link.ts';
import { localBytes } from './local-memory.ts';
import { QCONTROL, queueCount, queueError } from './registers.ts';
import { type Owner, Transaction } from './transaction.ts';

/** Most transactions of a queue under way. */
export const mostParallel = 64;
const pageBytes = 4096;
const localPerQueue = localBytes / queueCount;
const mostEntriesShift = 12;

/** What software wrote before it enabled the queue. */
// A type, not an interface: a snapshot holds it as it is.
type QueueSettings = {
  readonly control: number;
  readonly attributes: number;
  readonly baseHi: number;
  readonly baseLo: number;
  readonly completionHi: number;
  readonly completionLo: number;
};

const nothing: QueueSettings = { control: 0, attributes: 0, baseHi: 0, baseLo: 0, completionHi: 0, completionLo: 0 };

export class Queue {
  readonly index: number;
  isRunning = false;
  error: number = queueError.none;
  /** Status of the ring access that failed. */
  accessStatus = 0;
  head = 0;
  tail = 0;
  completionHead = 0;
  completionTail = 0;
  /** The record of the latest completion. */
  readonly last = new Uint8Array(completionBytes);
  /** When it can go on. */
  readyAt = Infinity;
  readonly #link: Link;
  readonly #interrupt: (queue: number) => void;
  #settings = nothing;
  #entries = 0;
  #completionEntries = 0;
  #parallel = 1;
  #phase = 1;
  #owner: Owner | undefined;
  /** In the order of the ring. */
  readonly #inFlight: Transaction[] = [];
  readonly #free: Transaction[] = [];
  /** Finished, their completions not written. */
  readonly #finished: Transaction[] = [];
  #completing: Transaction | undefined;
  readonly #record = new Uint8Array(completionBytes);
  readonly #completionAccess: Access;
  readonly #fetchAccess: Access;
  readonly #fetched = new Uint8Array(pageBytes);
  #fetching = 0;
  readonly saved = parts({
    state: properties(() => this, ['isRunning', 'error', 'accessStatus', 'head', 'tail', 'completionHead', 'completionTail', 'readyAt']), // prettier-ignore
    last: array(() => this.last),
    settings: field(
      () => this.#settings,
      (value) => (this.#settings = value),
    ),
    entries: field(
      () => this.#entries,
      (value) => (this.#entries = value),
    ),
    completionEntries: field(
      () => this.#completionEntries,
      (value) => (this.#completionEntries = value),
    ),
    parallel: field(
      () => this.#parallel,
      (value) => (this.#parallel = value),
    ),
    phase: field(
      () => this.#phase,
      (value) => (this.#phase = value),
    ),
    owner: field(
      () => this.#owner,
      (value) => (this.#owner = value),
    ),
    fetching: field(
      () => this.#fetching,
      (value) => (this.#fetching = value),
    ),
    inFlight: list(
      () => this.#inFlight,
      (transaction) => transaction.saved.save(),
      (data) => {
        const transaction = new Transaction(this.#link);
        transaction.saved.restore(data);
        return transaction;
      },
    ),
    finished: {
      save: () => this.#finished.map((transaction) => this.#inFlight.indexOf(transaction)),
      restore: (data: Data) => {
        this.#finished.length = 0;
        for (const index of listOf(data)) this.#finished.push(this.#inFlight[Number(index)]!);
      },
    },
    completing: field(
      () => (this.#completing ? this.#inFlight.indexOf(this.#completing) : -1),
      (index) => (this.#completing = this.#inFlight[index]),
    ),
    record: array(() => this.#record),
    completionAccess: part(() => this.#completionAccess),
    fetchAccess: part(() => this.#fetchAccess),
    fetched: array(() => this.#fetched),
  });

  constructor(index: number, link: Link, interrupt: (queue: number) => void) {
    this.index = index;
    this.#link = link;
    this.#interrupt = interrupt;
    this.#completionAccess = new Access(link, [this.#record]);
    this.#fetchAccess = new Access(link, [this.#fetched]);
  }

  /** Who of it may wait for the response to page requests. */
  get listeners(): readonly PageListener[] {
    const transactions = this.#inFlight.flatMap(({ access, pageGroup }) => [access, pageGroup]);
    return [this.#completionAccess, this.#fetchAccess, ...transactions];
  }

  get inFlight(): number {
    return this.#inFlight.length;
  }

  get isBusy(): boolean {
    return this.#inFlight.length > 0 || this.#fetching > 0;
  }

  /** Starts with what the registers say now. */
  enable(settings: QueueSettings): void {
    this.disable();
    const { control, attributes } = settings;
    const size = (control & QCONTROL.SIZE) >>> 16;
    const completionSize = (control & QCONTROL.COMPLETION_SIZE) >>> 20;
    this.#settings = settings;
    this.#entries = 1 << size;
    this.#completionEntries = completionSize === 0 ? 0 : 1 << completionSize;
    this.#parallel = Math.min(mostParallel, Math.max(1, (control & QCONTROL.PARALLEL) >>> 8));
    this.#owner =
      (control & QCONTROL.OWNED) === 0
        ? undefined
        : { mode: this.#mode, pasid: attributes & 0xf_ffff, localFirst: this.index * localPerQueue, localBytes: localPerQueue }; // prettier-ignore
    const needPasid = mode.PRIVILEGED.value | mode.EXECUTE.value;
    const isImpossible =
      size < 1 ||
      size > mostEntriesShift ||
      completionSize > mostEntriesShift ||
      (this.#mode & 3) === 3 ||
      this.#mode > 0x3f ||
      ((this.#mode & mode.PASID.value) === 0 && (this.#mode & needPasid) !== 0) ||
      !this.#fits(QCONTROL.RING_LOCAL, settings.baseHi, settings.baseLo, this.#entries * descriptorBytes) ||
      !this.#fits(QCONTROL.COMPLETIONS_LOCAL, settings.completionHi, settings.completionLo, this.#completionEntries * completionBytes); // prettier-ignore
    if (isImpossible) return this.#fail(queueError.configuration, 0);
    this.isRunning = true;
    this.readyAt = this.#link.clock.now;
  }

  /** Abandons everything under way, and forgets an error. */
  disable(): void {
    this.#abandon();
    this.error = queueError.none;
    this.accessStatus = 0;
    this.head = this.tail = this.completionHead = this.completionTail = 0;
    this.#phase = 1;
  }

  setTail(value: number): void {
    if (!this.isRunning) return;
    if (value >= this.#entries) return this.#fail(queueError.doorbell, 0);
    this.tail = value;
    this.readyAt = this.#link.clock.now;
  }

  setCompletionHead(value: number): void {
    if (!this.isRunning) return;
    if (value >= Math.max(1, this.#completionEntries)) return this.#fail(queueError.doorbell, 0);
    this.completionHead = value;
    this.readyAt = this.#link.clock.now;
  }

  /** Everything that can go on does, one step each: transactions in the order of the ring, completions, the fetch. */
  run(): void {
    const { now } = this.#link.clock;
    if (!this.isRunning) return;
    for (let i = 0; i < this.#inFlight.length; i++) {
      const transaction = this.#inFlight[i]!;
      if (transaction.readyAt <= now && transaction.state !== 'finished' && transaction.step())
        this.#finished.push(transaction);
    }
    this.#complete(now);
    if (this.isRunning) this.#fetch(now);
    this.#plan();
  }

  /** Requests that had no effect yet are taken back. */
  retract(): void {
    for (const transaction of this.#inFlight) transaction.retract();
    if (this.#completing) this.#completionAccess.retract();
    if (this.#fetching > 0) this.#fetchAccess.retract();
    this.#plan();
  }

  /** Something may have become ready. */
  refresh(): void {
    for (const transaction of this.#inFlight) transaction.refresh();
    this.#plan();
  }

  creditsChanged(): void {
    for (const transaction of this.#inFlight) transaction.creditsChanged();
    if (this.#completing) this.#completionAccess.creditsChanged();
    if (this.#fetching > 0) this.#fetchAccess.creditsChanged();
    this.#plan();
  }

  get #mode(): number {
    return this.#settings.attributes >>> 24;
  }

  get #pasid(): number {
    return (this.#mode & mode.PASID.value) !== 0 ? this.#settings.attributes & 0xf_ffff : noPasid;
  }

  #isLocal(which: number): boolean {
    return (this.#settings.control & which) !== 0;
  }

  /** A ring in local memory must lie in it, one in memory must not wrap around. */
  #fits(which: number, hi: number, lo: number, bytes: number): boolean {
    if (this.#isLocal(which)) return hi === 0 && lo + bytes <= localBytes;
    return hi !== 0xffff_ffff || lo + bytes <= 2 ** 32;
  }

  #plan(): void {
    let at = Infinity;
    if (this.isRunning) {
      for (const { readyAt } of this.#inFlight) if (readyAt < at) at = readyAt;
      if (this.#completing) at = Math.min(at, this.#completionAccess.readyAt);
      else if (this.#nextFinished() >= 0) at = this.#link.clock.now;
      if (this.#fetching > 0) at = Math.min(at, this.#fetchAccess.readyAt);
      else if (this.#fetchable() > 0) at = this.#link.clock.now;
    }
    this.readyAt = at;
  }

  // ── Completions ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** Which of the finished is completed next: the first, or with ORDERED the oldest once it has finished; else -1. */
  #nextFinished(): number {
    if (this.#finished.length === 0) return -1;
    return this.#isLocal(QCONTROL.ORDERED) ? this.#finished.indexOf(this.#inFlight[0]!) : 0;
  }

  #complete(now: number): void {
    for (;;) {
      if (this.#completing) {
        const access = this.#completionAccess;
        if (access.readyAt > now || !access.step()) return;
        if (access.status !== 0) return this.#fail(queueError.completionWrite, access.status);
        this.#completed(this.#completing);
        continue;
      }
      const next = this.#nextFinished();
      if (next < 0) return;
      const [transaction] = this.#finished.splice(next, 1);
      transaction!.report(this.#record, this.#phase);
      const { control, completionHi, completionLo } = this.#settings;
      const offset = completionLo + this.completionTail * completionBytes;
      if (this.#completionEntries === 0) this.#completed(transaction!);
      else if ((control & QCONTROL.COMPLETIONS_LOCAL) !== 0) {
        this.#link.local.bytes.set(this.#record, offset);
        this.#completed(transaction!);
      } else {
        this.#completing = transaction;
        const hi = (completionHi + (offset > 0xffff_ffff ? 1 : 0)) >>> 0;
        this.#completionAccess.begin('write', this.#mode, this.#pasid, hi, offset >>> 0, completionBytes, this.#record);
      }
    }
  }

  #completed(transaction: Transaction): void {
    this.#completing = undefined;
    this.last.set(this.#record);
    if (this.#completionEntries > 0) {
      this.completionTail = (this.completionTail + 1) % this.#completionEntries;
      if (this.completionTail === 0) this.#phase ^= 1;
    }
    this.#inFlight.splice(this.#inFlight.indexOf(transaction), 1);
    this.#free.push(transaction);
    this.#inFlight[0]?.becameOldest();
    if ((transaction.flags & flag.INTERRUPT.value) !== 0) this.#interrupt(this.index);
  }

  // ── Descriptors ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** How many descriptors can be fetched at once: in one page, up to the ring's end, with room for their completions. */
  #fetchable(): number {
    const waiting = (this.tail - this.head) & (this.#entries - 1);
    if (waiting === 0) return 0;
    let room = this.#parallel - this.#inFlight.length;
    if (this.#completionEntries > 0) {
      const used = (this.completionTail - this.completionHead) & (this.#completionEntries - 1);
      room = Math.min(room, this.#completionEntries - 1 - used - this.#inFlight.length);
    }
    const lo = this.#settings.baseLo + this.head * descriptorBytes;
    const inPage = (pageBytes - (lo % pageBytes)) / descriptorBytes;
    return Math.max(0, Math.min(waiting, room, this.#entries - this.head, inPage));
  }

  #fetch(now: number): void {
    const access = this.#fetchAccess;
    if (this.#fetching > 0) {
      if (access.readyAt > now || !access.step()) return;
      if (access.status !== 0) return this.#fail(queueError.descriptorFetch, access.status);
      const count = this.#fetching;
      this.#fetching = 0;
      this.#start(this.#fetched, 0, count);
    }
    const count = this.#fetchable();
    if (count === 0) return;
    const { baseHi, baseLo } = this.#settings;
    const offset = baseLo + this.head * descriptorBytes;
    if (this.#isLocal(QCONTROL.RING_LOCAL)) return this.#start(this.#link.local.bytes, offset, count);
    this.#fetching = count;
    const hi = (baseHi + (offset > 0xffff_ffff ? 1 : 0)) >>> 0;
    access.begin('read', this.#mode, this.#pasid, hi, offset >>> 0, count * descriptorBytes, this.#fetched);
  }

  #start(bytes: Uint8Array, from: number, count: number): void {
    for (let i = 0; i < count; i++) {
      const transaction = this.#free.pop() ?? new Transaction(this.#link);
      transaction.load(bytes, from + i * descriptorBytes, this.head, this.#owner);
      this.#inFlight.push(transaction);
      this.head = (this.head + 1) % this.#entries;
    }
    this.#inFlight[0]?.becameOldest();
  }

  // ── The end ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #fail(error: number, accessStatus: number): void {
    this.#abandon();
    this.error = error;
    this.accessStatus = accessStatus;
    const { trace, name } = this.#link;
    if (trace.on) trace.emit('exerciser.queue-error', { device: name, queue: this.index, error, status: accessStatus });
  }

  #abandon(): void {
    this.isRunning = false;
    this.readyAt = Infinity;
    for (const transaction of this.#inFlight) {
      transaction.cancel();
      this.#free.push(transaction);
    }
    this.#inFlight.length = 0;
    this.#finished.length = 0;
    this.#completing = undefined;
    this.#fetching = 0;
    this.#completionAccess.cancel();
    this.#fetchAccess.cancel();
  }
}
