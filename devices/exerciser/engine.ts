/** The queues and the one event that drives them. */
import type { Scheduled } from '#vmm/base/clock';
import type { FunctionStatus } from '#vmm/base/ports';
import { field, part, partList, parts, timer } from '#vmm/base/saved';
import type { Link } from './link.ts';
import { Queue } from './queue.ts';
import { queueCount } from './registers.ts';

export class Engine {
  readonly queues: readonly Queue[];
  status: FunctionStatus | undefined;
  readonly #link: Link;
  #event: Scheduled | undefined;
  #eventAt = Infinity;
  #isRunning = false;
  #wasBusy = false;
  readonly saved = parts({
    queues: partList(() => this.queues),
    // Behind the queues, whose transactions it names.
    pages: part(() => this.#link.pages),
    event: timer(
      () => this.#event,
      (event) => (this.#event = event),
      () => this.#link.clock.schedule(0, this.#run),
    ),
    eventAt: field(
      () => this.#eventAt,
      (value) => (this.#eventAt = value),
    ),
    wasBusy: field(
      () => this.#wasBusy,
      (value) => (this.#wasBusy = value),
    ),
  });

  constructor(link: Link, interrupt: (queue: number) => void) {
    this.#link = link;
    this.queues = Array.from({ length: queueCount }, (_, index) => new Queue(index, link, interrupt));
    link.wake = () => this.refresh();
    link.pages.listeners = () => this.queues.flatMap(({ listeners }) => listeners);
    link.pages.onCredits = () => {
      for (const queue of this.queues) if (queue.isRunning) queue.creditsChanged();
      this.plan();
    };
  }

  get isBusy(): boolean {
    for (const queue of this.queues) if (queue.isBusy) return true;
    return false;
  }

  /** Something outside a queue's own doing may have made it ready. */
  refresh(): void {
    for (const queue of this.queues) if (queue.isRunning) queue.refresh();
    this.plan();
  }

  /** Takes back what is under way without having had an effect. */
  retract(): void {
    for (const queue of this.queues) queue.retract();
    this.plan();
  }

  stop(): void {
    for (const queue of this.queues) queue.disable();
    this.plan();
  }

  /** Schedules the next event for when the first queue is ready. */
  plan(): void {
    if (this.#isRunning) return;
    this.#tellPending();
    let at = Infinity;
    if (this.#link.isMaster) for (const { readyAt } of this.queues) if (readyAt < at) at = readyAt;
    if (at === this.#eventAt && at !== Infinity) return;
    this.#event?.cancel();
    this.#event = undefined;
    this.#eventAt = at;
    const { clock } = this.#link;
    if (at !== Infinity) this.#event = clock.schedule(Math.max(0, at - clock.now), this.#run);
  }

  /** Queues by index; each does at most one step of everything it has under way. */
  readonly #run = (): void => {
    this.#event = undefined;
    this.#eventAt = Infinity;
    const { now } = this.#link.clock;
    this.#isRunning = true;
    for (const queue of this.queues) if (queue.readyAt <= now) queue.run();
    this.#isRunning = false;
    this.plan();
  };

  #tellPending(): void {
    const { isBusy } = this;
    if (isBusy === this.#wasBusy) return;
    this.#wasBusy = isBusy;
    this.status?.transactionsPending(isBusy);
  }
}
