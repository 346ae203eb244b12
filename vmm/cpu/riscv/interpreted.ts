/** The semantics' operands as the interpreter has them: fields of a predecoded slot, registers in memory. */
import type { Accesses, Width } from '../engine/access.ts';
import type { Execution } from '../engine/interpreter.ts';
import type { Code, FunctionReference, I32, I64, Local, Statement, ValueType } from '../engine/wasm.ts';
import { after, call, choose, i32, i64, select, when } from '../engine/wasm.ts';
import type { CsrAccess } from './csr.ts';
import type { FloatFormat, FloatOperation } from './float.ts';
import type { Instruction } from './instructions.ts';
import { isSet, type Mmu } from './mmu.ts';
import type { Privileged } from './privileged.ts';
import type { PrivilegedName, Semantics } from './semantics.ts';
import { causes, type HartState, status } from './state.ts';

type Returns<T> = FunctionReference & { result: T };

export interface Runtime {
  readonly state: HartState;
  readonly accesses: Accesses;
  readonly mmu: Mmu;
  readonly csrs: CsrAccess;
  readonly privileged: Privileged;
  readonly mulhu: Returns<'i64'>;
  readonly float: (operation: FloatOperation, format: FloatFormat) => Returns<'i64'>;
}

const k = i32.const;
const c = i64.const;
const canonicalNan = c(0x7fc0_0000);
const boxed = c(-(1n << 32n));

export class Interpreted implements Semantics {
  readonly #x: Execution;
  readonly #runtime: Runtime;
  readonly #row: Instruction;
  readonly #bytes: 2 | 4;
  readonly #rounds: boolean;

  constructor(execution: Execution, runtime: Runtime, row: Instruction, bytes: 2 | 4) {
    this.#x = execution;
    this.#runtime = runtime;
    this.#row = row;
    this.#bytes = bytes;
    this.#rounds = row.encoding.pieces.some((piece) => piece.operand === 'rm');
  }

  /** The whole handler. */
  handler(): Statement {
    return [this.#row.run(this), this.#x.advance(this.#bytes)];
  }

  local<T extends ValueType>(type: T): Local<T> {
    return this.#x.locals.local(type);
  }
  #field(operand: 'rs1' | 'rs2'): I32 {
    return this.#x.field(operand === 'rs1' ? 'b' : 'c');
  }
  x(operand: 'rs1' | 'rs2'): I64 {
    return i64.load(this.#field(operand), this.#runtime.state.x);
  }
  setX(value: I64): Statement {
    return i64.store(this.#x.field('a'), value, this.#runtime.state.x);
  }
  names(operand: 'rs1' | 'rs2'): I32 {
    return this.#field(operand);
  }
  get imm(): I64 {
    return this.#row.format === 'csr' ? i64.extendU(this.#x.field('c')) : i64.extendS(this.#x.imm);
  }
  get pc(): I64 {
    return this.#x.pc;
  }
  get nextPc(): I64 {
    return i64.add(this.#x.pc, c(this.#bytes));
  }
  jump(target: I64): Statement {
    return this.#x.jump(target);
  }
  jumpRelative(): Statement {
    return this.#x.jumpRelative();
  }
  mulhu(a: I64, b: I64): I64 {
    return call(this.#runtime.mulhu, a, b);
  }

  load(kind: Width, address: I64): I64 {
    return this.#x.load(kind, address);
  }
  store(kind: Width, address: I64, value: I64): Statement {
    return this.#x.store(kind, address, value);
  }
  #aligned(bytes: 4 | 8, address: Local<'i64'>, cause: number): Statement {
    return when(i64.ne(i64.and(address.get, c(bytes - 1)), c(0)), this.raise(cause, address.get));
  }
  atomicAddress(bytes: 4 | 8, address: I64): I32 {
    const at = this.local('i64');
    return after(
      [at.set(address), this.#aligned(bytes, at, causes.storeMisaligned)],
      this.#x.ramAddress('write', at.get),
    );
  }
  loadReserved(bytes: 4 | 8, address: I64): I64 {
    const [at, host] = [this.local('i64'), this.local('i32')];
    const { reservation } = this.#runtime.state;
    return after(
      [
        at.set(address),
        this.#aligned(bytes, at, causes.loadMisaligned),
        host.set(this.#x.ramAddress('read', at.get)),
        reservation.set(bytes === 8 ? i32.add(host.get, k(1)) : host.get),
      ],
      bytes === 8 ? i64.load(host.get) : i64.load32s(host.get),
    );
  }
  /**
   * Another hart's turn ends every reservation (`Hart.run`).
   * Deviation: DMA between LR and SC does not end one; it can only come from a device access between the two, which
   * a constrained LR/SC loop does not hold (volume I, "Zalrsc").
   */
  storeConditional(bytes: 4 | 8, address: I64, value: I64): I64 {
    const [at, host, failed] = [this.local('i64'), this.local('i32'), this.local('i64')];
    const { reservation } = this.#runtime.state;
    return after(
      [
        at.set(address),
        this.#aligned(bytes, at, causes.storeMisaligned),
        host.set(this.#x.ramAddress('write', at.get)),
        failed.set(c(1)),
        when(i32.eq(reservation.get, bytes === 8 ? i32.add(host.get, k(1)) : host.get), [
          bytes === 8 ? i64.store(host.get, value) : i64.store32(host.get, value),
          failed.set(c(0)),
        ]),
        reservation.set(k(0)),
      ],
      failed.get,
    );
  }

  #fOffset(operand: 'rs1' | 'rs2' | 'rs3'): I32 {
    return operand === 'rs3' ? i32.shrU(this.#x.imm, k(16)) : this.#field(operand);
  }
  f(format: FloatFormat, operand: 'rs1' | 'rs2' | 'rs3'): I64 {
    const value = i64.load(this.#fOffset(operand), this.#runtime.state.f);
    if (format === 'f64') return value;
    return choose(
      'i64',
      i64.geU(value, boxed),
      i64.load32u(this.#fOffset(operand), this.#runtime.state.f),
      canonicalNan,
    );
  }
  fRaw(operand: 'rs1' | 'rs2'): I64 {
    return i64.load(this.#field(operand), this.#runtime.state.f);
  }
  setF(format: FloatFormat, value: I64): Statement {
    return i64.store(this.#x.field('a'), format === 'f32' ? i64.or(value, boxed) : value, this.#runtime.state.f);
  }
  float(body: Statement, changes = true): Statement {
    const { mstatus } = this.#runtime.state;
    const off = i32.eqz(isSet(mstatus.get, status.FS));
    // Modes 5 and 6 are reserved, also in frm; 7 in an instruction means frm.
    const bad = this.#rounds ? i32.or(off, i32.gtU(this.#rounding, k(4))) : off;
    return [
      when(bad, this.raise(causes.illegal, c(0))),
      body,
      changes ? mstatus.set(i64.or(mstatus.get, c(status.FS))) : [],
    ];
  }
  get #rounding(): I32 {
    const mode = i32.and(this.#x.imm, k(7));
    return select(i32.eq(mode, k(7)), this.#runtime.state.frm.get, mode);
  }
  arithmetic(operation: FloatOperation, format: FloatFormat, ...operands: I64[]): I64 {
    const callee = this.#runtime.float(operation, format);
    const takesMode = callee.params.at(-1) === 'i32';
    return call(callee, ...operands, ...(takesMode ? [this.#rounds ? this.#rounding : k(0)] : []));
  }

  csr(update: (old: I64) => I64): Statement {
    const [old, index, writes] = [this.local('i64'), this.local('i32'), this.local('i32')];
    const { csrs } = this.#runtime;
    return [
      index.set(i32.and(this.#x.imm, k(0xffff))),
      writes.set(i32.shrU(this.#x.imm, k(16))),
      this.#x.outside(old.set(call(csrs.read, index.get, writes.get))),
      when(writes.get, this.#x.outside(call(csrs.write, index.get, update(call(csrs.basis, index.get, old.get))))),
      this.setX(old.get),
    ];
  }
  raise(cause: number, value: I64): Statement {
    return [call(this.#runtime.mmu.fault, k(cause), value), this.#x.trap()];
  }
  privileged(name: PrivilegedName, ...args: Code[]): Statement {
    const { state, privileged } = this.#runtime;
    const operation = this.#x.outside(call(privileged.operations[name] as Returns<'void'>, ...args));
    if (name === 'mret' || name === 'sret' || name === 'ecall')
      return [state.pc.set(this.pc), operation, this.#x.reenter()];
    // Who is told of a store asks for the pc.
    return name === 'zeroBlock' ? [state.pc.set(this.pc), operation] : operation;
  }
}
