/**
 * RV64IMAFDC, Zicsr, Zifencei, Zba, Zbb, Zbs, Zicond, Zicboz, Zawrs and the privileged instructions: one row each. Everything that knows instructions
 * (decoder, interpreter, test assembler, tests) is derived from these rows. Encodings: RISC-V ISA manual, volume I,
 * "RV32/64G Instruction Set Listings", and volume II, "Instruction Set Listings".
 */
import type { I32, I64, Statement } from '../engine/wasm.ts';
import type { Width } from '../engine/access.ts';
import { choose, i32, i64, select, when } from '../engine/wasm.ts';
import { type Encoding, parseEncoding } from './encoding.ts';
import type { FloatFormat, FloatOperation } from './float.ts';
import type { Semantics } from './semantics.ts';

/** How the operands are packed into a slot, beyond rd, rs1 and rs2. */
export type Format = 'plain' | 'relative' | 'csr' | 'float';

export interface Instruction {
  readonly name: string;
  readonly encoding: Encoding;
  /** One of `optionalExtensions`, its first letter a capital, or one that every hart has. */
  readonly extension: string;
  readonly format: Format;
  readonly run: (b: Semantics) => Statement;
}

type Run = (b: Semantics) => Statement;
const c = i64.const;
const bool = (condition: I32): I64 => i64.extendU(condition);
const word = i64.extend32s;
const low = (value: I64): I64 => i64.and(value, c(0xffff_ffff));

const rr = (f: (a: I64, b: I64) => I64): Run => (b) => b.setX(f(b.x('rs1'), b.x('rs2'))); // prettier-ignore
const ri = (f: (a: I64, b: I64) => I64): Run => (b) => b.setX(f(b.x('rs1'), b.imm)); // prettier-ignore
const branch = (f: (a: I64, b: I64) => I32): Run => (b) => when(f(b.x('rs1'), b.x('rs2')), b.jumpRelative()); // prettier-ignore
const address = (b: Semantics): I64 => i64.add(b.x('rs1'), b.imm);
const load = (kind: Width): Run => (b) => b.setX(b.load(kind, address(b))); // prettier-ignore
const store = (kind: Width): Run => (b) => b.store(kind, address(b), b.x('rs2')); // prettier-ignore

/** rd = f(rs1, rs2) with both evaluated once. */
const twice = (f: (a: I64, b: I64, semantics: Semantics) => I64, prepare = (x: I64): I64 => x): Run => (b) => {
  const [x, y] = [b.local('i64'), b.local('i64')];
  return [x.set(prepare(b.x('rs1'))), y.set(prepare(b.x('rs2'))), b.setX(f(x.get, y.get, b))];
}; // prettier-ignore
const lowest = c(-(1n << 63n));
const div = (a: I64, b: I64): I64 =>
  choose('i64', i64.eqz(b), c(-1), choose('i64', i32.and(i64.eq(b, c(-1)), i64.eq(a, lowest)), lowest, i64.divS(a, b)));
const divu = (a: I64, b: I64): I64 => choose('i64', i64.eqz(b), c(-1), i64.divU(a, b));
const rem = (a: I64, b: I64): I64 => choose('i64', i64.eqz(b), a, i64.remS(a, b));
const remu = (a: I64, b: I64): I64 => choose('i64', i64.eqz(b), a, i64.remU(a, b));
const ifNegative = (a: I64, value: I64): I64 => i64.and(i64.shrS(a, c(63)), value);

const amo = (bytes: 4 | 8, f: (old: I64, operand: I64) => I64): Run => (b) => {
  const [at, old] = [b.local('i32'), b.local('i64')];
  return [
    at.set(b.atomicAddress(bytes, b.x('rs1'))),
    old.set(bytes === 4 ? i64.load32s(at.get) : i64.load(at.get)),
    bytes === 4 ? i64.store32(at.get, f(old.get, word(b.x('rs2')))) : i64.store(at.get, f(old.get, b.x('rs2'))),
    b.setX(old.get),
  ];
}; // prettier-ignore
const pick = (test: (a: I64, b: I64) => I32) => (old: I64, operand: I64): I64 => select(test(old, operand), old, operand); // prettier-ignore
const pickWordU = (test: (a: I64, b: I64) => I32) => (old: I64, operand: I64): I64 => select(test(low(old), low(operand)), old, operand); // prettier-ignore

const fop = (format: FloatFormat, operation: FloatOperation, operands: 1 | 2): Run => (b) =>
  b.float(
    b.setF(
      format,
      b.arithmetic(operation, format, ...(['rs1', 'rs2'] as const).slice(0, operands).map((o) => b.f(format, o))),
    ),
  ); // prettier-ignore
const signBit = (format: FloatFormat): I64 => c(format === 'f32' ? 1n << 31n : 1n << 63n);
/** rs1 * rs2 + rs3 with the product or the addend negated. */
const fused = (format: FloatFormat, product: boolean, addend: boolean): Run => (b) => {
  const flip = (value: I64, on: boolean): I64 => (on ? i64.xor(value, signBit(format)) : value);
  return b.float(
    b.setF(
      format,
      b.arithmetic('madd', format, flip(b.f(format, 'rs1'), product), b.f(format, 'rs2'), flip(b.f(format, 'rs3'), addend)),
    ),
  );
}; // prettier-ignore
const inject = (format: FloatFormat, sign: (a: I64, b: I64) => I64): Run => (b) => {
  const [x, y] = [b.f(format, 'rs1'), b.f(format, 'rs2')];
  const mask = signBit(format);
  return b.float(b.setF(format, i64.or(i64.and(x, i64.xor(mask, c(-1))), i64.and(sign(x, y), mask))));
}; // prettier-ignore
const fcompare = (format: FloatFormat, operation: FloatOperation): Run => (b) =>
  b.float(b.setX(b.arithmetic(operation, format, b.f(format, 'rs1'), b.f(format, 'rs2')))); // prettier-ignore
const toInteger = (format: FloatFormat, operation: FloatOperation): Run => (b) =>
  b.float(b.setX(b.arithmetic(operation, format, b.f(format, 'rs1')))); // prettier-ignore
const fromInteger = (format: FloatFormat, operation: FloatOperation, value = (x: I64): I64 => x): Run => (b) =>
  b.float(b.setF(format, b.arithmetic(operation, format, value(b.x('rs1'))))); // prettier-ignore

const rows: Instruction[] = [];
const signedFormats = /imm\[(11:0|11:5|12\|10:5|31:12|20\|10:1\|11\|19:12)\]/;
const row = (name: string, extension: string, text: string, run: Run, format: Format = 'plain'): void => {
  rows.push({ name, extension, encoding: parseEncoding(text, signedFormats.test(text)), format, run });
};

// prettier-ignore
{
  row('lui',   'I', 'imm[31:12] rd 0110111', (b) => b.setX(b.imm));
  row('auipc', 'I', 'imm[31:12] rd 0010111', (b) => b.setX(i64.add(b.pc, b.imm)));
  row('jal',   'I', 'imm[20|10:1|11|19:12] rd 1101111', (b) => [b.setX(b.nextPc), b.jumpRelative()], 'relative');
  row('jalr',  'I', 'imm[11:0] rs1 000 rd 1100111', (b) => {
    const target = b.local('i64');
    return [target.set(i64.and(address(b), c(-2))), b.setX(b.nextPc), b.jump(target.get)];
  });
  for (const [name, funct3, test] of [
    ['beq', '000', i64.eq], ['bne', '001', i64.ne], ['blt', '100', i64.ltS], ['bge', '101', i64.geS], ['bltu', '110', i64.ltU], ['bgeu', '111', i64.geU],
  ] as const) row(name, 'I', `imm[12|10:5] rs2 rs1 ${funct3} imm[4:1|11] 1100011`, branch(test), 'relative');
  for (const [name, funct3, kind] of [
    ['lb', '000', 's8'], ['lh', '001', 's16'], ['lw', '010', 's32'], ['ld', '011', 'd64'], ['lbu', '100', 'u8'], ['lhu', '101', 'u16'], ['lwu', '110', 'u32'],
  ] as const) row(name, 'I', `imm[11:0] rs1 ${funct3} rd 0000011`, load(kind));
  for (const [name, funct3, kind] of [['sb', '000', 's8'], ['sh', '001', 's16'], ['sw', '010', 's32'], ['sd', '011', 'd64']] as const)
    row(name, 'I', `imm[11:5] rs2 rs1 ${funct3} imm[4:0] 0100011`, store(kind));
  for (const [name, funct3, f] of [
    ['addi', '000', i64.add], ['slti', '010', (a: I64, b: I64) => bool(i64.ltS(a, b))], ['sltiu', '011', (a: I64, b: I64) => bool(i64.ltU(a, b))],
    ['xori', '100', i64.xor], ['ori', '110', i64.or], ['andi', '111', i64.and],
  ] as const) row(name, 'I', `imm[11:0] rs1 ${funct3} rd 0010011`, ri(f));
  row('slli',  'I', '000000 imm[5:0] rs1 001 rd 0010011', ri(i64.shl));
  row('srli',  'I', '000000 imm[5:0] rs1 101 rd 0010011', ri(i64.shrU));
  row('srai',  'I', '010000 imm[5:0] rs1 101 rd 0010011', ri(i64.shrS));
  row('addiw', 'I', 'imm[11:0] rs1 000 rd 0011011', ri((a, b) => word(i64.add(a, b))));
  row('slliw', 'I', '0000000 imm[4:0] rs1 001 rd 0011011', ri((a, b) => word(i64.shl(a, b))));
  row('srliw', 'I', '0000000 imm[4:0] rs1 101 rd 0011011', ri((a, b) => word(i64.shrU(low(a), b))));
  row('sraiw', 'I', '0100000 imm[4:0] rs1 101 rd 0011011', ri((a, b) => i64.shrS(word(a), b)));
  const short = (b: I64): I64 => i64.and(b, c(31));
  for (const [name, bits, f] of [
    ['add', '0000000 000', i64.add], ['sub', '0100000 000', i64.sub], ['sll', '0000000 001', i64.shl],
    ['slt', '0000000 010', (a: I64, b: I64) => bool(i64.ltS(a, b))], ['sltu', '0000000 011', (a: I64, b: I64) => bool(i64.ltU(a, b))],
    ['xor', '0000000 100', i64.xor], ['srl', '0000000 101', i64.shrU], ['sra', '0100000 101', i64.shrS],
    ['or', '0000000 110', i64.or], ['and', '0000000 111', i64.and], ['mul', '0000001 000', i64.mul],
  ] as const) row(name, name === 'mul' ? 'M' : 'I', `${bits.slice(0, 7)} rs2 rs1 ${bits.slice(8)} rd 0110011`, rr(f));
  for (const [name, bits, f] of [
    ['addw', '0000000 000', i64.add], ['subw', '0100000 000', i64.sub], ['sllw', '0000000 001', (a: I64, b: I64) => i64.shl(a, short(b))],
    ['srlw', '0000000 101', (a: I64, b: I64) => i64.shrU(low(a), short(b))], ['sraw', '0100000 101', (a: I64, b: I64) => i64.shrS(word(a), short(b))],
    ['mulw', '0000001 000', i64.mul],
  ] as const) row(name, name === 'mulw' ? 'M' : 'I', `${bits.slice(0, 7)} rs2 rs1 ${bits.slice(8)} rd 0111011`, rr((a, b) => word(f(a, b))));
  row('mulh',   'M', '0000001 rs2 rs1 001 rd 0110011', twice((a, b, s) => i64.sub(i64.sub(s.mulhu(a, b), ifNegative(a, b)), ifNegative(b, a))));
  row('mulhsu', 'M', '0000001 rs2 rs1 010 rd 0110011', twice((a, b, s) => i64.sub(s.mulhu(a, b), ifNegative(a, b))));
  row('mulhu',  'M', '0000001 rs2 rs1 011 rd 0110011', twice((a, b, s) => s.mulhu(a, b)));
  row('div',    'M', '0000001 rs2 rs1 100 rd 0110011', twice(div));
  row('divu',   'M', '0000001 rs2 rs1 101 rd 0110011', twice(divu));
  row('rem',    'M', '0000001 rs2 rs1 110 rd 0110011', twice(rem));
  row('remu',   'M', '0000001 rs2 rs1 111 rd 0110011', twice(remu));
  row('divw',   'M', '0000001 rs2 rs1 100 rd 0111011', twice((a, b) => word(div(a, b)), word));
  row('divuw',  'M', '0000001 rs2 rs1 101 rd 0111011', twice((a, b) => word(divu(a, b)), low));
  row('remw',   'M', '0000001 rs2 rs1 110 rd 0111011', twice((a, b) => word(rem(a, b)), word));
  row('remuw',  'M', '0000001 rs2 rs1 111 rd 0111011', twice((a, b) => word(remu(a, b)), low));
  // One hart runs at a time and in order: every fence, `pause` among them, holds already.
  row('fence',  'I', 'fence rs1 000 rd 0001111', () => []);
  row('fence.i', 'Zifencei', 'imm[11:0] rs1 001 rd 0001111', (b) => b.privileged('fenceI'));
  row('ecall',  'I', '00000000000000000000000001110011', (b) => b.privileged('ecall'));
  row('ebreak', 'I', '00000000000100000000000001110011', (b) => b.raise(3, b.pc));

  for (const [suffix, funct3, bytes] of [['w', '010', 4], ['d', '011', 8]] as const) {
    const row4 = (name: string, funct5: string, run: Run): void => row(`${name}.${suffix}`, 'A', `${funct5} aq rs2 rs1 ${funct3} rd 0101111`, run);
    row(`lr.${suffix}`, 'A', `00010 aq 00000 rs1 ${funct3} rd 0101111`, (b) => b.setX(b.loadReserved(bytes, b.x('rs1'))));
    row4('sc', '00011', (b) => b.setX(b.storeConditional(bytes, b.x('rs1'), b.x('rs2'))));
    row4('amoswap', '00001', amo(bytes, (_, operand) => operand));
    row4('amoadd', '00000', amo(bytes, i64.add));
    row4('amoxor', '00100', amo(bytes, i64.xor));
    row4('amoand', '01100', amo(bytes, i64.and));
    row4('amoor', '01000', amo(bytes, i64.or));
    row4('amomin', '10000', amo(bytes, pick(i64.ltS)));
    row4('amomax', '10100', amo(bytes, pick(i64.gtS)));
    row4('amominu', '11000', amo(bytes, bytes === 4 ? pickWordU(i64.ltU) : pick(i64.ltU)));
    row4('amomaxu', '11100', amo(bytes, bytes === 4 ? pickWordU(i64.gtU) : pick(i64.gtU)));
  }

  const csr = (name: string, funct3: string, update: (old: I64, operand: I64) => I64): void => {
    row(name, 'Zicsr', `csr rs1 ${funct3} rd 1110011`, (b) => b.csr((old) => update(old, b.x('rs1'))), 'csr');
    row(`${name}i`, 'Zicsr', `csr imm[4:0] 1${funct3.slice(1)} rd 1110011`, (b) => b.csr((old) => update(old, b.imm)), 'csr');
  };
  csr('csrrw', '001', (_, operand) => operand);
  csr('csrrs', '010', i64.or);
  csr('csrrc', '011', (old, operand) => i64.and(old, i64.xor(operand, c(-1))));

  for (const shift of [1, 2, 3] as const) {
    const funct3 = shift.toString(2).padStart(2, '0');
    row(`sh${shift}add`,    'Zba', `0010000 rs2 rs1 ${funct3}0 rd 0110011`, rr((a, b) => i64.add(i64.shl(a, c(shift)), b)));
    row(`sh${shift}add.uw`, 'Zba', `0010000 rs2 rs1 ${funct3}0 rd 0111011`, rr((a, b) => i64.add(i64.shl(low(a), c(shift)), b)));
  }
  row('add.uw',  'Zba', '0000100 rs2 rs1 000 rd 0111011', rr((a, b) => i64.add(low(a), b)));
  row('slli.uw', 'Zba', '000010 imm[5:0] rs1 001 rd 0011011', ri((a, b) => i64.shl(low(a), b)));

  const invert = (value: I64): I64 => i64.xor(value, c(-1));
  row('andn', 'Zbb', '0100000 rs2 rs1 111 rd 0110011', rr((a, b) => i64.and(a, invert(b))));
  row('orn',  'Zbb', '0100000 rs2 rs1 110 rd 0110011', rr((a, b) => i64.or(a, invert(b))));
  row('xnor', 'Zbb', '0100000 rs2 rs1 100 rd 0110011', rr((a, b) => invert(i64.xor(a, b))));
  const unary = (f: (a: I64) => I64): Run => (b) => b.setX(f(b.x('rs1')));
  const narrow = (f: (a: I32) => I32) => unary((a) => i64.extendU(f(i32.wrap(a))));
  row('clz',    'Zbb', '011000000000 rs1 001 rd 0010011', unary(i64.clz));
  row('ctz',    'Zbb', '011000000001 rs1 001 rd 0010011', unary(i64.ctz));
  row('cpop',   'Zbb', '011000000010 rs1 001 rd 0010011', unary(i64.popcnt));
  row('clzw',   'Zbb', '011000000000 rs1 001 rd 0011011', narrow(i32.clz));
  row('ctzw',   'Zbb', '011000000001 rs1 001 rd 0011011', narrow(i32.ctz));
  row('cpopw',  'Zbb', '011000000010 rs1 001 rd 0011011', narrow(i32.popcnt));
  row('sext.b', 'Zbb', '011000000100 rs1 001 rd 0010011', unary(i64.extend8s));
  row('sext.h', 'Zbb', '011000000101 rs1 001 rd 0010011', unary(i64.extend16s));
  row('zext.h', 'Zbb', '000010000000 rs1 100 rd 0111011', unary((a) => i64.and(a, c(0xffff))));
  for (const [name, funct3, test] of [['min', '100', i64.ltS], ['minu', '101', i64.ltU], ['max', '110', i64.gtS], ['maxu', '111', i64.gtU]] as const)
    row(name, 'Zbb', `0000101 rs2 rs1 ${funct3} rd 0110011`, twice((a, b) => select(test(a, b), a, b)));
  const rotateWord = (rotate: typeof i32.rotl) => (a: I64, b: I64): I64 => i64.extendS(rotate(i32.wrap(a), i32.wrap(b)));
  row('rol',   'Zbb', '0110000 rs2 rs1 001 rd 0110011', rr(i64.rotl));
  row('ror',   'Zbb', '0110000 rs2 rs1 101 rd 0110011', rr(i64.rotr));
  row('rori',  'Zbb', '011000 imm[5:0] rs1 101 rd 0010011', ri(i64.rotr));
  row('rolw',  'Zbb', '0110000 rs2 rs1 001 rd 0111011', rr(rotateWord(i32.rotl)));
  row('rorw',  'Zbb', '0110000 rs2 rs1 101 rd 0111011', rr(rotateWord(i32.rotr)));
  row('roriw', 'Zbb', '0110000 imm[4:0] rs1 101 rd 0011011', ri(rotateWord(i32.rotr)));
  row('orc.b', 'Zbb', '001010000111 rs1 101 rd 0010011', (b) => {
    const x = b.local('i64');
    const ones = c(0x0101_0101_0101_0101n);
    // Bit 7 of each byte: the byte is not 0.
    const lower = c(0x7f7f_7f7f_7f7f_7f7fn);
    const top = i64.or(i64.add(i64.and(x.get, lower), lower), x.get);
    return [x.set(b.x('rs1')), b.setX(i64.mul(i64.and(i64.shrU(top, c(7)), ones), c(0xff)))];
  });
  row('rev8', 'Zbb', '011010111000 rs1 101 rd 0010011', (b) => {
    const x = b.local('i64');
    const swap = (bits: number, mask: bigint): Statement =>
      x.set(i64.or(i64.and(i64.shrU(x.get, c(bits)), c(mask)), i64.shl(i64.and(x.get, c(mask)), c(bits))));
    return [
      x.set(i64.rotl(b.x('rs1'), c(32))), swap(16, 0x0000_ffff_0000_ffffn), swap(8, 0x00ff_00ff_00ff_00ffn), b.setX(x.get),
    ];
  });

  for (const [name, funct7, funct3, f] of [
    ['bclr', '010010', '001', (a: I64, bit: I64) => i64.and(a, i64.xor(i64.shl(c(1), bit), c(-1)))],
    ['bext', '010010', '101', (a: I64, bit: I64) => i64.and(i64.shrU(a, bit), c(1))],
    ['binv', '011010', '001', (a: I64, bit: I64) => i64.xor(a, i64.shl(c(1), bit))],
    ['bset', '001010', '001', (a: I64, bit: I64) => i64.or(a, i64.shl(c(1), bit))],
  ] as const) {
    row(name,       'Zbs', `${funct7}0 rs2 rs1 ${funct3} rd 0110011`, rr(f));
    row(`${name}i`, 'Zbs', `${funct7} imm[5:0] rs1 ${funct3} rd 0010011`, ri(f));
  }

  row('czero.eqz', 'Zicond', '0000111 rs2 rs1 101 rd 0110011', rr((a, b) => select(i64.eqz(b), c(0), a)));
  row('czero.nez', 'Zicond', '0000111 rs2 rs1 111 rd 0110011', rr((a, b) => select(i64.eqz(b), a, c(0))));
  row('cbo.zero',  'Zicboz', '000000000100 rs1 010 00000 0001111', (b) => b.privileged('zeroBlock', b.x('rs1')));
  // A wait may end for any reason, and other harts run only when this one's turn is over.
  row('wrs.nto',   'Zawrs', '00000000110100000000000001110011', () => []);
  row('wrs.sto',   'Zawrs', '00000001110100000000000001110011', () => []);

  row('sret', 'S', '00010000001000000000000001110011', (b) => b.privileged('sret'));
  row('mret', 'M-mode', '00110000001000000000000001110011', (b) => b.privileged('mret'));
  row('wfi',  'S', '00010000010100000000000001110011', (b) => b.privileged('wfi'));
  row('sfence.vma', 'S', '0001001 rs2 rs1 000 00000 1110011', (b) => b.privileged('sfenceVma', b.x('rs1'), b.x('rs2'), b.names('rs1'), b.names('rs2')));

  row('flw', 'F', 'imm[11:0] rs1 010 fd 0000111', (b) => b.float(b.setF('f32', b.load('u32', address(b)))));
  row('fld', 'D', 'imm[11:0] rs1 011 fd 0000111', (b) => b.float(b.setF('f64', b.load('d64', address(b)))));
  row('fsw', 'F', 'imm[11:5] rs2 rs1 010 imm[4:0] 0100111', (b) => b.float(b.store('s32', address(b), b.fRaw('rs2')), false));
  row('fsd', 'D', 'imm[11:5] rs2 rs1 011 imm[4:0] 0100111', (b) => b.float(b.store('d64', address(b), b.fRaw('rs2')), false));
  for (const [suffix, format, fmt, extension] of [['s', 'f32', '00', 'F'], ['d', 'f64', '01', 'D']] as const) {
    const fp = (name: string, text: string, run: Run): void => row(name, extension, text, run, 'float');
    fp(`fmadd.${suffix}`,  `rs3 ${fmt} rs2 rs1 rm fd 1000011`, fused(format, false, false));
    fp(`fmsub.${suffix}`,  `rs3 ${fmt} rs2 rs1 rm fd 1000111`, fused(format, false, true));
    fp(`fnmsub.${suffix}`, `rs3 ${fmt} rs2 rs1 rm fd 1001011`, fused(format, true, false));
    fp(`fnmadd.${suffix}`, `rs3 ${fmt} rs2 rs1 rm fd 1001111`, fused(format, true, true));
    fp(`fadd.${suffix}`,   `00000${fmt} rs2 rs1 rm fd 1010011`, fop(format, 'add', 2));
    fp(`fsub.${suffix}`,   `00001${fmt} rs2 rs1 rm fd 1010011`, fop(format, 'sub', 2));
    fp(`fmul.${suffix}`,   `00010${fmt} rs2 rs1 rm fd 1010011`, fop(format, 'mul', 2));
    fp(`fdiv.${suffix}`,   `00011${fmt} rs2 rs1 rm fd 1010011`, fop(format, 'div', 2));
    fp(`fsqrt.${suffix}`,  `01011${fmt} 00000 rs1 rm fd 1010011`, fop(format, 'sqrt', 1));
    fp(`fsgnj.${suffix}`,  `00100${fmt} rs2 rs1 000 fd 1010011`, inject(format, (_, y) => y));
    fp(`fsgnjn.${suffix}`, `00100${fmt} rs2 rs1 001 fd 1010011`, inject(format, (_, y) => i64.xor(y, c(-1))));
    fp(`fsgnjx.${suffix}`, `00100${fmt} rs2 rs1 010 fd 1010011`, inject(format, i64.xor));
    fp(`fmin.${suffix}`,   `00101${fmt} rs2 rs1 000 fd 1010011`, fop(format, 'min', 2));
    fp(`fmax.${suffix}`,   `00101${fmt} rs2 rs1 001 fd 1010011`, fop(format, 'max', 2));
    fp(`fle.${suffix}`,    `10100${fmt} rs2 rs1 000 rd 1010011`, fcompare(format, 'le'));
    fp(`flt.${suffix}`,    `10100${fmt} rs2 rs1 001 rd 1010011`, fcompare(format, 'lt'));
    fp(`feq.${suffix}`,    `10100${fmt} rs2 rs1 010 rd 1010011`, fcompare(format, 'eq'));
    fp(`fclass.${suffix}`, `11100${fmt} 00000 rs1 001 rd 1010011`, toInteger(format, 'classify'));
    fp(`fcvt.w.${suffix}`,  `11000${fmt} 00000 rs1 rm rd 1010011`, toInteger(format, 'toI32'));
    fp(`fcvt.wu.${suffix}`, `11000${fmt} 00001 rs1 rm rd 1010011`, toInteger(format, 'toU32'));
    fp(`fcvt.l.${suffix}`,  `11000${fmt} 00010 rs1 rm rd 1010011`, toInteger(format, 'toI64'));
    fp(`fcvt.lu.${suffix}`, `11000${fmt} 00011 rs1 rm rd 1010011`, toInteger(format, 'toU64'));
    fp(`fcvt.${suffix}.w`,  `11010${fmt} 00000 rs1 rm fd 1010011`, fromInteger(format, 'fromI64', word));
    fp(`fcvt.${suffix}.wu`, `11010${fmt} 00001 rs1 rm fd 1010011`, fromInteger(format, 'fromU64', low));
    fp(`fcvt.${suffix}.l`,  `11010${fmt} 00010 rs1 rm fd 1010011`, fromInteger(format, 'fromI64'));
    fp(`fcvt.${suffix}.lu`, `11010${fmt} 00011 rs1 rm fd 1010011`, fromInteger(format, 'fromU64'));
    fp(`fmv.x.${format === 'f32' ? 'w' : 'd'}`, `11100${fmt} 00000 rs1 000 rd 1010011`,
      (b) => b.float(b.setX(format === 'f32' ? word(b.fRaw('rs1')) : b.fRaw('rs1')), false));
    fp(`fmv.${format === 'f32' ? 'w' : 'd'}.x`, `11110${fmt} 00000 rs1 000 fd 1010011`, (b) => b.float(b.setF(format, b.x('rs1'))));
  }
  row('fcvt.s.d', 'D', '0100000 00001 rs1 rm fd 1010011', (b) => b.float(b.setF('f32', b.arithmetic('narrow', 'f64', b.f('f64', 'rs1')))), 'float');
  row('fcvt.d.s', 'D', '0100001 00000 rs1 rm fd 1010011', (b) => b.float(b.setF('f64', b.arithmetic('widen', 'f32', b.f('f32', 'rs1')))), 'float');
}

export const instructions: readonly Instruction[] = rows;
