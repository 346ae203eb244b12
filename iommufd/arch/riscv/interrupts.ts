import type { Trace } from '#vmm/base/events';
import { field, parts } from '#vmm/base/saved';
import { access, type MessageSink, type WireSink } from './ports.ts';
import type { QueueMemory } from './queue-memory.ts';
import type { RegisterFile } from './register-file.ts';
import { cqcsr, fqcsr, fctl, icvec, ipsr, msiConfigOffset, offsets, pqcsr } from './registers.ts';

const bit = (mask: bigint): number => Number(mask);
const enabled = 1 << 1; // cie, fie, pie: the same place in all three (§5.15–5.17)

/** Interrupt causes: the bit in ipsr, the vector field in icvec, and the level that keeps the bit set (§5.18). */
// prettier-ignore
const causes = {
  cip:  { pending: bit(ipsr.mask('cip')),  vectorShift: 0,  csr: offsets.cqcsr,
          level: bit(cqcsr.mask('cqmf') | cqcsr.mask('cmd_to') | cqcsr.mask('cmd_ill') | cqcsr.mask('fence_w_ip')) },
  fip:  { pending: bit(ipsr.mask('fip')),  vectorShift: 4,  csr: offsets.fqcsr,
          level: bit(fqcsr.mask('fqof') | fqcsr.mask('fqmf')) },
  pmip: { pending: bit(ipsr.mask('pmip')), vectorShift: 8,  csr: -1, level: 0 },
  pip:  { pending: bit(ipsr.mask('pip')),  vectorShift: 12, csr: offsets.pqcsr,
          level: bit(pqcsr.mask('pqof') | pqcsr.mask('pqmf')) },
} as const;
export type InterruptCause = keyof typeof causes;
const leveled = ['cip', 'fip', 'pip'] as const;
const everyCause = Object.entries(causes) as [InterruptCause, (typeof causes)[InterruptCause]][];
const wsi = bit(fctl.mask('WSI'));
const vectorMask = bit(icvec.mask('civ'));

/** Where interrupts go besides the messages that the IOMMU writes itself. */
export interface InterruptSinks {
  readonly wire?: WireSink | undefined;
  readonly messages?: MessageSink | undefined;
}

/** ipsr, icvec and the MSI configuration table: which causes are pending, and how software hears of them. */
export class Interrupts {
  readonly #registers: RegisterFile;
  readonly #memory: QueueMemory;
  readonly #wire: WireSink | undefined;
  readonly #messages: MessageSink | undefined;
  readonly #trace: Trace;
  readonly #unit: string;
  /** Vectors with a message that a mask bit holds back. */
  #held = 0;
  #releasing = -1;
  #wires = 0;
  readonly saved = parts({
    held: field(
      () => this.#held,
      (value) => (this.#held = value),
    ),
    releasing: field(
      () => this.#releasing,
      (value) => (this.#releasing = value),
    ),
    wires: field(
      () => this.#wires,
      (value) => (this.#wires = value),
    ),
  });
  /** An MSI's write met an access fault; the owner reports cause 273. */
  onMessageFault: (address: bigint) => void = () => {};

  constructor(registers: RegisterFile, memory: QueueMemory, sinks: InterruptSinks, trace: Trace, unit: string) {
    this.#registers = registers;
    this.#memory = memory;
    this.#wire = sinks.wire;
    this.#messages = sinks.messages;
    this.#trace = trace;
    this.#unit = unit;
  }

  reset(): void {
    this.#held = 0;
    this.updateWires();
  }

  /** A new record or a counter overflow: an edge. Queue interrupts need their enable bit. */
  pend(cause: InterruptCause): void {
    const row = causes[cause];
    const words = this.#registers.words;
    if (words[offsets.ipsr >>> 2]! & row.pending) return;
    if (row.csr >= 0 && !(words[row.csr >>> 2]! & enabled)) return;
    words[offsets.ipsr >>> 2]! |= row.pending;
    const vector = (words[offsets.icvec >>> 2]! >>> row.vectorShift) & vectorMask;
    const wired = (words[offsets.fctl >>> 2]! & wsi) !== 0;
    if (this.#trace.on)
      this.#trace.emit('iommu.interrupt', {
        unit: this.#unit,
        cause,
        vector,
        message: wired
          ? 'wire'
          : this.#messages
            ? 'msi-x'
            : `0x${this.#registers.get64(msiConfigOffset(vector)).toString(16)}`,
      });
    if (wired) this.updateWires();
    else if (this.#messages) this.#messages(vector);
    else if (vector === this.#releasing || words[(msiConfigOffset(vector) + 12) >>> 2]! & 1) this.#held |= 1 << vector;
    else this.#send(vector);
  }

  /** Pends every queue whose error bits are set while its interrupt is enabled: the conditions are levels (§5.18). */
  updateLevels(): void {
    const words = this.#registers.words;
    for (const cause of leveled) {
      const row = causes[cause];
      if (words[row.csr >>> 2]! & row.level) this.pend(cause);
    }
  }

  /** Software wrote ones to ipsr: the bits go one by one, and each is set again while its condition holds (§5.18). */
  acknowledge(bits: number): void {
    const words = this.#registers.words;
    for (const [cause, row] of everyCause) {
      if (!(bits & row.pending)) continue;
      words[offsets.ipsr >>> 2]! &= ~row.pending;
      if (row.csr >= 0 && words[row.csr >>> 2]! & row.level) this.pend(cause);
    }
    this.updateWires();
  }

  /** A vector's mask bit was cleared: its held message goes out (§5.29). */
  unmasked(vector: number): void {
    if (!(this.#held & (1 << vector))) return;
    // One pending bit a vector: a cause that comes up during the release shares its message.
    this.#releasing = vector;
    this.#send(vector);
    this.#releasing = -1;
    this.#held &= ~(1 << vector);
  }

  /** Drives every wire to the OR of the causes mapped to it. */
  updateWires(): void {
    if (!this.#wire) return;
    const words = this.#registers.words;
    let wires = 0;
    if (words[offsets.fctl >>> 2]! & wsi)
      for (const [, row] of everyCause)
        if (words[offsets.ipsr >>> 2]! & row.pending)
          wires |= 1 << ((words[offsets.icvec >>> 2]! >>> row.vectorShift) & vectorMask);
    const changed = wires ^ this.#wires;
    this.#wires = wires;
    for (let vector = 0; changed >>> vector !== 0; vector++)
      if ((changed >>> vector) & 1) this.#wire(vector, ((wires >>> vector) & 1) === 1);
  }

  #send(vector: number): void {
    const at = msiConfigOffset(vector);
    const address = this.#registers.get64(at);
    if (this.#memory.store32(address, this.#registers.words[(at + 8) >>> 2]!) === access.fault)
      this.onMessageFault(address);
  }
}
