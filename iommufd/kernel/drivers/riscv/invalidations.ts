import type { Operands } from '#iommufd/arch/riscv/commands';
import type { Hardware } from './hardware.ts';

/** Where the driver learns how an ATS.INVAL ended (host/riscv/device-link: why not from a fence). */
export interface InvalidationMonitor {
  /** ITag of the latest one that the silicon sent. */
  readonly latest: number;
  /** Set by the driver. */
  onEnd: ((itag: number, isDone: boolean) => void) | undefined;
}

/** `isDone` false: the device did not answer in time. May be called in the middle of a command: it starts none. */
export type InvalidationEnd = (isDone: boolean) => void;

interface Invalidation {
  readonly operands: Partial<Operands>;
  readonly end: InvalidationEnd | undefined;
}

/** The silicon has as many tags; one more command would keep it from fetching others (§3.1.4). */
const mostOutstanding = 32;

/**
 * ATS invalidations under way. No fence is sent meanwhile, so that a slow device holds up nobody but who waits for it;
 * what of stage 2 a device remembers can do no harm, because every address it uses passes stage 2 (T2GPA).
 */
export class Invalidations {
  readonly #hardware: Hardware;
  readonly #monitor: InvalidationMonitor;
  readonly #defer: (work: () => void) => void;
  readonly #outstanding = new Map<number, Invalidation>();
  readonly #waiting: Invalidation[] = [];
  /** Tags that ended while their command was being executed. */
  readonly #early = new Map<number, boolean>();
  #isIssuing = false;

  constructor(hardware: Hardware, monitor: InvalidationMonitor, defer: (work: () => void) => void) {
    this.#hardware = hardware;
    this.#monitor = monitor;
    this.#defer = defer;
    monitor.onEnd = (itag, isDone) => this.#ended(itag, isDone);
  }

  /** Outstanding and waiting. */
  get count(): number {
    return this.#outstanding.size + this.#waiting.length;
  }

  /** Sends an ATS.INVAL, at once or when a tag is free. */
  send(operands: Partial<Operands>, end?: InvalidationEnd): void {
    this.#waiting.push({ operands, end });
    this.#issue();
  }

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
    if (this.#waiting.length > 0) this.#defer(() => this.#issue());
  }

  #finish({ end }: Invalidation, isDone: boolean): void {
    this.#hardware.deviceInvalidations--;
    end?.(isDone);
  }
}
