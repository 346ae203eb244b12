import { noPasid } from '#vmm/base/ports';

export const submissionEntryBytes = 64;
export const completionEntryBytes = 16;

/** One submission queue entry and what becomes of it. Objects are reused: the engine keeps a free list. */
export class Command {
  /** The 16 dwords of the entry (NVMe 1.4 §4.2). */
  readonly dw = new Int32Array(16);
  queue: SubmissionQueue;
  /** Virtual time at which it is executed, ns. */
  due = 0;
  /** Completion dword 0. */
  result = 0;
  /** Status field of the completion, without phase. */
  status = 0;
  /** How far a command that takes several steps has come; its meaning belongs to the command. */
  progress = 0;
  /** Status field of a command whose data moved together with that of the one before; -1 where it has yet to be executed. */
  settled = -1;
  /** Data moved, for the statistics. */
  bytes = 0;
  previous: Command | undefined;
  next: Command | undefined;

  constructor(queue: SubmissionQueue) {
    this.queue = queue;
  }
  get opcode(): number {
    return this.dw[0]! & 0xff;
  }
  get cid(): number {
    return this.dw[0]! >>> 16;
  }
  get nsid(): number {
    return this.dw[1]! >>> 0;
  }
}

/** Doubly linked, so that Abort and queue deletion can take a command out of the middle. */
export class CommandList {
  first: Command | undefined;
  last: Command | undefined;
  count = 0;

  push(command: Command): void {
    command.previous = this.last;
    command.next = undefined;
    if (this.last) this.last.next = command;
    else this.first = command;
    this.last = command;
    this.count++;
  }

  remove(command: Command): void {
    if (command.previous) command.previous.next = command.next;
    else this.first = command.next;
    if (command.next) command.next.previous = command.previous;
    else this.last = command.previous;
    command.previous = undefined;
    command.next = undefined;
    this.count--;
  }

  shift(): Command | undefined {
    const command = this.first;
    if (command) this.remove(command);
    return command;
  }

  find(sqid: number, cid: number): Command | undefined {
    let command = this.first;
    while (command && (command.queue.id !== sqid || command.cid !== cid)) command = command.next;
    return command;
  }
}

/** Whether a range ends at or below 2^64. */
export const isWithinAddressSpace = (hi: number, lo: number, length: number): boolean =>
  hi !== 0xffff_ffff || lo + length <= 2 ** 32;

export interface QueueBase {
  readonly id: number;
  /** Entries, at least 2. */
  readonly size: number;
  readonly hi: number;
  readonly lo: number;
  /** Address space of the queue and of its commands' data, or noPasid. */
  readonly pasid?: number;
}

export class CompletionQueue {
  readonly id: number;
  readonly size: number;
  readonly hi: number;
  readonly lo: number;
  readonly pasid: number;
  /** Interrupt vector, or -1 where interrupts are disabled. */
  readonly vector: number;
  head = 0;
  tail = 0;
  phase = 1;
  /** Submission queues that post here. */
  users = 0;
  /** Entries were posted since the last interrupt. */
  isSignalDue = false;
  /** Its memory could not be reached and it belongs to one process: it alone has stopped. */
  isStopped = false;
  /** Executed, waiting for room. */
  readonly waiting = new CommandList();

  constructor(base: QueueBase, vector: number) {
    this.id = base.id;
    this.size = base.size;
    this.hi = base.hi;
    this.lo = base.lo;
    this.pasid = base.pasid ?? noPasid;
    this.vector = vector;
  }
  isFull(): boolean {
    return (this.tail + 1 === this.size ? 0 : this.tail + 1) === this.head;
  }
}

export class SubmissionQueue {
  readonly id: number;
  readonly size: number;
  readonly hi: number;
  readonly lo: number;
  readonly pasid: number;
  readonly completions: CompletionQueue;
  head = 0;
  tail = 0;
  /** Fetched and not yet completed. */
  inFlight = 0;
  isStopped = false;

  constructor(base: QueueBase, completions: CompletionQueue) {
    this.id = base.id;
    this.size = base.size;
    this.hi = base.hi;
    this.lo = base.lo;
    this.pasid = base.pasid ?? noPasid;
    this.completions = completions;
  }
}
