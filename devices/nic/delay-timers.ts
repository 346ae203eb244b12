/** The pair of timers that hold one direction's interrupts back (§7.4.4): from the last packet, and from the first. */
import type { Clock, Scheduled } from '#vmm/base/clock';
import { parts, timer } from '#vmm/base/saved';
import { bump } from './statistics.ts';

/** Units of RDTR, RADV, TIDV and TADV (§10.2.5.11). */
const unitNs = 1024;

export class DelayTimers {
  readonly #words: Uint32Array;
  readonly #clock: Clock;
  readonly #onPacket: () => void;
  readonly #onAbsolute: () => void;
  #packet: Scheduled | undefined;
  #absolute: Scheduled | undefined;
  readonly saved = parts({
    packet: timer(
      () => this.#packet,
      (event) => (this.#packet = event),
      () => this.#clock.schedule(0, this.#onPacket),
    ),
    absolute: timer(
      () => this.#absolute,
      (event) => (this.#absolute = event),
      () => this.#clock.schedule(0, this.#onAbsolute),
    ),
  });

  /** The counters are those of expiries; `release` sends what is held. */
  constructor(words: Uint32Array, clock: Clock, packetCounter: number, absoluteCounter: number, release: () => void) {
    this.#words = words;
    this.#clock = clock;
    this.#onPacket = () => {
      bump(this.#words, packetCounter);
      release();
    };
    this.#onAbsolute = () => {
      bump(this.#words, absoluteCounter);
      release();
    };
  }

  /** An event to be held: the first timer starts again, the second (0 = none) only when it was not running. */
  hold(packet: number, absolute: number): void {
    this.#packet?.cancel();
    this.#packet = this.#clock.schedule(packet * unitNs, this.#onPacket);
    if (absolute !== 0) this.#absolute ??= this.#clock.schedule(absolute * unitNs, this.#onAbsolute);
  }

  stop(): void {
    this.#packet?.cancel();
    this.#absolute?.cancel();
    this.#packet = undefined;
    this.#absolute = undefined;
  }
}
