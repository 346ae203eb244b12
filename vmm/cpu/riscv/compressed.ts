/**
 * The C extension (ISA manual, volume I, "C" chapter, listings): each row names the instruction it is short for.
 * A decoder takes the first row that matches and whose operands are `valid`.
 */
import { decodeOperands, type Encoding, matches, type Operands, parseEncoding } from './encoding.ts';

export interface Compressed {
  readonly name: string;
  readonly encoding: Encoding;
  readonly expands: string;
  /** Operands of the long instruction, from those of the short one. */
  readonly operands: (short: Operands) => Operands;
  readonly valid: (short: Operands) => boolean;
}

type Map = (short: Operands) => Operands;
const same: Map = (o) => o;
const toRd: Map = (o) => ({ ...o, rs1: o.rd! });
const sp: Map = (o) => ({ ...o, rs1: 2 });
const any: (short: Operands) => boolean = () => true;
const hasImm = (o: Operands): boolean => o.imm !== 0;
const hasRd = (o: Operands): boolean => o.rd !== 0;

const rows: Compressed[] = [];
const row = (name: string, text: string, expands: string, operands: Map, valid = any, signed = false): void => {
  rows.push({ name, encoding: parseEncoding(text, signed), expands, operands, valid });
};

// prettier-ignore
{
  row('c.addi4spn', "000 imm[5:4|9:6|2|3] rd' 00", 'addi', sp, hasImm);
  row('c.fld', "001 imm[5:3] rs1' imm[7:6] rd' 00", 'fld', same);
  row('c.lw',  "010 imm[5:3] rs1' imm[2|6] rd' 00", 'lw', same);
  row('c.ld',  "011 imm[5:3] rs1' imm[7:6] rd' 00", 'ld', same);
  row('c.fsd', "101 imm[5:3] rs1' imm[7:6] rs2' 00", 'fsd', same);
  row('c.sw',  "110 imm[5:3] rs1' imm[2|6] rs2' 00", 'sw', same);
  row('c.sd',  "111 imm[5:3] rs1' imm[7:6] rs2' 00", 'sd', same);

  row('c.addi',  '000 imm[5] rd imm[4:0] 01', 'addi', toRd, any, true);
  row('c.addiw', '001 imm[5] rd imm[4:0] 01', 'addiw', toRd, hasRd, true);
  row('c.li',    '010 imm[5] rd imm[4:0] 01', 'addi', (o) => ({ ...o, rs1: 0 }), any, true);
  row('c.addi16sp', '011 imm[9] 00010 imm[4|6|8:7|5] 01', 'addi', (o) => ({ ...o, rd: 2, rs1: 2 }), hasImm, true);
  row('c.lui',   '011 imm[17] rd imm[16:12] 01', 'lui', same, (o) => hasImm(o) && o.rd !== 2, true);
  row('c.srli',  "100 imm[5] 00 rd' imm[4:0] 01", 'srli', toRd);
  row('c.srai',  "100 imm[5] 01 rd' imm[4:0] 01", 'srai', toRd);
  row('c.andi',  "100 imm[5] 10 rd' imm[4:0] 01", 'andi', toRd, any, true);
  row('c.sub',   "100011 rd' 00 rs2' 01", 'sub', toRd);
  row('c.xor',   "100011 rd' 01 rs2' 01", 'xor', toRd);
  row('c.or',    "100011 rd' 10 rs2' 01", 'or', toRd);
  row('c.and',   "100011 rd' 11 rs2' 01", 'and', toRd);
  row('c.subw',  "100111 rd' 00 rs2' 01", 'subw', toRd);
  row('c.addw',  "100111 rd' 01 rs2' 01", 'addw', toRd);
  row('c.j',     '101 imm[11|4|9:8|10|6|7|3:1|5] 01', 'jal', (o) => ({ ...o, rd: 0 }), any, true);
  row('c.beqz',  "110 imm[8|4:3] rs1' imm[7:6|2:1|5] 01", 'beq', (o) => ({ ...o, rs2: 0 }), any, true);
  row('c.bnez',  "111 imm[8|4:3] rs1' imm[7:6|2:1|5] 01", 'bne', (o) => ({ ...o, rs2: 0 }), any, true);

  row('c.slli',  '000 imm[5] rd imm[4:0] 10', 'slli', toRd);
  row('c.fldsp', '001 imm[5] rd imm[4:3|8:6] 10', 'fld', sp);
  row('c.lwsp',  '010 imm[5] rd imm[4:2|7:6] 10', 'lw', sp, hasRd);
  row('c.ldsp',  '011 imm[5] rd imm[4:3|8:6] 10', 'ld', sp, hasRd);
  row('c.jr',    '1000 rs1 00000 10', 'jalr', (o) => ({ ...o, rd: 0, imm: 0 }), (o) => o.rs1 !== 0);
  row('c.mv',    '1000 rd rs2 10', 'add', (o) => ({ ...o, rs1: 0 }), (o) => o.rs2 !== 0);
  row('c.ebreak', '1001000000000010', 'ebreak', same);
  row('c.jalr',  '1001 rs1 00000 10', 'jalr', (o) => ({ ...o, rd: 1, imm: 0 }), (o) => o.rs1 !== 0);
  row('c.add',   '1001 rd rs2 10', 'add', toRd, (o) => o.rs2 !== 0);
  row('c.fsdsp', '101 imm[5:3|8:6] rs2 10', 'fsd', sp);
  row('c.swsp',  '110 imm[5:2|7:6] rs2 10', 'sw', sp);
  row('c.sdsp',  '111 imm[5:3|8:6] rs2 10', 'sd', sp);
}

export const compressed: readonly Compressed[] = rows;

/** The row and the operands of the long instruction, or undefined where the 16 bits are illegal. */
export const expand = (half: number): { row: Compressed; operands: Operands } | undefined => {
  for (const row of compressed) {
    if (!matches(row.encoding, half)) continue;
    const short = decodeOperands(row.encoding, half);
    if (row.valid(short)) return { row, operands: row.operands(short) };
  }
  return undefined;
};
