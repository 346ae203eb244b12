import { type EventKind, quiet, type Trace } from '#vmm/base/events';
import { invariant } from '#vmm/base/invariant';
import type { AccessBytes, MmioDevice } from '#vmm/base/ports';
import { array, field, parts } from '#vmm/base/saved';

/** A hart's CSRs as they reach its interrupt file: *iselect/*ireg and *topei (AIA §3.8–3.10). XLEN is 64. */
export interface ImsicPort {
  /** What *ireg reads while *iselect is `select` (0x70–0xff); undefined = illegal instruction. */
  readIndirect(select: number): bigint | number | undefined;
  /** False = illegal instruction. */
  writeIndirect(select: number, value: bigint | number): boolean;
  /** Identity in 26:16 and again as priority in 10:0; 0 when nothing qualifies. */
  topei(): number;
  /** A store to *topei: the identity that `topei()` reports is no longer pending. */
  claim(): void;
}

export interface InterruptFileOptions {
  /** For traces: `hart0.s`, `hart0.m`. */
  readonly name: string;
  /** Highest identity: one less than a multiple of 64, 63 … 2047 (AIA §3.1). */
  readonly identities?: number;
  /** The external-interrupt signal changed: SEIP (or MEIP) follows it. */
  readonly onPending: (asserted: boolean) => void;
  readonly trace?: Trace;
}

const claimEvent: EventKind = {
  name: 'imsic.claim',
  fields: ({ subject, value }) => ({ file: subject, identity: value }),
};
const messageEvent: EventKind = {
  name: 'imsic.message',
  fields: ({ subject, value, a }) => ({ file: subject, identity: value, accepted: a }),
};
const signalEvent: EventKind = {
  name: 'imsic.signal',
  fields: ({ subject, value, a }) => ({ file: subject, asserted: value, top: a }),
};

/** Bytes of an interrupt file's memory region (AIA §3.5). */
export const interruptFileBytes = 4096;

const seteipnumLe = 0x000;
const seteipnumBe = 0x004;

const eidelivery = 0x70;
const eithreshold = 0x72;
const firstEip = 0x80;
const firstEie = 0xc0;
const lastSelect = 0xff;

/**
 * One interrupt file of an IMSIC (AIA chapter 3), of any privilege level: they act alike. Its memory page takes
 * messages, its port serves the hart's CSRs.
 */
export class InterruptFile implements MmioDevice, ImsicPort {
  readonly name: string;
  readonly identities: number;
  readonly #eip: Uint32Array;
  readonly #eie: Uint32Array;
  readonly #onPending: (asserted: boolean) => void;
  readonly #trace: Trace;
  #delivery = 0;
  #threshold = 0;
  /** Lowest identity that is pending, enabled and under the threshold; 0 = none. */
  #top = 0;
  #asserted = false;
  readonly saved = parts({
    eip: array(() => this.#eip),
    eie: array(() => this.#eie),
    delivery: field(
      () => this.#delivery,
      (value) => (this.#delivery = value),
    ),
    threshold: field(
      () => this.#threshold,
      (value) => (this.#threshold = value),
    ),
    top: field(
      () => this.#top,
      (value) => (this.#top = value),
    ),
    asserted: field(
      () => this.#asserted,
      (value) => (this.#asserted = value),
    ),
  });

  constructor({ name, identities = 255, onPending, trace = quiet }: InterruptFileOptions) {
    invariant(
      identities >= 63 && identities <= 2047 && (identities + 1) % 64 === 0,
      `an interrupt file of ${identities} identities`,
    );
    this.name = name;
    this.identities = identities;
    this.#eip = new Uint32Array((identities + 1) / 32);
    this.#eie = new Uint32Array((identities + 1) / 32);
    this.#onPending = onPending;
    this.#trace = trace;
  }

  /** All reads of the page return 0 (§3.5). */
  read(_offset: number, bytes: AccessBytes): number | bigint {
    return bytes === 8 ? 0n : 0;
  }

  write(offset: number, bytes: AccessBytes, value: number | bigint): void {
    // §3.5: accesses that are not naturally aligned words have no effect.
    if (bytes !== 4) return;
    if (offset === seteipnumLe) this.#receive(Number(value) >>> 0);
    else if (offset === seteipnumBe) this.#receive(swapped(Number(value)));
  }

  /** §3.4 leaves the state after reset unspecified; here everything is off. */
  reset(): void {
    this.#eip.fill(0);
    this.#eie.fill(0);
    this.#delivery = 0;
    this.#threshold = 0;
    this.#update();
  }

  readIndirect(select: number): bigint | number | undefined {
    if (select >= firstEip && select <= lastSelect) {
      // §3.9.3, §3.9.4: with XLEN 64 the odd-numbered registers do not exist.
      if (select & 1) return undefined;
      const array = select < firstEie ? this.#eip : this.#eie;
      const word = select & 0x3f;
      return word < array.length ? (BigInt(array[word + 1]!) << 32n) | BigInt(array[word]!) : 0n;
    }
    if (select === eidelivery) return this.#delivery;
    if (select === eithreshold) return this.#threshold;
    // §3.8: 0x71 and 0x73–0x7f are reserved, and read 0.
    return select > eidelivery && select < firstEip ? 0 : undefined;
  }

  writeIndirect(select: number, value: bigint | number): boolean {
    if (select >= firstEip && select <= lastSelect) {
      if (select & 1) return false;
      const array = select < firstEie ? this.#eip : this.#eie;
      const word = select & 0x3f;
      if (word < array.length) {
        const whole = BigInt.asUintN(64, BigInt(value));
        // Identity 0 is never valid: its bits are read-only zero.
        array[word] = Number(whole & 0xffff_ffffn) & (word === 0 ? ~1 : ~0);
        array[word + 1] = Number(whole >> 32n);
        this.#update();
      }
      return true;
    }
    if (select === eidelivery) {
      // §3.9.1 (WARL): 0x40000000 needs a PLIC or an APLIC; values that are not supported leave it as it was.
      const wanted = BigInt.asUintN(64, BigInt(value));
      if (wanted <= 1n) this.#delivery = Number(wanted);
      this.#update();
      return true;
    }
    if (select === eithreshold) {
      // §3.9.2 (WLRL): 0 … the highest identity; others leave it as it was.
      const wanted = BigInt.asUintN(64, BigInt(value));
      if (wanted <= BigInt(this.identities)) this.#threshold = Number(wanted);
      this.#update();
      return true;
    }
    return select > eidelivery && select < firstEip;
  }

  topei(): number {
    return (this.#top << 16) | this.#top;
  }

  claim(): void {
    const identity = this.#top;
    if (identity === 0) return;
    this.#eip[identity >>> 5]! &= ~(1 << (identity & 31));
    if (this.#trace.on) this.#trace.tell(claimEvent, this.name, '', identity);
    this.#update();
  }

  #receive(identity: number): void {
    const isValid = identity >= 1 && identity <= this.identities;
    if (this.#trace.on) this.#trace.tell(messageEvent, this.name, '', identity, isValid ? 1 : 0);
    if (!isValid) return;
    this.#eip[identity >>> 5]! |= 1 << (identity & 31);
    this.#update();
  }

  #update(): void {
    this.#top = this.#highest();
    // §3.11: eidelivery gates only the signal, never *topei.
    const asserted = this.#delivery === 1 && this.#top !== 0;
    if (asserted === this.#asserted) return;
    this.#asserted = asserted;
    if (this.#trace.on) this.#trace.tell(signalEvent, this.name, '', asserted ? 1 : 0, this.#top);
    this.#onPending(asserted);
  }

  #highest(): number {
    for (let word = 0; word < this.#eip.length; word++) {
      const ready = this.#eip[word]! & this.#eie[word]!;
      if (ready === 0) continue;
      const identity = 32 * word + 31 - Math.clz32(ready & -ready);
      return this.#threshold === 0 || identity < this.#threshold ? identity : 0;
    }
    return 0;
  }
}

const swapped = (value: number): number =>
  (((value & 0xff) << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
