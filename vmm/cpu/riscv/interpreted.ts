/** Operands as the interpreter has them: fields of a predecoded slot, registers in memory. */
import type { Execution } from '../engine/interpreter.ts';
import type { I32, I64, Statement } from '../engine/wasm.ts';
import { i32, i64, select } from '../engine/wasm.ts';
import type { Instruction } from './instructions.ts';
import { type Fields, Meaning, type Runtime } from './meaning.ts';
import type { PrivilegedName } from './semantics.ts';
import { type HartState, status } from './state.ts';

const k = i32.const;
const c = i64.const;
/** A rounding mode in an instruction that means frm. */
const dynamicRounding = 7;

class SlotFields implements Fields {
  readonly #x: Execution;
  readonly #state: HartState;
  readonly #row: Instruction;
  readonly #bytes: 2 | 4;

  constructor(execution: Execution, state: HartState, row: Instruction, bytes: 2 | 4) {
    this.#x = execution;
    this.#state = state;
    this.#row = row;
    this.#bytes = bytes;
  }
  #field(operand: 'rs1' | 'rs2'): I32 {
    return this.#x.field(operand === 'rs1' ? 'b' : 'c');
  }
  x(operand: 'rs1' | 'rs2'): I64 {
    return i64.load(this.#field(operand), this.#state.x);
  }
  setX(value: I64): Statement {
    return i64.store(this.#x.field('a'), value, this.#state.x);
  }
  names(operand: 'rs1' | 'rs2'): I32 {
    return this.#field(operand);
  }
  f(operand: 'rs1' | 'rs2' | 'rs3'): I64 {
    const offset = operand === 'rs3' ? i32.shrU(this.#x.imm, k(16)) : this.#field(operand);
    return i64.load(offset, this.#state.f);
  }
  setF(value: I64): Statement {
    return i64.store(this.#x.field('a'), value, this.#state.f);
  }
  get imm(): I64 {
    return this.#row.format === 'csr' ? i64.extendU(this.#x.field('c')) : i64.extendS(this.#x.imm);
  }
  get nextPc(): I64 {
    return i64.add(this.#x.pc, c(this.#bytes));
  }
  get csr(): I32 {
    return i32.and(this.#x.imm, k(0xffff));
  }
  get writesCsr(): I32 {
    return i32.shrU(this.#x.imm, k(16));
  }
  get rounding(): I32 {
    const mode = i32.and(this.#x.imm, k(7));
    return select(i32.eq(mode, k(dynamicRounding)), this.#state.frm.get, mode);
  }
  get floatStatus(): I32 {
    return i32.and(i32.wrap(this.#state.mstatus.get), k(Number(status.FS)));
  }
  dirtyFloat(): Statement {
    return this.#state.mstatus.set(i64.or(this.#state.mstatus.get, c(status.FS)));
  }
  privileged(name: PrivilegedName, operation: Statement): Statement {
    const state = this.#state;
    // Who is told of a store asks for the pc.
    if (name === 'zeroBlock') return this.#x.outside([state.pc.set(this.#x.pc), operation]);
    if (name === 'mret' || name === 'sret' || name === 'ecall')
      return [state.pc.set(this.#x.pc), this.#x.outside(operation), this.#x.reenter()];
    return this.#x.outside(operation);
  }
}

/** The whole handler of an instruction, as a long or as a short one. */
export const interpreted = (x: Execution, runtime: Runtime, row: Instruction, bytes: 2 | 4): Statement => {
  const fields = new SlotFields(x, runtime.state, row, bytes);
  return [row.run(new Meaning(x, fields, runtime, row)), x.advance(bytes)];
};
