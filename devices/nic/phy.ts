/**
 * The integrated PHY (§10.1.2, §10.2.9) behind MDIC: IEEE 802.3 clause 22 registers, the pages of the part, the link.
 *
 * Deviation: auto-negotiation takes 100 µs of virtual time instead of seconds, and always ends at 1000 Mb/s full duplex
 * with a partner that offers everything.
 */
import type { Clock, Scheduled } from '#vmm/base/clock';
import { array, parts, timer } from '#vmm/base/saved';
import type { HookTable } from './register-file.ts';
import { ICR, MDIC, at } from './registers.ts';

const autonegotiationNs = 100_000;
/** The only PHY on the bus. */
const phyAddress = 1;
const pages = 7;

interface PhyRegister {
  /** Absent: on every page. */
  readonly page?: number;
  readonly address: number;
  readonly access: 'rw' | 'ro';
  readonly reset?: number;
}
// prettier-ignore
const phyRegisters = {
  control:          { address: 0, access: 'rw', reset: 0x1140 },
  status:           { address: 1, access: 'ro' },
  id1:              { address: 2, access: 'ro', reset: 0x0141 },
  id2:              { address: 3, access: 'ro', reset: 0x0cb1 },
  advertise:        { address: 4, access: 'rw', reset: 0x0de1 },
  partner:          { address: 5, access: 'ro' },
  expansion:        { address: 6, access: 'ro', reset: 0x0004 },
  nextPage:         { address: 7, access: 'rw', reset: 0x2001 },
  partnerNextPage:  { address: 8, access: 'ro' },
  gigabitControl:   { address: 9, access: 'rw', reset: 0x0f00 },
  gigabitStatus:    { address: 10, access: 'ro' },
  extendedStatus:   { address: 15, access: 'ro', reset: 0x3000 },
  page:             { address: 22, access: 'rw' },
  copperControl1:   { page: 0, address: 16, access: 'rw', reset: 0x3360 },
  copperStatus1:    { page: 0, address: 17, access: 'ro' },
  copperInterrupt:  { page: 0, address: 18, access: 'rw' },
  copperStatus2:    { page: 0, address: 19, access: 'ro' },
  copperControl3:   { page: 0, address: 20, access: 'rw' },
  receiveErrors:    { page: 0, address: 21, access: 'ro' },
  oemBits:          { page: 0, address: 25, access: 'rw' },
  copperControl2:   { page: 0, address: 26, access: 'rw' },
  bias1:            { page: 0, address: 29, access: 'rw' },
  bias2:            { page: 0, address: 30, access: 'rw' },
  macControl1:      { page: 2, address: 16, access: 'rw', reset: 0x0088 },
  macInterrupt:     { page: 2, address: 18, access: 'rw' },
  macStatus:        { page: 2, address: 19, access: 'ro' },
  macControl2:      { page: 2, address: 21, access: 'rw', reset: 0x1046 },
  ledFunction:      { page: 3, address: 16, access: 'rw' },
  ledPolarity:      { page: 3, address: 17, access: 'rw' },
  ledTimer:         { page: 3, address: 18, access: 'rw', reset: 0x4005 },
  led45:            { page: 3, address: 19, access: 'rw' },
  pairSkew:         { page: 5, address: 20, access: 'ro' },
  pairSwap:         { page: 5, address: 21, access: 'ro' },
  crcCounters:      { page: 6, address: 17, access: 'ro' },
} as const satisfies Record<string, PhyRegister>;

const word = (page: number, address: number): number => page * 32 + address;
const exists = new Uint8Array(pages * 32);
const writable = new Uint8Array(pages * 32);
const resetImage = new Uint16Array(pages * 32);
const onEveryPage = new Uint8Array(32);
for (const row of Object.values(phyRegisters) as PhyRegister[]) {
  const index = word(row.page ?? 0, row.address);
  exists[index] = 1;
  writable[index] = row.access === 'rw' ? 1 : 0;
  resetImage[index] = row.reset ?? 0;
  if (row.page === undefined) onEveryPage[row.address] = 1;
}
const at22 = (name: keyof typeof phyRegisters): number => {
  const row: PhyRegister = phyRegisters[name];
  return word(row.page ?? 0, row.address);
};
const indexOf = {
  control: at22('control'), status: at22('status'), partner: at22('partner'), gigabitStatus: at22('gigabitStatus'),
  copperStatus1: at22('copperStatus1'), page: at22('page'), oemBits: at22('oemBits'),
}; // prettier-ignore

/** Control register bits (IEEE 802.3 table 22-7) and the OEM register's restart bit. */
const control = { reset: 0x8000, loopback: 0x4000, autonegotiation: 0x1000, powerDown: 0x0800, restart: 0x0200 };
const oemRestart = 0x0400;
/** Status: 10/100 abilities, extended status, preamble suppression, auto-negotiation ability, extended registers. */
const statusFixed = 0x7949;
const statusLink = 0x0004;
const statusComplete = 0x0020;

export class Phy {
  readonly #registers = new Uint16Array(resetImage);
  readonly #words: Uint32Array;
  readonly #clock: Clock;
  readonly #cable: () => boolean;
  readonly #onLink: () => void;
  readonly #onAccess: () => void;
  #negotiating: Scheduled | undefined;
  readonly saved = parts({
    registers: array(() => this.#registers),
    negotiating: timer(
      () => this.#negotiating,
      (event) => (this.#negotiating = event),
      () => this.#clock.schedule(0, this.#negotiated),
    ),
  });

  /** `cable`: is there a partner; `onLink`: `linkUp` may have changed; `onAccess`: MDIC finished and wants its interrupt. */
  constructor(words: Uint32Array, clock: Clock, cable: () => boolean, onLink: () => void, onAccess: () => void) {
    this.#words = words;
    this.#clock = clock;
    this.#cable = cable;
    this.#onLink = onLink;
    this.#onAccess = onAccess;
  }

  readonly hooks: HookTable = { MDIC: { afterWrite: (_, value) => this.#management(value) } };

  /** Power-on; the link is up again at once when there is a cable. */
  reset(): void {
    this.#negotiating?.cancel();
    this.#negotiating = undefined;
    this.#registers.set(resetImage);
  }

  /** CTRL.PHY_RST and control.reset: defaults, then auto-negotiation. */
  restart(): void {
    this.#registers.set(resetImage);
    this.#negotiate();
  }

  get linkUp(): boolean {
    return (
      !this.#negotiating &&
      (this.#registers[indexOf.control]! & control.powerDown) === 0 &&
      (this.loopback || this.#cable())
    );
  }

  /** Frames come back instead of leaving. */
  get loopback(): boolean {
    return (this.#registers[indexOf.control]! & control.loopback) !== 0;
  }

  #negotiate(): void {
    this.#negotiating?.cancel();
    this.#negotiating = this.#clock.schedule(autonegotiationNs, this.#negotiated);
    this.#onLink();
  }

  readonly #negotiated = (): void => {
    this.#negotiating = undefined;
    this.#onLink();
  };

  /** §10.2.2.7: one access; READY comes with the write, so that a polling driver never waits. */
  #management(value: number): void {
    const address = (value & MDIC.REGADD) >>> 16;
    let result = (value & ~(MDIC.E | MDIC.R)) >>> 0;
    const page = onEveryPage[address] === 1 ? 0 : this.#registers[indexOf.page]!;
    const index = page < pages ? word(page, address) : -1;
    const operation = (value & MDIC.OP) >>> 26;
    const read = operation === 2;
    const known = (value & MDIC.PHYADD) >>> 21 === phyAddress && index >= 0 && exists[index] === 1;
    if (!known || (!read && (operation !== 1 || writable[index] === 0))) result |= MDIC.E;
    else if (read) result = (result & ~MDIC.DATA) | this.#read(index);
    else this.#write(index, value & MDIC.DATA);
    this.#words[at.MDIC] = (result | MDIC.R) >>> 0;
    if ((value & MDIC.I) !== 0) this.#onAccess();
  }

  #read(index: number): number {
    const up = this.linkUp;
    if (index === indexOf.status) return statusFixed | (up ? statusLink | statusComplete : 0);
    if (index === indexOf.partner) return up ? 0xcde1 : 0;
    if (index === indexOf.gigabitStatus) return up ? 0x3c00 : 0;
    // 1000 Mb/s, full duplex, resolved, link, and the real-time link bit.
    if (index === indexOf.copperStatus1) return up ? 0xac08 : 0x8000;
    return this.#registers[index]!;
  }

  #write(index: number, value: number): void {
    if (index === indexOf.control) {
      if (value & control.reset) return this.restart();
      this.#registers[index] = value & ~control.restart & 0xffc0;
      if (value & control.restart && value & control.autonegotiation) this.#negotiate();
      else this.#onLink();
    } else if (index === indexOf.oemBits) {
      this.#registers[index] = value & ~oemRestart;
      if (value & oemRestart) this.#negotiate();
    } else this.#registers[index] = value;
  }
}

/** Cause that an MDIC access with the I bit raises. */
export const accessCause = ICR.MDAC;
