/** What the rows of the table say (semantics.ts), on either tier: both give only operands and ways to memory. */
import type { Accesses, Width } from '../engine/access.ts';
import type { Tier } from '../engine/tier.ts';
import type { Code, FunctionReference, I32, I64, Local, Statement, ValueType } from '../engine/wasm.ts';
import { after, call, choose, i32, i64, when } from '../engine/wasm.ts';
import type { CsrAccess } from './csr.ts';
import type { FloatFormat, FloatOperation } from './float.ts';
import { nativeInline } from './float-native.ts';
import type { Instruction } from './instructions.ts';
import type { Mmu } from './mmu.ts';
import type { Privileged } from './privileged.ts';
import type { PrivilegedName, Semantics } from './semantics.ts';
import { causes, type HartState } from './state.ts';

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

/** An instruction's operands: fields of a predecoded slot while it is interpreted, known while it is translated. */
export interface Fields {
  x(operand: 'rs1' | 'rs2'): I64;
  setX(value: I64): Statement;
  /** Not 0 where the operand is another register than x0. */
  names(operand: 'rs1' | 'rs2'): I32;
  /** All 64 bits. */
  f(operand: 'rs1' | 'rs2' | 'rs3'): I64;
  setF(value: I64): Statement;
  readonly imm: I64;
  readonly nextPc: I64;
  /** Index of the CSR, and whether the instruction writes it. */
  readonly csr: I32;
  readonly writesCsr: I32;
  readonly rounding: I32;
  /** mstatus.FS; 0 = off. */
  readonly floatStatus: I32;
  dirtyFloat(): Statement;
  /** A privileged operation that may change the pc. */
  privileged(name: PrivilegedName, operation: Statement): Statement;
}

const k = i32.const;
const c = i64.const;
const canonicalNan = c(0x7fc0_0000);
const boxed = c(-(1n << 32n));
const low = (value: I64): I64 => i64.and(value, c(0xffff_ffff));
/** RNE, RTZ, RDN, RUP, RMM; 5 and 6 are reserved, and 7 in frm. */
const lastRounding = 4;

export class Meaning implements Semantics {
  readonly #tier: Tier;
  readonly #fields: Fields;
  readonly #runtime: Runtime;
  readonly #rounds: boolean;

  constructor(tier: Tier, fields: Fields, runtime: Runtime, row: Instruction) {
    this.#tier = tier;
    this.#fields = fields;
    this.#runtime = runtime;
    this.#rounds = row.encoding.pieces.some((piece) => piece.operand === 'rm');
  }

  local<T extends ValueType>(type: T): Local<T> {
    return this.#tier.locals.local(type);
  }
  x(operand: 'rs1' | 'rs2'): I64 {
    return this.#fields.x(operand);
  }
  setX(value: I64): Statement {
    return this.#fields.setX(value);
  }
  names(operand: 'rs1' | 'rs2'): I32 {
    return this.#fields.names(operand);
  }
  get imm(): I64 {
    return this.#fields.imm;
  }
  get pc(): I64 {
    return this.#tier.pc;
  }
  get nextPc(): I64 {
    return this.#fields.nextPc;
  }
  jump(target: I64): Statement {
    return this.#tier.jump(target);
  }
  jumpRelative(): Statement {
    return this.#tier.jumpRelative();
  }
  mulhu(a: I64, b: I64): I64 {
    return call(this.#runtime.mulhu, a, b);
  }

  load(kind: Width, address: I64): I64 {
    return this.#tier.load(kind, address);
  }
  store(kind: Width, address: I64, value: I64): Statement {
    return this.#tier.store(kind, address, value);
  }
  #aligned(kind: 'read' | 'write', bytes: 4 | 8, address: I64): I32 {
    const cause = kind === 'write' ? causes.storeMisaligned : causes.loadMisaligned;
    return this.#tier.ramAddress(kind, bytes, address, (at) => this.raise(cause, at));
  }
  atomicAddress(bytes: 4 | 8, address: I64): I32 {
    return this.#aligned('write', bytes, address);
  }
  loadReserved(bytes: 4 | 8, address: I64): I64 {
    const host = this.local('i32');
    const { reservation } = this.#runtime.state;
    return after(
      [
        host.set(this.#aligned('read', bytes, address)),
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
    const [host, failed] = [this.local('i32'), this.local('i64')];
    const { reservation } = this.#runtime.state;
    return after(
      [
        host.set(this.#aligned('write', bytes, address)),
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

  f(format: FloatFormat, operand: 'rs1' | 'rs2' | 'rs3'): I64 {
    const value = this.#fields.f(operand);
    return format === 'f64' ? value : choose('i64', i64.geU(value, boxed), low(value), canonicalNan);
  }
  fRaw(operand: 'rs1' | 'rs2'): I64 {
    return this.#fields.f(operand);
  }
  setF(format: FloatFormat, value: I64): Statement {
    return this.#fields.setF(format === 'f32' ? i64.or(value, boxed) : value);
  }
  float(body: Statement, changes = true): Statement {
    const off = i32.eqz(this.#fields.floatStatus);
    const bad = this.#rounds ? i32.or(off, i32.gtU(this.#fields.rounding, k(lastRounding))) : off;
    return [when(bad, this.raise(causes.illegal, c(0))), body, changes ? this.#fields.dirtyFloat() : []];
  }
  arithmetic(operation: FloatOperation, format: FloatFormat, ...operands: I64[]): I64 {
    const callee = this.#runtime.float(operation, format);
    const takesMode = callee.params.at(-1) === 'i32';
    const mode = this.#rounds ? this.#fields.rounding : k(0);
    const called: I64 = call(callee, ...operands, ...(takesMode ? [mode] : []));
    if (!this.#tier.inlines) return called;
    const { fflags } = this.#runtime.state;
    return nativeInline(operation, format, this.local('i64'), fflags, mode, operands, called) ?? called;
  }

  csr(update: (old: I64) => I64): Statement {
    const old = this.local('i64');
    const { csrs } = this.#runtime;
    const { csr, writesCsr } = this.#fields;
    return [
      this.#tier.outside(old.set(call(csrs.read, csr, writesCsr))),
      when(writesCsr, this.#tier.outside(call(csrs.write, csr, update(call(csrs.basis, csr, old.get))))),
      this.setX(old.get),
    ];
  }
  raise(cause: number, value: I64): Statement {
    return this.#tier.raise(call(this.#runtime.mmu.fault, k(cause), value));
  }
  privileged(name: PrivilegedName, ...args: Code[]): Statement {
    const operation = call(this.#runtime.privileged.operations[name] as Returns<'void'>, ...args);
    return this.#fields.privileged(name, operation);
  }
}
