import { csrs } from '../cpu/riscv/csr.ts';
import type { Hart } from '../cpu/riscv/hart.ts';
import { hex, unhex } from './packets.ts';

/** One register as GDB sees it. */
interface Register {
  readonly name: string;
  /** GDB's number (gdb/riscv-tdep.h): x, pc, f, then CSRs at 65 + their number. */
  readonly number: number;
  readonly bits: 32 | 64;
  readonly type: string;
  read(hart: Hart): bigint;
  write(hart: Hart, value: bigint): boolean;
}

// prettier-ignore
const integerNames = [
  'zero', 'ra', 'sp', 'gp', 'tp', 't0', 't1', 't2', 'fp', 's1', 'a0', 'a1', 'a2', 'a3', 'a4', 'a5', 'a6', 'a7',
  's2', 's3', 's4', 's5', 's6', 's7', 's8', 's9', 's10', 's11', 't3', 't4', 't5', 't6',
];
// prettier-ignore
const floatNames = [
  'ft0', 'ft1', 'ft2', 'ft3', 'ft4', 'ft5', 'ft6', 'ft7', 'fs0', 'fs1', 'fa0', 'fa1', 'fa2', 'fa3', 'fa4', 'fa5', 'fa6',
  'fa7', 'fs2', 'fs3', 'fs4', 'fs5', 'fs6', 'fs7', 'fs8', 'fs9', 'fs10', 'fs11', 'ft8', 'ft9', 'ft10', 'ft11',
];
const pcNumber = 32;
const firstFloat = 33;
const firstCsr = 65;
const floatCsrs: readonly string[] = ['fflags', 'frm', 'fcsr'];
/** Reading these claims an interrupt or goes to a device. */
const withSideEffects: readonly string[] = ['stopei', 'mtopei', 'sireg', 'mireg'];

const pointers: Readonly<Record<string, string>> = { ra: 'code_ptr', sp: 'data_ptr', gp: 'data_ptr', tp: 'data_ptr' };
const integers = integerNames.map((name, i): Register => ({
  name, number: i, bits: 64, type: pointers[name] ?? 'int', read: (hart) => hart.x(i), write: (hart, value) => (hart.setX(i, value), true),
})); // prettier-ignore
const pc: Register = {
  name: 'pc', number: pcNumber, bits: 64, type: 'code_ptr', read: (hart) => hart.pc, write: (hart, value) => ((hart.pc = value), true),
}; // prettier-ignore
const floats = floatNames.map((name, i): Register => ({
  name, number: firstFloat + i, bits: 64, type: 'ieee_double', read: (hart) => hart.f(i), write: (hart, value) => (hart.setF(i, value), true),
})); // prettier-ignore
const control = csrs
  .filter(({ name }) => !withSideEffects.includes(name))
  .map(({ name, number }): Register => ({
    name, number: firstCsr + number, bits: floatCsrs.includes(name) ? 32 : 64, type: 'int',
    read: (hart) => hart.csr(name) ?? 0n, write: (hart, value) => hart.setCsr(name, value),
  })); // prettier-ignore
const privilege: Register = {
  name: 'priv', number: firstCsr + 4096, bits: 64, type: 'int', read: (hart) => BigInt(hart.privilege), write: () => false,
}; // prettier-ignore

/** Sent at once by `g`. */
const general: readonly Register[] = [...integers, pc, ...floats];
const features: Readonly<Record<string, readonly Register[]>> = {
  'org.gnu.gdb.riscv.cpu': [...integers, pc],
  'org.gnu.gdb.riscv.fpu': [...floats, ...control.filter(({ name }) => floatCsrs.includes(name))],
  'org.gnu.gdb.riscv.csr': control.filter(({ name }) => !floatCsrs.includes(name)),
  'org.gnu.gdb.riscv.virtual': [privilege],
};
const byNumber = new Map(
  Object.values(features).flatMap((list) => list.map((register) => [register.number, register])),
);

const encode = ({ bits }: Register, value: bigint): string => {
  const bytes = new Uint8Array(bits / 8);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number((value >> BigInt(8 * i)) & 0xffn);
  return hex(bytes);
};
const decode = (text: string): bigint | undefined =>
  unhex(text)?.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);

/** The target description that GDB asks for (GDB manual, appendix G). */
export const targetXml = (): string =>
  [
    '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd">',
    '<target><architecture>riscv:rv64</architecture>',
    ...Object.entries(features).map(
      ([name, registers]) =>
        `<feature name="${name}">${registers
          .map((r) => `<reg name="${r.name}" bitsize="${r.bits}" type="${r.type}" regnum="${r.number}"/>`)
          .join('')}</feature>`,
    ),
    '</target>',
  ].join('\n');

/** `g`. */
export const readGeneral = (hart: Hart): string => general.map((row) => encode(row, row.read(hart))).join('');

/** `G`; false where it is not all of them. */
export function writeGeneral(hart: Hart, text: string): boolean {
  const digits = 16;
  if (text.length < general.length * digits || unhex(text) === undefined) return false;
  general.forEach((row, i) => row.write(hart, decode(text.slice(i * digits, (i + 1) * digits))!));
  return true;
}

/** `p`: undefined where there is no such register. */
export function readRegister(hart: Hart, number: number): string | undefined {
  const row = byNumber.get(number);
  return row && encode(row, row.read(hart));
}

/** `P`. */
export function writeRegister(hart: Hart, number: number, text: string): boolean {
  const value = decode(text);
  return value !== undefined && byNumber.get(number)?.write(hart, value) === true;
}
