import type { Scheduled } from '#vmm/base/clock';
import { type Data, list, map, parts, plainMap, recordOf, timer } from '#vmm/base/saved';
import type { Operands } from '#iommufd/arch/riscv/commands';
import type { Hardware } from './hardware.ts';

/** Where the driver learns how an ATS.INVAL ended (host/riscv/device-link: why not from a fence). */
export interface InvalidationMonitor {
  /** ITag of the latest one that the silicon sent. */
  readonly latest: number;
  /** Set by the driver. */
  onEnd: ((itag: number, isDone: boolean) => void) | undefined;
}

/** The two doublewords of the command that somebody asked for. */
// A type, not an interface: a snapshot holds it as it is.
export type AskedCommand = { readonly 'cmd[0]': bigint; readonly 'cmd[1]': bigint };
/** Who is told. */
export interface InvalidationOwner {
  /** `isDone` false: the device did not answer in time. May be in the middle of a command: it starts none. */
  invalidationEnded(asked: AskedCommand, isDone: boolean): void;
}

interface Invalidation {
  readonly operands: Partial<Operands>;
  /** Undefined: the kernel's own. */
  readonly asked: AskedCommand | undefined;
}

const saveInvalidation = ({ operands, asked }: Invalidation): Data => ({ operands, asked });
const makeInvalidation = (data: Data): Invalidation => {
  const { operands, asked } = recordOf(data);
  return { operands: recordOf(operands) as Partial<Operands>, asked: asked as AskedCommand | undefined };
};

/** The silicon has as many tags; one more command would keep it from fetching others (§3.1.4). */
const mostOutstanding = 32;

/**
 * ATS invalidations under way. No fence is sent meanwhile, so that a slow device holds up nobody but who waits for it;
 * what of stage 2 a device remembers can do no harm, because every address it uses passes stage 2 (T2GPA).
 */
export class Invalidations {
  readonly #hardware: Hardware;
  readonly #monitor: InvalidationMonitor;
  readonly #defer: (work: () => void) => Scheduled;
  readonly #ownerOf: (rid: number) => InvalidationOwner | undefined;
  readonly #outstanding = new Map<number, Invalidation>();
  readonly #waiting: Invalidation[] = [];
  /** Tags that ended while their command was being executed. */
  readonly #early = new Map<number, boolean>();
  #isIssuing = false;
  /** There are some that could not be sent, and a tag is free again. */
  #issueDue: Scheduled | undefined;
  readonly saved = parts({
    outstanding: map(() => this.#outstanding, saveInvalidation, makeInvalidation),
    waiting: list(() => this.#waiting, saveInvalidation, makeInvalidation),
    early: plainMap(() => this.#early),
    issueDue: timer(
      () => this.#issueDue,
      (event) => (this.#issueDue = event),
      () => this.#defer(this.#issueLater),
    ),
  });

  /** `ownerOf`: who is told of the invalidations that somebody asked for. */
  constructor(
    hardware: Hardware,
    monitor: InvalidationMonitor,
    defer: (work: () => void) => Scheduled,
    ownerOf: (rid: number) => InvalidationOwner | undefined,
  ) {
    this.#hardware = hardware;
    this.#monitor = monitor;
    this.#defer = defer;
    this.#ownerOf = ownerOf;
    monitor.onEnd = (itag, isDone) => this.#ended(itag, isDone);
  }

  /** Outstanding and waiting. */
  get count(): number {
    return this.#outstanding.size + this.#waiting.length;
  }

  /** Sends an ATS.INVAL, at once or when a tag is free. */
  send(operands: Partial<Operands>, asked?: AskedCommand): void {
    this.#waiting.push({ operands, asked });
    this.#issue();
  }

  readonly #issueLater = (): void => {
    this.#issueDue = undefined;
    this.#issue();
  };

  #issue(): void {
    if (this.#isIssuing) return;
    this.#isIssuing = true;
    while (this.#waiting.length > 0 && this.#outstanding.size < mostOutstanding) {
      const next = this.#waiting.shift()!;
      this.#early.clear();
      this.#hardware.deviceInvalidations++;
      this.#hardware.command('ATS.INVAL', next.operands);
      const itag = this.#monitor.latest;
      const isDone = this.#early.get(itag);
      if (isDone === undefined) this.#outstanding.set(itag, next);
      else this.#finish(next, isDone);
    }
    this.#isIssuing = false;
  }

  #ended(itag: number, isDone: boolean): void {
    const one = this.#outstanding.get(itag);
    if (!one) {
      this.#early.set(itag, isDone);
      return;
    }
    this.#outstanding.delete(itag);
    this.#finish(one, isDone);
    // Not here: the silicon may be executing a command.
    if (this.#waiting.length > 0) this.#issueDue ??= this.#defer(this.#issueLater);
  }

  #finish({ operands, asked }: Invalidation, isDone: boolean): void {
    this.#hardware.deviceInvalidations--;
    if (asked) this.#ownerOf(Number(operands.RID))?.invalidationEnded(asked, isDone);
  }
}
