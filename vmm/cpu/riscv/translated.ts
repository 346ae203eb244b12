/** Operands as the translator has them: constants, and registers in locals of a region. */
import { invariant } from '#vmm/base/invariant';
import { firstHandler } from '../engine/interpreter.ts';
import { hole, type Operands } from '../engine/template.ts';
import { nextPc, translate } from '../engine/translating.ts';
import type { InstructionSet, Translation } from '../engine/translation.ts';
import type { Tier } from '../engine/tier.ts';
import type { I32, I64, Statement } from '../engine/wasm.ts';
import { i32, i64, when } from '../engine/wasm.ts';
import { handled } from './decoder.ts';
import type { Instruction } from './instructions.ts';
import { type Fields, Meaning, type Runtime } from './meaning.ts';
import type { PrivilegedName } from './semantics.ts';
import { type HartState, status } from './state.ts';

const k = i32.const;
const c = i64.const;

/** Numbers of registers in regions: x0 … x31, f0 … f31, and mstatus, of which only FS is looked at. */
const firstF = 32;
const mstatusRegister = 64;
/** x0 is read as 0; what is written to it goes to a 33rd register (decoder.ts), here nowhere. */
const xRead = (offset: number): number => (offset === 0 ? -1 : offset / 8);
const xWritten = (offset: number): number => (offset === 256 ? -1 : offset / 8);
const fRegister = (offset: number): number => firstF + offset / 8;
const dynamicRounding = 7;

class KnownFields implements Fields {
  readonly #tier: Tier;
  readonly #state: HartState;
  readonly #row: Instruction;
  readonly #isDynamic: boolean;

  constructor(tier: Tier, state: HartState, row: Instruction, isDynamic: boolean) {
    this.#tier = tier;
    this.#state = state;
    this.#row = row;
    this.#isDynamic = isDynamic;
  }
  x(operand: 'rs1' | 'rs2'): I64 {
    return hole.get(operand === 'rs1' ? ({ b }) => xRead(b) : (one) => xRead(one.c));
  }
  setX(value: I64): Statement {
    return hole.set(({ a }) => xWritten(a), value);
  }
  names(operand: 'rs1' | 'rs2'): I32 {
    return hole.i32(operand === 'rs1' ? ({ b }) => b : (one) => one.c);
  }
  f(operand: 'rs1' | 'rs2' | 'rs3'): I64 {
    if (operand === 'rs3') return hole.get(({ imm }) => fRegister(imm >>> 16));
    return hole.get(operand === 'rs1' ? ({ b }) => fRegister(b) : (one) => fRegister(one.c));
  }
  setF(value: I64): Statement {
    return hole.set(({ a }) => fRegister(a), value);
  }
  get imm(): I64 {
    return hole.i64(this.#row.format === 'csr' ? (one) => one.c : ({ imm }) => imm);
  }
  get nextPc(): I64 {
    return nextPc;
  }
  get csr(): I32 {
    return hole.i32(({ imm }) => imm & 0xffff);
  }
  get writesCsr(): I32 {
    return hole.i32(({ imm }) => imm >>> 16);
  }
  get rounding(): I32 {
    return this.#isDynamic ? this.#state.frm.get : hole.i32(({ imm }) => imm & 7);
  }
  get #mstatus(): I64 {
    return hole.get(() => mstatusRegister);
  }
  get floatStatus(): I32 {
    return i32.and(i32.wrap(this.#mstatus), k(Number(status.FS)));
  }
  /** The local only remembers: memory is what counts. */
  dirtyFloat(): Statement {
    const { mstatus } = this.#state;
    return when(i32.ne(this.floatStatus, k(Number(status.FS))), [
      mstatus.set(i64.or(mstatus.get, c(status.FS))),
      hole.set(() => mstatusRegister, mstatus.get, true),
    ]);
  }
  privileged(name: PrivilegedName, operation: Statement): Statement {
    invariant(name === 'zeroBlock', `${name} is left to the interpreter`);
    return this.#tier.outside(operation);
  }
}

/** What moves the pc by itself, or what code and addresses mean. */
const interpretedOnly = new Set(['ecall', 'ebreak', 'mret', 'sret', 'wfi', 'sfence.vma', 'fence.i']);
/** x1 and x5 hold return addresses (volume I, "Unconditional Jumps", table of return-address hints). */
const isLink = (offset: number): boolean => offset === 8 || offset === 40;

/** How the translator sees RISC-V; `state` has addresses from the start of a hart's block (`regionLocals.hart`). */
export const translated = (runtime: Runtime): InstructionSet => {
  const { state, accesses } = runtime;
  const translations = new Map<number, Translation>();
  const template = (handler: number, operands: Operands): Translation => {
    const { row, bytes } = handled[handler - firstHandler - 1]!;
    const isDynamic = row.format === 'float' && (operands.imm & 7) === dynamicRounding;
    const key = 2 * handler + (isDynamic ? 1 : 0);
    const known = translations.get(key);
    if (known) return known;
    const code = translate(state, accesses, bytes, (tier) =>
      row.run(new Meaning(tier, new KnownFields(tier, state, row, isDynamic), runtime, row)),
    );
    const { flowDepth } = code;
    const flow = flowDepth === undefined ? 'next' : row.format !== 'relative' ? 'indirect' : flowDepth > 0 ? 'branch' : 'jump'; // prettier-ignore
    const made = { template: code, bytes, flow, returns: false } as const;
    translations.set(key, made);
    return made;
  };
  const auipcHandler = firstHandler + 1 + handled.findIndex(({ row }) => row.name === 'auipc');
  const auipc = (): Translation | undefined => translations.get(2 * auipcHandler);
  const returns = new Map<Translation, Translation>();
  const returning = (one: Translation): Translation => {
    const known = returns.get(one) ?? { ...one, returns: true };
    returns.set(one, known);
    return known;
  };
  return {
    registerAddress: (register) =>
      register < firstF
        ? state.x + 8 * register
        : register < mstatusRegister
          ? state.f + 8 * (register - firstF)
          : state.mstatus.address,
    chain: accesses.chain,
    registers: mstatusRegister + 1,
    translation: (handler, operands): Translation | undefined => {
      const one = handled[handler - firstHandler - 1];
      if (!one || interpretedOnly.has(one.row.name)) return undefined;
      const made = template(handler, operands);
      if (made.flow !== 'indirect') return made;
      const returns = operands.a === 256 && isLink(operands.b) && operands.imm === 0;
      return returns ? returning(made) : made;
    },
    distance: ({ imm }) => imm / 8,
    calls: ({ a }) => isLink(a),
    // A pair of auipc and jalr reaches what jal does not.
    target: (before, beforeIs, { b, imm }) =>
      beforeIs === auipc() && before.a === b && b !== 0 ? (before.imm + imm) & ~1 : undefined,
  };
};
