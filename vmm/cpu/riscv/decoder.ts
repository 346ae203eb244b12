/** Instruction words into predecoded slots. */
import type { Decoder } from '../engine/code-cache.ts';
import { engineHandlers, firstHandler } from '../engine/interpreter.ts';
import { slot } from '../engine/layout.ts';
import { compressed, expand } from './compressed.ts';
import { csrIndex } from './csr.ts';
import { decodeOperands, matches, type Operands } from './encoding.ts';
import { type Instruction, instructions } from './instructions.ts';

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

/** x0 is written to a 33rd register. */
const writtenTo = (register: number, row: Instruction): number =>
  register === 0 && !row.encoding.isFloatRd ? 32 * 8 : register * 8;

const immediate = (row: Instruction, operands: Operands): number | undefined => {
  if (row.format === 'relative') return operands.imm! * 8;
  if (row.format === 'float') return ((operands.rs3 ?? 0) << 19) | (operands.rm ?? 0);
  if (row.format !== 'csr') return operands.imm ?? 0;
  const index = csrIndex(operands.csr!);
  if (index === undefined) return undefined;
  const writes = row.name.startsWith('csrrw') || (operands.rs1 ?? operands.imm) !== 0;
  return index | (writes ? 0x10000 : 0);
};

const write = (view: DataView, to: number, row: Instruction, operands: Operands, bytes: 2 | 4): void => {
  const imm = immediate(row, operands);
  view.setUint16(to + slot.handler, imm === undefined ? illegalHandler : handlerOf.get(`${row.name}/${bytes}`)!, true);
  view.setUint16(to + slot.a, writtenTo(operands.rd ?? 0, row), true);
  view.setUint16(to + slot.b, (operands.rs1 ?? 0) * 8, true);
  view.setUint16(to + slot.c, row.format === 'csr' ? (operands.imm ?? 0) : (operands.rs2 ?? 0) * 8, true);
  view.setInt32(to + slot.imm, imm ?? 0, true);
};

export const decoder = (view: DataView): Decoder => ({
  pageEnd: engineHandlers.pageEnd,
  decode: (at, to, room, upper) => {
    const half = view.getUint16(at, true);
    if ((half & 3) !== 3) {
      const found = expand(half);
      if (found) write(view, to, byName.get(found.row.expands)!, found.operands, 2);
      else view.setUint16(to + slot.handler, illegalHandler, true);
      return 2;
    }
    if (room < 4 && upper === undefined) {
      view.setUint16(to + slot.handler, engineHandlers.crossing, true);
      view.setUint16(to + slot.crossing, 0, true);
      return 2;
    }
    const word = (half | ((upper ?? view.getUint16(at + 2, true)) << 16)) >>> 0;
    const row = lookUpInstruction(word);
    if (row) write(view, to, row, decodeOperands(row.encoding, word), 4);
    else view.setUint16(to + slot.handler, illegalHandler, true);
    return 4;
  },
});
