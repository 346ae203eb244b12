/** Instruction words into predecoded slots. */
import { allExtensions, extensionNames, type Extensions, type OptionalExtension } from '#vmm/base/isa-extensions';
import type { Decoder } from '../engine/code-cache.ts';
import { engineHandlers, firstHandler } from '../engine/interpreter.ts';
import { slot } from '../engine/layout.ts';
import { compressed, expand } from './compressed.ts';
import { csrIndex } from './csr.ts';
import { encodeOperands, matches, type OperandName } from './encoding.ts';
import { type Format, type Instruction, instructions } from './instructions.ts';

/** What each handler executes: an instruction as a long or as a short one. Index 0 is the illegal instruction. */
export interface Handled {
  readonly row: Instruction;
  readonly bytes: 2 | 4;
}
const short = new Set(compressed.map((row) => row.expands));
export const handled: readonly Handled[] = instructions.flatMap((row) => [
  { row, bytes: 4 as const },
  ...(short.has(row.name) ? [{ row, bytes: 2 as const }] : []),
]);
const illegalHandler = firstHandler;
const handlerOf = new Map(handled.map(({ row, bytes }, i) => [`${row.name}/${bytes}`, firstHandler + 1 + i]));
const byName = new Map(instructions.map((row) => [row.name, row]));

/** Major opcode and funct3 leave a handful of rows. */
const bucket = (word: number): number => ((word >>> 2) & 31) | ((word >>> 7) & 0xe0);
const buckets: Instruction[][] = Array.from({ length: 256 }, () => []);
for (const row of instructions) {
  for (let index = 0; index < 256; index++) {
    const sample = ((index & 31) << 2) | ((index & 0xe0) << 7) | 3;
    const known = row.encoding.mask & 0x707f;
    if ((sample & known) === (row.encoding.match & known)) buckets[index]!.push(row);
  }
}
/** The row of a 32-bit instruction, or undefined where it is illegal. */
export const lookUpInstruction = (word: number): Instruction | undefined =>
  buckets[bucket(word)]!.find((row) => matches(row.encoding, word));

/** Where a row's operands lie, found once, so that decoding allocates nothing. */
interface Packing {
  readonly row: Instruction;
  readonly handler: number;
  readonly rd: Field | undefined;
  readonly rs1: Field | undefined;
  readonly rs2: Field | undefined;
  readonly immediate: (word: number) => number;
}
interface Field {
  readonly lo: number;
  readonly width: number;
}
const fieldOf = (row: Instruction, operand: OperandName): Field | undefined =>
  row.encoding.pieces.find((piece) => piece.operand === operand);
const bitsOf = (field: Field | undefined, word: number): number =>
  field === undefined ? 0 : (word >>> field.lo) & ((1 << field.width) - 1);

const immOf = (row: Instruction): ((word: number) => number) => {
  const pieces = row.encoding.pieces.filter((piece) => piece.operand === 'imm');
  const spare = 32 - row.encoding.immBits;
  return (word) => {
    let value = 0;
    for (const { lo, width, shift } of pieces) value |= ((word >>> lo) & (2 ** width - 1)) << shift;
    return row.encoding.immIsSigned ? (value << spare) >> spare : value;
  };
};
/** No slot immediate has this value: the CSR does not exist. */
const noCsr = -1;
/** By how the row's handler wants it (interpreted.ts). */
const immediates: Readonly<Record<Format, (row: Instruction) => (word: number) => number>> = {
  plain: immOf,
  relative: (row) => {
    const imm = immOf(row);
    return (word) => imm(word) * 8;
  },
  float: (row) => {
    const [rs3, rm] = [fieldOf(row, 'rs3'), fieldOf(row, 'rm')];
    return (word) => (bitsOf(rs3, word) << 19) | bitsOf(rm, word);
  },
  csr: (row) => {
    const [csr, source] = [fieldOf(row, 'csr'), fieldOf(row, 'rs1') ?? fieldOf(row, 'imm')];
    const always = row.name.startsWith('csrrw');
    return (word) => {
      const index = csrIndex(bitsOf(csr, word));
      if (index === undefined) return noCsr;
      return index | (always || bitsOf(source, word) !== 0 ? 0x10000 : 0);
    };
  },
};
const packingOf = (row: Instruction): Packing => ({
  row,
  handler: handlerOf.get(`${row.name}/4`)!,
  rd: fieldOf(row, 'rd'),
  rs1: fieldOf(row, 'rs1'),
  // A CSR instruction's immediate takes the place of rs2.
  rs2: row.format === 'csr' ? fieldOf(row, 'imm') : fieldOf(row, 'rs2'),
  immediate: immediates[row.format](row),
});

const packings = new Map(instructions.map((row) => [row, packingOf(row)]));
type Packed = readonly (readonly Packing[])[];
const optional = new Set<string>(extensionNames);
const isThere = ({ extension }: Instruction, extensions: Extensions): boolean => {
  const name = extension.toLowerCase();
  return !optional.has(name) || extensions.has(name as OptionalExtension);
};
const packed = (extensions: Extensions): Packed =>
  buckets.map((rows) => rows.filter((row) => isThere(row, extensions)).map((row) => packings.get(row)!));
/** Short instructions are all of the base. */
const everything = packed(allExtensions);

const decodeLong = (table: Packed, view: DataView, to: number, word: number): void => {
  for (const packing of table[bucket(word)]!) {
    const { encoding, format } = packing.row;
    if ((word & encoding.mask) >>> 0 !== encoding.match) continue;
    const imm = packing.immediate(word);
    const rd = bitsOf(packing.rd, word);
    const source = bitsOf(packing.rs2, word);
    view.setUint16(to + slot.handler, format === 'csr' && imm === noCsr ? illegalHandler : packing.handler, true);
    // x0 is written to a 33rd register.
    view.setUint16(to + slot.a, (rd === 0 && !encoding.isFloatRd ? 32 : rd) * 8, true);
    view.setUint16(to + slot.b, bitsOf(packing.rs1, word) * 8, true);
    view.setUint16(to + slot.c, format === 'csr' ? source : source * 8, true);
    view.setInt32(to + slot.imm, imm, true);
    return;
  }
  view.setUint16(to + slot.handler, illegalHandler, true);
};

/** Slots of all 16-bit words, each decoded through its long form when first met. */
const shortSlots = new DataView(new ArrayBuffer(0x10000 * slot.bytes));
const decodeShort = (view: DataView, to: number, half: number): void => {
  const from = half * slot.bytes;
  if (shortSlots.getUint16(from, true) === 0) {
    const found = expand(half);
    const row = found && byName.get(found.row.expands)!;
    if (row) {
      decodeLong(everything, shortSlots, from, encodeOperands(row.encoding, found.operands));
      shortSlots.setUint16(from + slot.handler, handlerOf.get(`${row.name}/2`)!, true);
    } else shortSlots.setUint16(from + slot.handler, illegalHandler, true);
  }
  view.setInt32(to, shortSlots.getInt32(from, true), true);
  view.setInt32(to + 4, shortSlots.getInt32(from + 4, true), true);
  view.setInt32(to + slot.imm, shortSlots.getInt32(from + slot.imm, true), true);
};

export const decoder = (view: DataView, extensions: Extensions): Decoder => {
  const table = packed(extensions);
  return {
    pageEnd: engineHandlers.pageEnd,
    decode: (at, to, room, upper) => {
      const half = view.getUint16(at, true);
      if ((half & 3) !== 3) {
        decodeShort(view, to, half);
        return 2;
      }
      if (room < 4 && upper === undefined) {
        view.setUint16(to + slot.handler, engineHandlers.crossing, true);
        view.setUint16(to + slot.real, 0, true);
        return 2;
      }
      decodeLong(table, view, to, (half | ((upper ?? view.getUint16(at + 2, true)) << 16)) >>> 0);
      return 4;
    },
  };
};
