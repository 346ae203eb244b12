/**
 * Encodings as the specification draws them, most significant bits first: literal bits, and fields by name.
 * `imm[4|9:6]` holds those bits of the immediate, in that order; `rd'` is a register of x8 … x15, `fd` an rd that is
 * a floating-point register.
 */
import { invariant } from '#vmm/base/invariant';

/** What a field means for the operand of its name. */
export type OperandName = 'rd' | 'rs1' | 'rs2' | 'rs3' | 'imm' | 'rm' | 'csr' | 'aq' | 'fence';
export type Operands = Readonly<Partial<Record<OperandName, number>>>;

interface Piece {
  readonly operand: OperandName;
  /** Where in the instruction word. */
  readonly lo: number;
  readonly width: number;
  /** Where in the operand's value. */
  readonly shift: number;
  /** Added to the value: 8 for the short register fields. */
  readonly bias: number;
}

export interface Encoding {
  readonly bytes: 2 | 4;
  /** word & mask = match for every instruction of this encoding. */
  readonly mask: number;
  readonly match: number;
  readonly pieces: readonly Piece[];
  /** Bits of the immediate, one more than its highest; sign bit included. */
  readonly immBits: number;
  readonly immIsSigned: boolean;
  /** rd is a floating-point register: written `fd`. */
  readonly isFloatRd: boolean;
}

const widths: Readonly<Record<string, number>> = {
  rd: 5, fd: 5, rs1: 5, rs2: 5, rs3: 5, rm: 3, csr: 12, aq: 2, fence: 12, "rd'": 3, "rs1'": 3, "rs2'": 3,
}; // prettier-ignore

/** @param signed whether the immediate is sign-extended from its highest bit */
export const parseEncoding = (text: string, signed: boolean): Encoding => {
  const tokens = text.split(' ');
  const spans = (token: string): [number, number][] =>
    token
      .slice(4, -1)
      .split('|')
      .map((span) => span.split(':').map(Number))
      .map(([hi, lo]) => [hi!, lo ?? hi!]);
  const widthOf = (token: string): number => {
    if (/^[01]+$/.test(token)) return token.length;
    if (token.startsWith('imm[')) return spans(token).reduce((sum, [hi, lo]) => sum + hi - lo + 1, 0);
    const width = widths[token];
    invariant(width !== undefined, `no field ${token} in "${text}"`);
    return width;
  };
  const bits = tokens.reduce((sum, token) => sum + widthOf(token), 0);
  invariant(bits === 16 || bits === 32, `"${text}" has ${bits} bits`);
  let [lo, mask, match, immBits] = [bits, 0, 0, 0];
  const pieces: Piece[] = [];
  for (const token of tokens) {
    const width = widthOf(token);
    lo -= width;
    if (/^[01]+$/.test(token)) {
      mask |= (2 ** width - 1) << lo;
      match |= Number.parseInt(token, 2) << lo;
    } else if (token.startsWith('imm[')) {
      let at = lo + width;
      for (const [hi, low] of spans(token)) {
        at -= hi - low + 1;
        pieces.push({ operand: 'imm', lo: at, width: hi - low + 1, shift: low, bias: 0 });
        immBits = Math.max(immBits, hi + 1);
      }
    } else {
      const operand = token.replace("'", '').replace('fd', 'rd') as OperandName;
      pieces.push({ operand, lo, width, shift: 0, bias: token.endsWith("'") ? 8 : 0 });
    }
  }
  return {
    bytes: bits === 16 ? 2 : 4,
    mask: mask >>> 0,
    match: match >>> 0,
    pieces,
    immBits,
    immIsSigned: signed,
    isFloatRd: tokens.includes('fd'),
  };
};

export const matches = (encoding: Encoding, word: number): boolean => (word & encoding.mask) >>> 0 === encoding.match;

/** The operands of a word that matches. */
export const decodeOperands = (encoding: Encoding, word: number): Operands => {
  const out: Partial<Record<OperandName, number>> = {};
  for (const { operand, lo, width, shift, bias } of encoding.pieces)
    out[operand] = (out[operand] ?? 0) | ((((word >>> lo) & (2 ** width - 1)) + bias) << shift);
  if (encoding.immIsSigned && out.imm !== undefined) {
    const spare = 32 - encoding.immBits;
    out.imm = (out.imm << spare) >> spare;
  }
  return out;
};

/** The word with these operands; missing ones are 0 (of a short register field: x8). */
export const encodeOperands = (encoding: Encoding, operands: Operands): number => {
  let word = encoding.match;
  for (const { operand, lo, width, shift, bias } of encoding.pieces)
    word |= ((((operands[operand] ?? bias) - bias) >> shift) & (2 ** width - 1)) << lo;
  return word >>> 0;
};
