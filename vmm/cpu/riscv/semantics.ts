/**
 * What an instruction's meaning is written in. The interpreter gives operands as loads of predecoded fields, a
 * translator as constants and locals: the table (instructions.ts) says it once for both.
 */
import type { Width } from '../engine/access.ts';
import type { Code, I32, I64, Local, Statement, ValueType } from '../engine/wasm.ts';
import type { FloatFormat, FloatOperation } from './float.ts';

/** Functions of the privileged architecture (privileged.ts). They may fault, and may set the pc. */
export type PrivilegedName = 'ecall' | 'mret' | 'sret' | 'wfi' | 'sfenceVma' | 'fenceI' | 'zeroBlock';

export interface Semantics {
  /** A scratch local, free again behind the instruction. */
  local<T extends ValueType>(type: T): Local<T>;
  x(operand: 'rs1' | 'rs2'): I64;
  setX(value: I64): Statement;
  /** Not 0 where the operand is another register than x0. */
  names(operand: 'rs1' | 'rs2'): I32;
  readonly imm: I64;
  /** Address of this instruction, and of the one behind it. */
  readonly pc: I64;
  readonly nextPc: I64;
  /** To an even address. */
  jump(target: I64): Statement;
  /** To pc + imm. */
  jumpRelative(): Statement;
  /** Upper half of the unsigned product. */
  mulhu(a: I64, b: I64): I64;

  load(kind: Width, address: I64): I64;
  store(kind: Width, address: I64, value: I64): Statement;
  /** Host address for a read-modify-write; faults unless aligned and in RAM. */
  atomicAddress(bytes: 4 | 8, address: I64): I32;
  /** Loads and reserves. */
  loadReserved(bytes: 4 | 8, address: I64): I64;
  /** Stores if the reservation holds: 0 = done, 1 = not. */
  storeConditional(bytes: 4 | 8, address: I64, value: I64): I64;

  /** Raw bits of a floating-point operand; 'f32' checks NaN boxing and leaves 32 bits zero-extended. */
  f(format: FloatFormat, operand: 'rs1' | 'rs2' | 'rs3'): I64;
  setF(format: FloatFormat, value: I64): Statement;
  /** The register's 64 bits as they are, for stores and moves. */
  fRaw(operand: 'rs1' | 'rs2'): I64;
  /**
   * Illegal unless mstatus.FS is on and the rounding mode (where there is one) valid; then `body`. FS becomes Dirty
   * unless nothing of the floating-point state can have changed.
   */
  float(body: Statement, changes?: boolean): Statement;
  /** An operation of the soft-float library, in the instruction's rounding mode. */
  arithmetic(operation: FloatOperation, format: FloatFormat, ...operands: I64[]): I64;

  /** rd = CSR; CSR = `update(old)` unless the instruction is one that only reads. */
  csr(update: (old: I64) => I64): Statement;
  raise(cause: number, value: I64): Statement;
  privileged(name: PrivilegedName, ...args: Code[]): Statement;
}
