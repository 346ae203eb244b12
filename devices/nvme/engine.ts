import type { Clock, Scheduled } from '#vmm/base/clock';
import type { IrqLine } from '#vmm/base/ports';
import { type Data, field, parts, timer } from '#vmm/base/saved';
import {
  Command,
  CommandList,
  type CompletionQueue,
  completionEntryBytes,
  type SubmissionQueue,
  submissionEntryBytes,
} from './queues.ts';
import { restoreQueues, saveQueues } from './saved-queues.ts';
import { status } from './status.ts';
import type { Dma } from './transfer.ts';

/** Most entries fetched with one DMA. */
const fetchBurst = 16;
/** Most commands fetched, and most completed, in one event; the rest follows in another at the same instant. */
const eventBudget = 64;
/** Commands of one submission queue in flight; what is beyond stays in the queue. */
const maxInFlight = 256;

/** What the engine asks of the controller. */
export interface Executor {
  /** Virtual time from fetch to execution; `bytes` of the command is set for what occupies the data path. */
  admit(command: Command): number;
  /** Executes; a status field, or `held` or `unfinished`. */
  execute(command: Command): number;
  /** The command is over and its completion is in the queue. */
  completed(command: Command): void;
  /** A queue's own memory could not be reached. True: it alone stops. False: the controller has stopped. */
  lost(queue: SubmissionQueue | CompletionQueue, what: string): boolean;
  /** Commands that it holds. */
  readonly requests: CommandList;
}
/** Kept by the controller, which completes it later (Asynchronous Event Request). */
export const held = -1;
/** Did one step of several; to be executed again. */
export const unfinished = -2;

/**
 * Queues, arbitration and time: a doorbell only schedules; commands are fetched round robin, executed when their
 * virtual latency is over, in the order of their fetch, and completed with phase tags and one interrupt per queue and event.
 */
export class Engine {
  readonly submissions: (SubmissionQueue | undefined)[] = [];
  readonly completions: (CompletionQueue | undefined)[] = [];
  /** Set once the function is connected. */
  dma: Dma | undefined;
  vectors: readonly IrqLine[] = [];
  readonly #clock: Clock;
  readonly #executor: Executor;
  readonly #fetchNs: number;
  readonly #bytesPerNs: number;
  readonly #gridNs: number;
  readonly #inFlight = new CommandList();
  readonly #free = new CommandList();
  readonly #entries = new Uint8Array(fetchBurst * submissionEntryBytes);
  /** The same as dwords; the machine's own order is little-endian wherever there is WebAssembly. */
  readonly #dwords = new Int32Array(this.#entries.buffer);
  #isRunning = false;
  #isMaster = false;
  #turn = 0;
  #pathFreeAt = 0;
  #lastDue = 0;
  #fetchEvent: Scheduled | undefined;
  #completeEvent: Scheduled | undefined;
  readonly saved = parts({
    queues: {
      save: () => saveQueues(this.#queueState),
      restore: (data: Data) => restoreQueues(data, this.#queueState),
    },
    isRunning: field(
      () => this.#isRunning,
      (value) => (this.#isRunning = value),
    ),
    isMaster: field(
      () => this.#isMaster,
      (value) => (this.#isMaster = value),
    ),
    isPasidEnabled: field(
      () => this.dma?.isPasidEnabled ?? false,
      (value) => this.dma && (this.dma.isPasidEnabled = value),
    ),
    turn: field(
      () => this.#turn,
      (value) => (this.#turn = value),
    ),
    pathFreeAt: field(
      () => this.#pathFreeAt,
      (value) => (this.#pathFreeAt = value),
    ),
    lastDue: field(
      () => this.#lastDue,
      (value) => (this.#lastDue = value),
    ),
    fetchEvent: timer(
      () => this.#fetchEvent,
      (event) => (this.#fetchEvent = event),
      () => this.#clock.schedule(0, this.#fetch),
    ),
    completeEvent: timer(
      () => this.#completeEvent,
      (event) => (this.#completeEvent = event),
      () => this.#clock.schedule(0, this.#complete),
    ),
  });

  constructor(clock: Clock, executor: Executor, timing: { fetch: number; bandwidth: number; grid: number }) {
    this.#clock = clock;
    this.#executor = executor;
    this.#fetchNs = timing.fetch;
    this.#bytesPerNs = timing.bandwidth;
    this.#gridNs = timing.grid;
  }

  get #queueState(): Parameters<typeof restoreQueues>[1] {
    const { submissions, completions } = this;
    return { submissions, completions, lists: [this.#inFlight, this.#executor.requests] };
  }

  /** Commands fetched and not completed, those held included. */
  get inFlight(): number {
    let count = 0;
    for (const queue of this.submissions) count += queue?.inFlight ?? 0;
    return count;
  }

  start(): void {
    this.#isRunning = true;
  }

  /** Drops every queue and every command in flight. */
  reset(): void {
    this.#isRunning = false;
    this.#fetchEvent?.cancel();
    this.#completeEvent?.cancel();
    this.#fetchEvent = undefined;
    this.#completeEvent = undefined;
    for (const queue of this.completions) if (queue) this.#drop(queue.waiting);
    this.#drop(this.#inFlight);
    this.submissions.length = 0;
    this.completions.length = 0;
    this.#turn = 0;
    this.#pathFreeAt = 0;
    this.#lastDue = 0;
  }

  /** Stops after a fatal error: queues stay as they are, nothing moves until `reset`. */
  halt(): void {
    this.#isRunning = false;
  }

  #drop(list: CommandList): void {
    for (let command = list.shift(); command; command = list.shift()) this.release(command);
  }

  /** Gives a command object back; its owner must have taken it off any list. */
  release(command: Command): void {
    command.queue.inFlight--;
    this.#free.push(command);
  }

  /** Bus Master Enable: without it nothing is fetched, executed or posted. */
  busMaster(isEnabled: boolean): void {
    this.#isMaster = isEnabled;
    if (!isEnabled) return;
    this.#scheduleFetch();
    this.#scheduleComplete();
  }

  /** True while queues may be touched: enabled, connected, allowed to do DMA, no fatal error. */
  canMove(): boolean {
    return this.#isRunning && this.#isMaster && this.dma !== undefined;
  }

  /** A submission tail doorbell with a value already checked. */
  submit(queue: SubmissionQueue, tail: number): void {
    queue.tail = tail;
    this.#scheduleFetch();
  }

  /** A completion head doorbell with a value already checked. */
  consume(queue: CompletionQueue, head: number): void {
    queue.head = head;
    if (queue.waiting.count > 0) this.#scheduleComplete();
  }

  #scheduleFetch(): void {
    if (this.#fetchEvent) return;
    // On the grid of completions: one turn of the machine serves both.
    const { now } = this.#clock;
    const due = Math.ceil((now + this.#fetchNs) / this.#gridNs) * this.#gridNs;
    this.#fetchEvent = this.#clock.schedule(due - now, this.#fetch);
  }

  #scheduleComplete(): void {
    this.#completeEvent?.cancel();
    this.#completeEvent = undefined;
    if (!this.canMove()) return;
    let at = this.#inFlight.first ? this.#inFlight.first.due : Infinity;
    for (const queue of this.completions) if (queue && queue.waiting.count > 0 && !queue.isFull()) at = this.#clock.now;
    if (at !== Infinity) this.#completeEvent = this.#clock.schedule(Math.max(0, at - this.#clock.now), this.#complete);
  }

  /** Round robin over the queues, a burst each (§4.13). */
  readonly #fetch = (): void => {
    this.#fetchEvent = undefined;
    if (!this.canMove()) return;
    const queues = this.submissions;
    const wasIdle = this.#inFlight.count === 0;
    let budget = eventBudget;
    let isMoreLeft = false;
    let idle = 0;
    while (idle < queues.length && budget > 0) {
      const queue = queues[this.#turn];
      this.#turn = this.#turn + 1 >= queues.length ? 0 : this.#turn + 1;
      const count = queue ? this.#fetchFrom(queue, Math.min(budget, fetchBurst)) : 0;
      if (count < 0) return;
      budget -= count;
      idle = count === 0 ? idle + 1 : 0;
    }
    if (budget === 0) for (const queue of queues) if (queue && this.#fetchable(queue) > 0) isMoreLeft = true;
    if (isMoreLeft) this.#fetchEvent = this.#clock.schedule(0, this.#fetch);
    if (wasIdle && this.#inFlight.count > 0) this.#scheduleComplete();
    this.signal();
  };

  /** Entries that can be fetched with one DMA. */
  #fetchable(queue: SubmissionQueue): number {
    if (queue.isStopped) return 0;
    const end = queue.tail >= queue.head ? queue.tail : queue.size;
    return Math.min(end - queue.head, maxInFlight - queue.inFlight);
  }

  /** Fetches at most `limit` entries; how many, or -1 after a fatal error. */
  #fetchFrom(queue: SubmissionQueue, limit: number): number {
    const count = Math.min(this.#fetchable(queue), limit);
    if (count <= 0) return 0;
    const lo = queue.lo + queue.head * submissionEntryBytes;
    const hi = queue.hi + (lo > 0xffff_ffff ? 1 : 0);
    if (!this.dma!.load(hi >>> 0, lo >>> 0, this.#entries, count * submissionEntryBytes, queue.pasid)) {
      return this.#executor.lost(queue, 'submission queue') ? 0 : -1;
    }
    for (let i = 0; i < count; i++) {
      const command = this.#free.shift() ?? new Command(queue);
      command.queue = queue;
      command.result = 0;
      command.status = 0;
      command.progress = 0;
      command.settled = -1;
      command.bytes = 0;
      const { dw } = command;
      for (let word = 0; word < 16; word++) dw[word] = this.#dwords[i * 16 + word]!;
      this.#enqueue(command, this.#executor.admit(command));
    }
    queue.inFlight += count;
    const head = queue.head + count;
    queue.head = head === queue.size ? 0 : head;
    return count;
  }

  /** The data path is shared: commands take it one after the other, and then their latency in parallel. */
  #enqueue(command: Command, latencyNs: number): void {
    const now = this.#clock.now;
    this.#pathFreeAt = Math.max(this.#pathFreeAt, now) + Math.ceil(command.bytes / this.#bytesPerNs);
    // On a grid, so that commands which end close together share one event.
    const due = Math.ceil((this.#pathFreeAt + latencyNs) / this.#gridNs) * this.#gridNs;
    this.#lastDue = Math.max(this.#lastDue, due);
    command.due = this.#lastDue;
    this.#inFlight.push(command);
  }

  readonly #complete = (): void => {
    this.#completeEvent = undefined;
    if (!this.canMove()) return;
    let budget = eventBudget;
    for (const queue of this.completions) {
      if (!queue) continue;
      while (budget > 0 && queue.waiting.first && !queue.isFull()) {
        budget--;
        if (!this.#post(queue.waiting.shift()!)) return;
      }
    }
    const now = this.#clock.now;
    while (budget-- > 0) {
      const command = this.#inFlight.first;
      if (!command || command.due > now) break;
      this.#inFlight.remove(command);
      const outcome = this.#executor.execute(command);
      if (outcome === held) continue;
      if (outcome === unfinished) this.#enqueue(command, 0);
      else if (!this.finish(command, outcome)) return;
      if (!this.#isRunning) return;
    }
    this.signal();
    this.#scheduleComplete();
  };

  /** Posts a completion, or keeps it until the queue has room. False after a fatal error. */
  finish(command: Command, outcome: number): boolean {
    command.status = outcome;
    const queue = command.queue.completions;
    if (queue.waiting.count === 0 && !queue.isFull()) return this.#post(command);
    queue.waiting.push(command);
    return true;
  }

  #post(command: Command): boolean {
    const { queue } = command;
    const target = queue.completions;
    if (target.isStopped) {
      this.release(command);
      return true;
    }
    const lo = target.lo + target.tail * completionEntryBytes;
    const hi = target.hi + (lo > 0xffff_ffff ? 1 : 0);
    const stored = this.dma!.storeEntry(
      hi >>> 0,
      lo >>> 0,
      command.result,
      (queue.id << 16) | queue.head,
      (command.status << 17) | (target.phase << 16) | command.cid,
      target.pasid,
    );
    if (!stored) {
      this.release(command);
      return this.#executor.lost(target, 'completion queue');
    }
    target.isSignalDue = true;
    if (++target.tail === target.size) {
      target.tail = 0;
      target.phase ^= 1;
    }
    this.#executor.completed(command);
    const wasBlocked = queue.inFlight === maxInFlight;
    this.release(command);
    if (wasBlocked && queue.head !== queue.tail) this.#scheduleFetch();
    return true;
  }

  /** One interrupt for each queue that got entries since the last call. */
  signal(): void {
    for (const queue of this.completions) {
      if (!queue || !queue.isSignalDue) continue;
      queue.isSignalDue = false;
      if (queue.vector >= 0) this.vectors[queue.vector]?.raise();
    }
  }

  /** The command that will be executed next, at this same instant. */
  following(): Command | undefined {
    const next = this.#inFlight.first;
    return next && next.due <= this.#clock.now ? next : undefined;
  }

  /** Takes a command that has not been executed yet out of the pipeline and completes it as aborted; false where there is none. */
  abort(sqid: number, cid: number): boolean {
    const command = this.#inFlight.find(sqid, cid);
    // What has begun its steps is not taken back.
    if (!command || command.progress > 0) return false;
    this.#inFlight.remove(command);
    this.finish(command, status.ABORT_REQUESTED);
    return true;
  }

  /** Delete I/O Submission Queue: what is in flight is completed as aborted first (§5.6). */
  deleteSubmissions(queue: SubmissionQueue): void {
    this.submissions[queue.id] = undefined;
    queue.completions.users--;
    let next: Command | undefined;
    for (let command = this.#inFlight.first; command; command = next) {
      next = command.next;
      if (command.queue !== queue) continue;
      this.#inFlight.remove(command);
      if (!this.finish(command, status.ABORTED_SQ_DELETION)) return;
    }
  }

  deleteCompletions(queue: CompletionQueue): void {
    this.completions[queue.id] = undefined;
    this.#drop(queue.waiting);
  }
}
