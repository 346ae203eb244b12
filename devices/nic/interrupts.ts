/**
 * Interrupt causes, masks, vectors and throttling (§7.4, §10.2.4).
 *
 * Deviation: the function is not told whether the host chose MSI-X, MSI or INTx. It takes MSI-X when any entry of IVAR
 * is valid; otherwise every cause goes to vector 0, which the bus turns into whatever the host enabled.
 * Deviation: both the classic causes (RXT0, TXDW) and the queue causes (RXQ0 …) are set by the same event in either mode.
 */
import type { Clock, Scheduled } from '#vmm/base/clock';
import type { EventKind, Trace } from '#vmm/base/events';
import type { IrqLine } from '#vmm/base/ports';
import { array, type Data, field, listOf, part, parts, restoreTimer, saveTimer } from '#vmm/base/saved';
import { DelayTimers } from './delay-timers.ts';
import { CTRL_EXT, EIAC, ICR, IVAR, at } from './registers.ts';
import type { HookTable } from './register-file.ts';
import { bump } from './statistics.ts';

export const vectorCount = 5;
/** Units of ITR and EITR (§10.2.4.2). */
const throttleNs = 256;

/** Causes that the OTHER vector stands for (§7.4.1.1). */
const otherCauses = ICR.LSC | ICR.RXO | ICR.MDAC | ICR.SRPD | ICR.ACK | ICR.MNG;
const queueCauses = EIAC.RXQ0 | EIAC.RXQ1 | EIAC.TXQ0 | EIAC.TXQ1 | EIAC.OTHER;
/** Bits of ICR, ICS, IMS and IMC that exist. */
const knownCauses =
  ICR.TXDW | ICR.TXQE | ICR.RXSEQ | ICR.RXDMT0 | ICR.RXT0 | ICR.PHYINT | ICR.TXD_LOW | otherCauses | queueCauses;

/** One row per IVAR entry: 3 bits of vector, 1 of validity. */
const allocations = [
  { cause: EIAC.RXQ0, shift: 0 },
  { cause: EIAC.RXQ1, shift: 4 },
  { cause: EIAC.TXQ0, shift: 8 },
  { cause: EIAC.TXQ1, shift: 12 },
  { cause: EIAC.OTHER, shift: 16 },
];
const anyValid = 0x8_8888;

const interruptEvent: EventKind = {
  name: 'nic.interrupt',
  fields: ({ subject, value, a }) => ({ device: subject, vector: value, causes: a }),
};

export class Interrupts {
  vectors: readonly IrqLine[] = [];
  /** Messages sent since power-on. */
  sent = 0;
  readonly #words: Uint32Array;
  readonly #clock: Clock;
  readonly #trace: Trace;
  readonly #device: string;
  /** MSI-X: causes that are set, enabled and already told. */
  #told = 0;
  /** Classic mode: vector 0 was raised and its causes are still there. */
  #raised = false;
  /** Virtual time before which a vector must stay silent, and the causes that wait for it. */
  readonly #silentUntil = new Float64Array(vectorCount);
  readonly #waiting = new Uint32Array(vectorCount);
  readonly #timers: (Scheduled | undefined)[] = [];
  readonly #expire: (() => void)[] = [];
  /** Causes held back by the delay timers (classic mode only). */
  #delayed = 0;
  readonly #receiveTimers: DelayTimers;
  readonly #transmitTimers: DelayTimers;
  readonly saved = parts({
    sent: field(
      () => this.sent,
      (value) => (this.sent = value),
    ),
    told: field(
      () => this.#told,
      (value) => (this.#told = value),
    ),
    raised: field(
      () => this.#raised,
      (value) => (this.#raised = value),
    ),
    delayed: field(
      () => this.#delayed,
      (value) => (this.#delayed = value),
    ),
    silentUntil: array(() => this.#silentUntil),
    waiting: array(() => this.#waiting),
    timers: {
      save: () => this.#timers.map((event) => saveTimer(event)),
      restore: (data: Data) => {
        for (const [vector, saved] of listOf(data).entries())
          this.#timers[vector] = restoreTimer(saved, () => this.#clock.schedule(0, this.#expire[vector]!));
      },
    },
    receiveTimers: part(() => this.#receiveTimers),
    transmitTimers: part(() => this.#transmitTimers),
  });

  constructor(device: string, words: Uint32Array, clock: Clock, trace: Trace) {
    this.#device = device;
    this.#words = words;
    this.#clock = clock;
    this.#trace = trace;
    const release = (): void => this.cause(0);
    this.#receiveTimers = new DelayTimers(words, clock, at.ICRXPTC, at.ICRXATC, release);
    this.#transmitTimers = new DelayTimers(words, clock, at.ICTXPTC, at.ICTXATC, release);
    for (let vector = 0; vector < vectorCount; vector++) {
      this.#timers.push(undefined);
      this.#expire.push(() => this.#expired(vector));
    }
  }

  /** Access rules that are more than storage. */
  readonly hooks: HookTable = {
    ICR: { read: () => this.#readCauses(), afterWrite: (_, value, old) => this.#writeCauses(value, old) },
    // Write-only by the book; readable, with ICR's value and no side effect, on the part (some drivers rely on it).
    ICS: {
      read: () => this.#words[at.ICR]!,
      afterWrite: (_, value) => {
        this.#words[at.ICS] = 0;
        this.cause(value & knownCauses);
      },
    },
    IMS: {
      afterWrite: (_, value, old) => {
        this.#words[at.IMS] = old | (value & knownCauses);
        this.#update();
      },
    },
    IMC: {
      read: () => 0,
      afterWrite: (_, value) => {
        this.#words[at.IMC] = 0;
        this.#words[at.IMS]! &= ~value;
        this.#update();
      },
    },
    IVAR: { afterWrite: () => this.#update() },
    RDTR: { afterWrite: (_, value) => this.#flush(value) },
    TIDV: { afterWrite: (_, value) => this.#flush(value) },
  };

  reset(): void {
    this.#told = 0;
    this.#delayed = 0;
    this.#silentUntil.fill(0);
    this.#waiting.fill(0);
    for (let vector = 0; vector < vectorCount; vector++) {
      this.#timers[vector]?.cancel();
      this.#timers[vector] = undefined;
    }
    this.#stopDelays();
    if (this.#raised) this.vectors[0]?.lower();
    this.#raised = false;
  }

  /** Something happened: sets bits of ICR and sends what that makes due. */
  cause(bits: number): void {
    let causes = bits;
    if (this.#delayed !== 0) {
      causes |= this.#delayed;
      this.#delayed = 0;
      this.#stopDelays();
    }
    this.#words[at.ICR]! |= causes;
    if ((causes & otherCauses) !== 0) this.#words[at.ICR]! |= ICR.OTHER;
    this.#update();
  }

  /** A receive event, which RDTR and RADV may hold back (§7.4.4; not with MSI-X). */
  receiveCause(bits: number): void {
    const delay = this.#words[at.RDTR]! & 0xffff;
    if (delay === 0 || this.#msix) return this.cause(bits);
    this.#delayed |= bits;
    this.#receiveTimers.hold(delay, this.#words[at.RADV]!);
  }

  /** A transmit event; `delayed` is the descriptors' IDE, which puts TIDV and TADV to work (not with MSI-X). */
  transmitCause(bits: number, delayed: boolean): void {
    const delay = this.#words[at.TIDV]! & 0xffff;
    if (!delayed || delay === 0 || this.#msix) return this.cause(bits);
    this.#delayed |= bits;
    this.#transmitTimers.hold(delay, this.#words[at.TADV]!);
  }

  get #msix(): boolean {
    return (this.#words[at.IVAR]! & anyValid) !== 0;
  }

  #stopDelays(): void {
    this.#receiveTimers.stop();
    this.#transmitTimers.stop();
  }

  /** Flush partial descriptor block: the held causes at once (§10.2.5.11). */
  #flush(value: number): void {
    if ((value & 0x8000_0000) !== 0 && this.#delayed !== 0) this.cause(0);
  }

  /** §10.2.4.1: the read clears everything when all is masked or an interrupt was asserted, and is without effect otherwise. */
  #readCauses(): number {
    const words = this.#words;
    const causes = words[at.ICR]!;
    const asserted = (causes & words[at.IMS]!) !== 0;
    if (asserted || words[at.IMS] === 0) {
      words[at.ICR] = 0;
      if (asserted && (words[at.CTRL_EXT]! & CTRL_EXT.IAME) !== 0) words[at.IMS]! &= ~words[at.IAM]!;
      this.#update();
    }
    return asserted ? (causes | ICR.INT_ASSERTED) >>> 0 : causes;
  }

  #writeCauses(value: number, old: number): void {
    const words = this.#words;
    if ((old & words[at.IMS]!) !== 0 && (words[at.CTRL_EXT]! & CTRL_EXT.IAME) !== 0) words[at.IMS]! &= ~words[at.IAM]!;
    // Clearing OTHER clears what it stands for, as drivers expect.
    if ((value & ICR.OTHER) !== 0) words[at.ICR]! &= ~otherCauses;
    this.#update();
  }

  #update(): void {
    const active = this.#words[at.ICR]! & this.#words[at.IMS]!;
    if (!this.#msix) {
      if (active === 0) {
        if (this.#raised) this.vectors[0]?.lower();
        this.#raised = false;
      } else if (!this.#raised) {
        this.#raised = true;
        this.#notify(0, active);
      }
      return;
    }
    let rising = active & queueCauses & ~this.#told;
    this.#told &= active;
    for (let i = 0; rising !== 0 && i < allocations.length; i++) {
      const { cause, shift } = allocations[i]!;
      if ((rising & cause) === 0) continue;
      rising &= ~cause;
      this.#told |= cause;
      const entry = (this.#words[at.IVAR]! >>> shift) & 0xf;
      // An invalid entry gives no interrupt, and vectors 5 … 7 do not exist.
      if ((entry & 8) !== 0 && (entry & 7) < vectorCount) this.#notify(entry & 7, cause);
    }
    this.#told &= this.#words[at.ICR]! & this.#words[at.IMS]!;
  }

  #notify(vector: number, causes: number): void {
    const wait = this.#silentUntil[vector]! - this.#clock.now;
    if (wait <= 0) return this.#send(vector, causes);
    this.#waiting[vector]! |= causes;
    this.#timers[vector] ??= this.#clock.schedule(wait, this.#expire[vector]!);
  }

  #expired(vector: number): void {
    this.#timers[vector] = undefined;
    const causes = this.#waiting[vector]!;
    this.#waiting[vector] = 0;
    if ((causes & this.#words[at.ICR]! & this.#words[at.IMS]!) !== 0) this.#send(vector, causes);
    this.#told &= this.#words[at.ICR]! & this.#words[at.IMS]!;
  }

  #send(vector: number, causes: number): void {
    const words = this.#words;
    const gap = this.#msix ? words[at.EITR + vector]! : words[at.ITR]!;
    this.#silentUntil[vector] = this.#clock.now + gap * throttleNs;
    this.sent++;
    bump(words, at.IAC);
    if (this.#trace.on) this.#trace.tell(interruptEvent, this.#device, '', vector, (causes & words[at.ICR]!) >>> 0);
    if (this.#msix) {
      // The message acknowledges and masks by itself (§7.4.2.2: EIAC; §10.2.2.5: EIAME with IAM).
      const cleared = words[at.EIAC]! & causes;
      words[at.ICR]! &= ~cleared;
      const control = words[at.CTRL_EXT]!;
      if ((control & CTRL_EXT.EIAME) !== 0) words[at.IMS]! &= ~(words[at.IAM]! & causes);
      if ((control & CTRL_EXT.IAME) === 0) words[at.IMS]! &= ~cleared;
    }
    this.vectors[vector]?.raise();
  }

  /** True when IVAR asks for a write-back, and so an interrupt, for every transmit descriptor (§10.2.4.9). */
  get everyWriteBack(): boolean {
    return (this.#words[at.IVAR]! & IVAR.TX_INT_EVERY_WB) !== 0;
  }
}
