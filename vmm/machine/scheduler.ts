import type { Clock } from '#vmm/base/clock';
import { field, parts, plainList } from '#vmm/base/saved';
import type { Hart } from '../cpu/riscv/hart.ts';
import { timebaseHz } from './layout.ts';

/** Longest stretch that harts run before the event queue is looked at, in ns of virtual time. */
const sliceNs = 1_000_000;
/** The same with several harts, each of which sees what the others did only afterwards. */
const sharedSliceNs = 10_000;
const nsPerTick = 1e9 / timebaseHz;

export interface SchedulerOptions {
  readonly clock: Clock;
  readonly harts: readonly Hart[];
  readonly nsPerInstruction: number;
}

/** What ended a `run` of the scheduler: a hart crashed or met a breakpoint, or nothing can ever happen again. */
export type Halt = { readonly kind: 'crash' | 'breakpoint'; readonly hart: Hart } | { readonly kind: 'idle' };

/** Harts in turn on one virtual clock: the same inputs always interleave the same way. */
export class Scheduler {
  readonly #clock: Clock;
  readonly #harts: readonly Hart[];
  readonly #nsPerInstruction: number;
  /** By hart: started by SBI (or hart 0), and not waiting for an interrupt. */
  readonly #started: boolean[];
  readonly #waiting: boolean[];
  /** The hart that runs, and what it had retired when its slice began. */
  #running: Hart | undefined;
  #runningFrom = 0;
  readonly #lag = (): number => (this.#running!.instret - this.#runningFrom) * this.#nsPerInstruction;
  /** What harts had retired when they were started anew: their own counters begin at 0 again. */
  #retiredBefore = 0;
  readonly saved = parts({
    started: plainList(() => this.#started),
    waiting: plainList(() => this.#waiting),
    retiredBefore: field(
      () => this.#retiredBefore,
      (value) => (this.#retiredBefore = value),
    ),
  });

  constructor({ clock, harts, nsPerInstruction }: SchedulerOptions) {
    this.#clock = clock;
    this.#harts = harts;
    this.#nsPerInstruction = nsPerInstruction;
    this.#started = harts.map((hart) => hart.id === 0);
    this.#waiting = harts.map(() => false);
  }

  isStarted(id: number): boolean {
    return this.#started[id] === true;
  }

  /** The hart is about to be reset and runs from then on. */
  start(id: number): void {
    this.#retiredBefore += this.#harts[id]!.instret;
    this.#started[id] = true;
    this.#waiting[id] = false;
  }

  stop(id: number): void {
    this.#started[id] = false;
  }

  /** An interrupt line of this hart rose. */
  wake(id: number): void {
    this.#waiting[id] = false;
  }

  /** Instructions of all harts since power-on. */
  get instructions(): number {
    let sum = this.#retiredBefore;
    for (const hart of this.#harts) sum += hart.instret;
    return sum;
  }

  /** One turn: every ready hart runs a slice, then time moves on and what is due happens. */
  turn(maxInstructions: number): Halt | undefined {
    const clock = this.#clock;
    const due = clock.untilNext();
    if (due <= 0) {
      clock.advance(0);
      return undefined;
    }
    const now = clock.now;
    let timer = Infinity;
    let ready = 0;
    for (const hart of this.#harts) {
      if (!this.#started[hart.id]) continue;
      if (this.#waiting[hart.id]) {
        const left = this.#untilTimer(hart, now);
        if (left > 0) {
          timer = Math.min(timer, left);
          continue;
        }
        this.#waiting[hart.id] = false;
      }
      ready++;
    }
    if (ready === 0) {
      const skip = Math.min(due, timer);
      if (skip === Infinity) return { kind: 'idle' };
      clock.advance(skip);
      return undefined;
    }
    const slice = Math.min(due, timer, ready > 1 ? sharedSliceNs : sliceNs);
    const budget = Math.max(1, Math.min(maxInstructions, Math.ceil(slice / this.#nsPerInstruction)));
    let spent = 0;
    for (const hart of this.#harts) {
      if (!this.#started[hart.id] || this.#waiting[hart.id]) continue;
      hart.setTimeBase(now);
      const before = hart.instret;
      this.#running = hart;
      this.#runningFrom = before;
      clock.runAhead(this.#lag);
      const reason = hart.run(budget);
      clock.runAhead(undefined);
      spent = Math.max(spent, (hart.instret - before) * this.#nsPerInstruction);
      if (reason === 'wfi') this.#waiting[hart.id] = true;
      if (reason === 'crash' || reason === 'breakpoint') {
        clock.advance(spent);
        return { kind: reason, hart };
      }
    }
    clock.advance(spent);
    return undefined;
  }

  /** ns until the hart's own timer wakes it (Sstc: stimecmp, and mie.STIE), Infinity when it will not. */
  #untilTimer(hart: Hart, now: number): number {
    const at = hart.timerTicks * nsPerTick;
    return at >= Number.MAX_SAFE_INTEGER ? Infinity : Math.max(0, at - now);
  }
}
