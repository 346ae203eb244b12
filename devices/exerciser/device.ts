/** A PCI Express function that performs exactly the transactions it is told; README.md is its data sheet. */
import type { Clock } from '#vmm/base/clock';
import { type Trace, quiet } from '#vmm/base/events';
import { wide } from '#vmm/base/address';
import type {
  BarSpec,
  DmaPort,
  FunctionStatus,
  InvalidateRequest,
  IrqLine,
  PageResponseMessage,
  PciFunction,
  TransactionPort,
  TranslationEndpoint,
  TranslationEnables,
} from '#vmm/base/ports';
import { field, part, parts } from '#vmm/base/saved';
import { Engine } from './engine.ts';
import { type Counts, Link } from './link.ts';
import { bars, identity, msix } from './pci.ts';
import { mostParallel } from './queue.ts';
import { type HookTable, RegisterFile } from './register-file.ts';
import { ATC_CONTROL, CONTROL, QCONTROL, STATUS, at, queueCount, queueWords } from './registers.ts';

export interface ExerciserOptions {
  /** Names the device in traces. */
  readonly name: string;
  readonly clock: Clock;
  readonly trace?: Trace;
  /** Capacity of the translation cache: a power of two, at least 4. Default 256. */
  readonly cacheEntries?: number;
  /** Page requests that it can have outstanding. Default 512. */
  readonly pageRequests?: number;
  /** Width of its PASIDs, 1 … 20. Default 20. */
  readonly pasidBits?: number;
}

const invalidateQueueDepth = 32;
const leastNs = 10;
const mostNs = 2 ** 30;

/** An exerciser to put on a PCI bus. */
export const exerciser = (options: ExerciserOptions): Exerciser => new Exerciser(options);

export class Exerciser implements PciFunction, TranslationEndpoint {
  readonly name: string;
  readonly vendorId = identity.vendorId;
  readonly deviceId = identity.deviceId;
  readonly classCode = identity.classCode;
  readonly revision = identity.revision;
  readonly subsystemVendorId = identity.subsystemVendorId;
  readonly subsystemId = identity.subsystemId;
  readonly bars: readonly BarSpec[];
  readonly msix = msix;
  readonly flr = true;
  readonly ats = { invalidateQueueDepth, globalInvalidate: true } as const;
  readonly pri: { readonly capacity: number };
  readonly pasid: NonNullable<PciFunction['pasid']>;
  readonly #link: Link;
  readonly #engine: Engine;
  readonly #registers: RegisterFile;
  readonly #words: Uint32Array;
  #vectors: readonly IrqLine[] = [];
  #heldTime = 0;
  readonly saved = parts({
    registers: part(() => this.#registers),
    link: part(() => this.#link),
    engine: part(() => this.#engine),
    heldTime: field(
      () => this.#heldTime,
      (value) => (this.#heldTime = value),
    ),
  });

  constructor(options: ExerciserOptions) {
    const { name, clock, trace = quiet, cacheEntries = 256, pageRequests = 512, pasidBits = 20 } = options;
    this.name = name;
    this.pri = { capacity: pageRequests };
    this.pasid = { bits: pasidBits, execute: true, privileged: true };
    // Every transaction, and every queue's two ring accesses, can hold one translation.
    const cacheSlots = queueCount * (mostParallel + 2);
    this.#link = new Link({ name, clock, trace, cacheEntries, cacheSlots, pageCapacity: pageRequests });
    this.#engine = new Engine(this.#link, (queue) => this.#interrupt(queue));
    this.#registers = new RegisterFile(name, trace);
    this.#words = this.#registers.words;
    this.bars = bars(this.#registers, this.#link.local);
    this.#registers.attach(this.#hooks);
    this.#latch();
  }

  /** Counters since reset, as the COUNT registers show them. */
  get counts(): Readonly<Counts> {
    return this.#link.counts;
  }

  connect(port: DmaPort, vectors: readonly IrqLine[], status?: FunctionStatus): void {
    const link = this.#link;
    link.port = port;
    if (canTranslate(port)) {
      link.transactions = port;
      link.pages.port = port;
      port.endpoint = this;
    }
    link.pages.status = status;
    this.#engine.status = status;
    this.#vectors = vectors;
  }

  /** Power-on, function-level and bus reset. Enables and bus mastering are told by the bus. */
  reset(): void {
    this.#reset('function reset');
    this.#link.local.reset();
  }

  busMaster(enabled: boolean): void {
    this.#link.isMaster = enabled;
    if (enabled) this.#engine.refresh();
    else this.#engine.retract();
  }

  translation(enables: TranslationEnables): void {
    const link = this.#link;
    const was = link.enables;
    link.enables = enables;
    // §10.3.7: without ATS Enable nothing stays cached; and what PASIDs meant is not what they will mean.
    if (was.ats !== enables.ats || was.pasid !== enables.pasid) link.cache.flush();
    this.#engine.retract();
    link.pages.configure(enables.pri, enables.pageRequestAllocation);
    this.#engine.refresh();
  }

  invalidate(request: InvalidateRequest): void {
    const { trace, name, counts, cache } = this.#link;
    counts.invalidations++;
    const { itag, pasid, hi, lo } = request;
    if (trace.on) trace.emit('exerciser.invalidate', { device: name, itag, pasid, payload: wide(hi, lo) });
    cache.invalidate(request);
  }

  pageResponse(response: PageResponseMessage): void {
    const { trace, name, counts, pages } = this.#link;
    counts.pageResponses++;
    const { pasid, group, code } = response;
    if (trace.on) trace.emit('exerciser.page-response', { device: name, pasid, group, code });
    pages.respond(response);
  }

  #reset(by: string): void {
    const link = this.#link;
    this.#engine.stop();
    link.cache.flush();
    link.pages.reset();
    link.pages.configure(link.enables.pri, link.enables.pageRequestAllocation);
    link.resetCounts();
    this.#registers.reset();
    this.#heldTime = 0;
    for (const queue of this.#engine.queues) queue.last.fill(0);
    this.#latch();
    if (link.trace.on) link.trace.emit('exerciser.reset', { device: this.name, by });
  }

  /** What registers hold that the parts need at hand. */
  #latch(): void {
    const link = this.#link;
    const words = this.#words;
    const isUnchecked = (words[at.CONTROL]! & CONTROL.UNCHECKED) !== 0;
    // What is on its way is looked at again.
    if (link.isUnchecked && !isUnchecked) this.#engine.retract();
    link.isUnchecked = isUnchecked;
    link.chunkBytes = words[at.CHUNK_BYTES]!;
    link.requestNs = words[at.REQUEST_NS]!;
    link.translationNs = words[at.TRANSLATION_NS]!;
    link.hold((words[at.CONTROL]! & CONTROL.HOLD_INVALIDATIONS) !== 0);
  }

  #interrupt(queue: number): void {
    this.#vectors[this.#words[at.QVECTOR + queue * queueWords]!]?.raise();
  }

  readonly #hooks: HookTable = {
    CONTROL: { afterWrite: (_, value) => ((value & CONTROL.RESET) === 0 ? this.#latch() : this.reset()) },
    STATUS: { read: () => this.#status() },
    SHAPE: { read: () => queueCount | (mostParallel << 8) },
    LOCAL_BYTES: { read: () => this.#link.local.bytes.length },
    CHUNK_BYTES: {
      afterWrite: (_, value) => this.#legalise(at.CHUNK_BYTES, 2 ** Math.floor(Math.log2(clamp(value, 64, 4096)))),
    },
    REQUEST_NS: { afterWrite: (_, value) => this.#legalise(at.REQUEST_NS, clamp(value, leastNs, mostNs)) },
    TRANSLATION_NS: { afterWrite: (_, value) => this.#legalise(at.TRANSLATION_NS, clamp(value, leastNs, mostNs)) },
    ATC_ENTRIES: { read: () => this.#link.cache.entries },
    ATC_VALID: { read: () => this.#link.cache.valid },
    ATC_CONTROL: {
      afterWrite: (_, value) => {
        if ((value & ATC_CONTROL.FLUSH) !== 0) this.#link.cache.flush();
      },
    },
    PAGE_CREDITS: { read: () => this.#link.pages.credits },
    PAGE_OUTSTANDING: { read: () => this.#link.pages.outstanding },
    TIME_LO: {
      read: () => {
        this.#heldTime = Math.floor(this.#link.clock.now);
        return this.#heldTime % 2 ** 32;
      },
    },
    TIME_HI: { read: () => Math.floor(this.#heldTime / 2 ** 32) },
    COUNT_TRANSACTIONS: { read: () => this.counts.transactions },
    COUNT_ERRORS: { read: () => this.counts.errors },
    COUNT_REQUESTS: { read: () => this.counts.requests },
    COUNT_TRANSLATIONS: { read: () => this.counts.translations },
    COUNT_ATC_HITS: { read: () => this.counts.hits },
    COUNT_STALE: { read: () => this.counts.stale },
    COUNT_INVALIDATIONS: { read: () => this.counts.invalidations },
    COUNT_PAGE_REQUESTS: { read: () => this.counts.pageRequests },
    COUNT_PAGE_RESPONSES: { read: () => this.counts.pageResponses },
    QCONTROL: { afterWrite: (queue, value, old) => this.#controlQueue(queue, value, old) },
    QSTATUS: { read: (queue) => this.#queueStatus(queue) },
    QLAST_COMPLETION: { read: (queue, word) => this.#lastCompletion(queue, word) },
    TAIL: {
      read: (queue) => this.#engine.queues[queue]!.tail,
      afterWrite: (queue, value) => {
        this.#engine.queues[queue]!.setTail(value);
        this.#engine.plan();
      },
    },
    COMPLETION_HEAD: {
      read: (queue) => this.#engine.queues[queue]!.completionHead,
      afterWrite: (queue, value) => {
        this.#engine.queues[queue]!.setCompletionHead(value);
        this.#engine.plan();
      },
    },
    HEAD: { read: (queue) => this.#engine.queues[queue]!.head },
    COMPLETION_TAIL: { read: (queue) => this.#engine.queues[queue]!.completionTail },
  };

  #legalise(word: number, value: number): void {
    this.#words[word] = value;
    this.#latch();
  }

  #status(): number {
    const { enables, isMaster, transactions } = this.#link;
    return (
      (this.#engine.isBusy ? STATUS.BUSY : 0) |
      (isMaster ? STATUS.BUS_MASTER : 0) |
      (enables.ats ? STATUS.ATS : 0) |
      (enables.pri ? STATUS.PRI : 0) |
      (enables.pasid ? STATUS.PASID : 0) |
      (transactions ? STATUS.TRANSACTIONS : 0)
    );
  }

  #controlQueue(index: number, value: number, old: number): void {
    const queue = this.#engine.queues[index]!;
    const isEnabled = (value & QCONTROL.ENABLE) !== 0;
    const wasEnabled = (old & QCONTROL.ENABLE) !== 0;
    const base = index * queueWords;
    const words = this.#words;
    if (wasEnabled && isEnabled) words[at.QCONTROL + base] = old;
    else if (wasEnabled) queue.disable();
    else if (isEnabled)
      queue.enable({
        control: words[at.QCONTROL + base]!,
        attributes: words[at.QATTRIBUTES + base]!,
        baseHi: words[at.QBASE_HI + base]!,
        baseLo: words[at.QBASE_LO + base]!,
        completionHi: words[at.QCOMPLETION_HI + base]!,
        completionLo: words[at.QCOMPLETION_LO + base]!,
      });
    this.#engine.plan();
  }

  #queueStatus(index: number): number {
    const { isRunning, error, inFlight, accessStatus } = this.#engine.queues[index]!;
    return (isRunning ? 1 : 0) | (error << 4) | (inFlight << 8) | (accessStatus << 16);
  }

  #lastCompletion(index: number, word: number): number {
    const { last } = this.#engine.queues[index]!;
    const from = word * 4;
    return last[from]! | (last[from + 1]! << 8) | (last[from + 2]! << 16) | (last[from + 3]! << 24);
  }
}

const canTranslate = (port: DmaPort): port is TransactionPort => 'translate' in port;
const clamp = (value: number, least: number, most: number): number => Math.min(most, Math.max(least, value));
