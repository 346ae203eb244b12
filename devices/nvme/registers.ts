import type { Access, FieldSpec, Register } from '#vmm/base/bits';
import { register } from '#vmm/base/bits';
import { field, parts } from '#vmm/base/saved';

const ro = (bits: number | readonly [number, number], doc = ''): FieldSpec => ({ bits, access: 'ro', doc });
const all = (access: Access = 'rw'): { value: FieldSpec } => ({ value: { bits: [31, 0], access } });

/** NVMe 1.4 §3.1: offsets in BAR0. */
// prettier-ignore
export const registers = {
  CAP: { offset: 0x00, layout: register({ width: 64, spec: 'NVMe 1.4 §3.1.1', doc: 'Controller Capabilities', fields: {
    MQES: ro([15, 0], 'maximum queue entries, 0-based'), CQR: ro(16, 'queues must be contiguous'), AMS: ro([18, 17]),
    TO: ro([31, 24], 'ready timeout, 500 ms'), DSTRD: ro([35, 32]), NSSRS: ro(36), CSS: ro([44, 37]), BPS: ro(45),
    MPSMIN: ro([51, 48]), MPSMAX: ro([55, 52]), PMRS: ro(56), CMBS: ro(57) } }) },
  VS: { offset: 0x08, layout: register({ width: 32, spec: 'NVMe 1.4 §3.1.2', doc: 'Version', fields: {
    TER: ro([7, 0]), MNR: ro([15, 8]), MJR: ro([31, 16]) } }) },
  INTMS: { offset: 0x0c, layout: register({ width: 32, spec: 'NVMe 1.4 §3.1.3', doc: 'Interrupt Mask Set', fields: all() }) },
  INTMC: { offset: 0x10, layout: register({ width: 32, spec: 'NVMe 1.4 §3.1.4', doc: 'Interrupt Mask Clear', fields: all() }) },
  CC: { offset: 0x14, layout: register({ width: 32, spec: 'NVMe 1.4 §3.1.5', doc: 'Controller Configuration', fields: {
    EN: { bits: 0 }, CSS: { bits: [6, 4] }, MPS: { bits: [10, 7] }, AMS: { bits: [13, 11] }, SHN: { bits: [15, 14] },
    IOSQES: { bits: [19, 16] }, IOCQES: { bits: [23, 20] } } }) },
  CSTS: { offset: 0x1c, layout: register({ width: 32, spec: 'NVMe 1.4 §3.1.6', doc: 'Controller Status', fields: {
    RDY: ro(0), CFS: ro(1), SHST: ro([3, 2]), NSSRO: { bits: 4, access: 'w1c' }, PP: ro(5) } }) },
  NSSR: { offset: 0x20, layout: register({ width: 32, spec: 'NVMe 1.4 §3.1.7', doc: 'NVM Subsystem Reset', fields: all('ro') }) },
  AQA: { offset: 0x24, layout: register({ width: 32, spec: 'NVMe 1.4 §3.1.8', doc: 'Admin Queue Attributes', fields: {
    ASQS: { bits: [11, 0] }, ACQS: { bits: [27, 16] } } }) },
  ASQ: { offset: 0x28, layout: register({ width: 64, spec: 'NVMe 1.4 §3.1.9', doc: 'Admin Submission Queue Base', fields: {
    ASQB: { bits: [63, 12] } } }) },
  ACQ: { offset: 0x30, layout: register({ width: 64, spec: 'NVMe 1.4 §3.1.10', doc: 'Admin Completion Queue Base', fields: {
    ACQB: { bits: [63, 12] } } }) },
  CMBLOC: { offset: 0x38, layout: register({ width: 32, spec: 'NVMe 1.4 §3.1.11', doc: 'No controller memory buffer', fields: all('ro') }) },
  CMBSZ: { offset: 0x3c, layout: register({ width: 32, spec: 'NVMe 1.4 §3.1.12', doc: 'No controller memory buffer', fields: all('ro') }) },
} as const satisfies Record<string, { offset: number; layout: Register }>;
export type RegisterName = keyof typeof registers;

/** Doorbells start here, 4 bytes apart (CAP.DSTRD = 0): submission tail 2·qid, completion head 2·qid + 1 (§3.1.24, §3.1.25). */
export const doorbellBase = 0x1000;
/** Largest CC.MPS accepted: 2^(12 + 4) = 64 KiB. */
export const maxPageSizeExponent = 4;
/** Largest queue, in entries. */
export const maxQueueEntries = 2048;

/** Values after a controller-level reset that starts from power-on. */
const initial = (): Record<RegisterName, bigint> => ({
  CAP: registers.CAP.layout.encode({
    MQES: BigInt(maxQueueEntries - 1),
    CQR: 1n,
    TO: 15n,
    CSS: 1n,
    MPSMAX: BigInt(maxPageSizeExponent),
  }),
  VS: registers.VS.layout.encode({ MJR: 1n, MNR: 4n }),
  INTMS: 0n,
  INTMC: 0n,
  CC: 0n,
  CSTS: 0n,
  NSSR: 0n,
  AQA: 0n,
  ASQ: 0n,
  ACQ: 0n,
  CMBLOC: 0n,
  CMBSZ: 0n,
});

interface Slot {
  readonly name: RegisterName;
  readonly shift: bigint;
}
const names = Object.keys(registers) as RegisterName[];
/** Dword index → register and which half of it. */
const slots: (Slot | undefined)[] = [];
for (const name of names) {
  const { offset, layout } = registers[name];
  for (let bit = 0; bit < layout.width; bit += 32) slots[(offset + bit / 8) >> 2] = { name, shift: BigInt(bit) };
}

/** The controller registers below the doorbells, in dwords; 8-byte accesses are two dwords (§3.1 allows either). */
export class RegisterFile {
  values = initial();
  readonly saved = parts({
    values: field(
      () => this.values,
      (values) => (this.values = values),
    ),
  });

  /** Dword at a multiple of 4; undefined where the specification defines nothing. */
  readDword(offset: number): number | undefined {
    const slot = slots[offset >> 2];
    if (!slot) return undefined;
    // Both mask registers read as the mask (§3.1.3, §3.1.4).
    const value = this.values[slot.name === 'INTMC' ? 'INTMS' : slot.name];
    return Number((registers[slot.name].layout.read(value) >> slot.shift) & 0xffff_ffffn);
  }

  /** Stores a dword with the register's write semantics; the register's name, or undefined where there is none. */
  writeDword(offset: number, value: number): RegisterName | undefined {
    const slot = slots[offset >> 2];
    if (!slot) return undefined;
    const layout: Register = registers[slot.name].layout;
    const old = this.values[slot.name];
    const dword = BigInt(value >>> 0);
    if (slot.name === 'INTMS') this.values.INTMS |= dword;
    else if (slot.name === 'INTMC') this.values.INTMS &= ~dword;
    else {
      const kept = old & ~(0xffff_ffffn << slot.shift) & ~layout.writeOneToClear;
      this.values[slot.name] = layout.write(old, kept | (dword << slot.shift));
    }
    return slot.name;
  }

  reset(): void {
    this.values = initial();
  }
}
