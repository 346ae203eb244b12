/** What the meaning of an instruction is built on, whether it is interpreted or translated. */
import type { Width } from './access.ts';
import type { I32, I64, Locals, Statement } from './wasm.ts';
import { i64 } from './wasm.ts';

export const isMisaligned = (address: I64, bytes: number): I32 =>
  i64.ne(i64.and(address, i64.const(bytes - 1)), i64.const(0));

export interface Tier {
  readonly locals: Locals;
  /** Whether code is worth its length where it saves a call. */
  readonly inlines: boolean;
  /** Address of the instruction. */
  readonly pc: I64;
  /** To any address. */
  jump(target: I64): Statement;
  /** By the instruction's own distance. */
  jumpRelative(): Statement;
  /** Around a call that may look at the count of instructions or at the pc, end the slice, or fault. */
  outside(statement: Statement): Statement;
  load(kind: Width, address: I64): I64;
  store(kind: Width, address: I64, value: I64): Statement;
  /** Host address of an access that must be to RAM and aligned: elsewhere it faults, or `misaligned` is done. */
  ramAddress(kind: 'read' | 'write', bytes: 4 | 8, address: I64, misaligned: (address: I64) => Statement): I32;
  /** Gives the instruction up; `announce` announces the trap. */
  raise(announce: Statement): Statement;
}

// prettier-ignore
export const fastLoad: Readonly<Record<Width, (address: I32) => I64>> = {
  s8: i64.load8s, u8: i64.load8u, s16: i64.load16s, u16: i64.load16u, s32: i64.load32s, u32: i64.load32u, d64: i64.load,
};
// prettier-ignore
const stores: Readonly<Partial<Record<Width, (address: I32, value: I64) => Statement>>> = {
  s8: i64.store8, s16: i64.store16, s32: i64.store32, d64: i64.store,
};
export const fastStore = (kind: Width, address: I32, value: I64): Statement => stores[kind]!(address, value);
