/**
 * Instructions as the translator has them: code with places left open, made once for each kind of instruction and
 * filled in for each instruction with its operands.
 */
import { invariant } from '#vmm/base/invariant';
import type { CodeBuffer } from './code-buffer.ts';
import { type Code, flatten, type FunctionReference, type Label, open, type Statement } from './wasm.ts';

/** Fields of a predecoded slot (layout.ts). */
export interface Operands {
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly imm: number;
}
/** Number of a register that lives in a local, or -1: reads as 0, and what is written is lost. */
type RegisterOf = (operands: Operands) => number;

export type Hole =
  | { readonly kind: 'get'; readonly register: RegisterOf }
  /** `keeps`: what is written need not be stored when the region is left. */
  | { readonly kind: 'set'; readonly register: RegisterOf; readonly keeps: boolean }
  | { readonly kind: 'i32' | 'i64'; readonly value: (operands: Operands) => number }
  /** Address of the instruction, or of the one behind it, less the address of the region's first page; i64. */
  | { readonly kind: 'offset'; readonly of: 'this' | 'next' }
  /** Instructions of the block behind this one; with `self`, this one too; i32. */
  | { readonly kind: 'behind'; readonly self: boolean }
  /** Control goes on elsewhere. */
  | { readonly kind: 'flow' };

export const hole = {
  get: (register: RegisterOf): Code<'i64'> => open<'i64'>({ kind: 'get', register } satisfies Hole),
  set: (register: RegisterOf, value: Code<'i64'>, keeps = false): Statement => [
    value,
    open<'void'>({ kind: 'set', register, keeps } satisfies Hole),
  ],
  i32: (value: (operands: Operands) => number): Code<'i32'> => open<'i32'>({ kind: 'i32', value } satisfies Hole),
  i64: (value: (operands: Operands) => number): Code<'i64'> => open<'i64'>({ kind: 'i64', value } satisfies Hole),
  offset: (of: 'this' | 'next'): Code<'i64'> => open<'i64'>({ kind: 'offset', of } satisfies Hole),
  behind: (self: boolean): Code<'i32'> => open<'i32'>({ kind: 'behind', self } satisfies Hole),
  flow: (): Statement => open<'void'>({ kind: 'flow' } satisfies Hole),
};

/** What a template's program is made of: an operation, then its arguments. */
const operation = { bytes: 0, call: 1, leave: 2, get: 3, set: 4, i32: 5, i64: 6, offset: 7, behind: 8, flow: 9 } as const; // prettier-ignore

/** What fills a template in. */
export interface Filler {
  readonly out: CodeBuffer;
  /** Local of a register, below 128. */
  local(register: number): number;
  /** Index of a function that the region's module imports. */
  imported(callee: FunctionReference): number;
  /** How many labels are between the place where the template begins and the target. */
  distance(target: Label): number;
  /** Emits what follows control; `depth` labels of the template are open there. */
  flow(depth: number): void;
}
export interface Place {
  /** From the start of the region's first page, in bytes. */
  readonly offset: number;
  readonly bytes: number;
  readonly behind: number;
}

export class Template {
  /** Operations with numbers for arguments; what is no number is an index into one of the lists. */
  readonly #program: Int32Array;
  readonly #callees: FunctionReference[] = [];
  readonly #targets: Label[] = [];
  readonly #registers: (Hole & { kind: 'get' | 'set' })[] = [];
  readonly #values: ((operands: Operands) => number)[] = [];
  /** Labels open where control goes on elsewhere; 0 = always, undefined = never. */
  readonly flowDepth: number | undefined;
  /** No more than this is appended, but for what `flow` does. */
  readonly bytes: number;

  constructor(code: Statement) {
    const program: number[] = [];
    let flowDepth: number | undefined;
    let bytes = 0;
    const cut = (): void => {
      if (sink.out.length > 0) program.push(operation.bytes, sink.out.length, ...sink.out);
      bytes += sink.out.length + 11;
      sink.out = [];
    };
    const sink = {
      out: [] as number[],
      call: (callee: FunctionReference, tail: boolean): void => {
        cut();
        program.push(operation.call, this.#callees.push(callee) - 1, tail ? 0x12 : 0x10);
      },
      indirect: (): void => invariant(false, 'an indirect call in a template'),
      leave: (opcode: number, target: Label, depth: number): void => {
        cut();
        program.push(operation.leave, this.#targets.push(target) - 1, opcode, depth);
      },
      hole: (any: unknown, depth: number): void => {
        cut();
        const one = any as Hole;
        if (one.kind === 'get' || one.kind === 'set') program.push(operation[one.kind], this.#registers.push(one) - 1);
        else if (one.kind === 'i32' || one.kind === 'i64')
          program.push(operation[one.kind], this.#values.push(one.value) - 1); // prettier-ignore
        else if (one.kind === 'offset') program.push(operation.offset, one.of === 'next' ? 1 : 0);
        else if (one.kind === 'behind') program.push(operation.behind, one.self ? 1 : 0);
        else {
          program.push(operation.flow, depth);
          flowDepth = depth;
        }
      },
    };
    flatten(code, sink);
    cut();
    this.#program = Int32Array.from(program);
    this.flowDepth = flowDepth;
    this.bytes = bytes;
  }

  /** Marks the registers that the instruction reads or writes, and those it writes. */
  registers(operands: Operands, uses: Uint8Array, writes: Uint8Array): void {
    for (const one of this.#registers) {
      const register = one.register(operands);
      if (register < 0) continue;
      uses[register] = 1;
      if (one.kind === 'set' && !one.keeps) writes[register] = 1;
    }
  }

  fill(filler: Filler, operands: Operands, { offset, bytes, behind }: Place): void {
    const { out } = filler;
    const program = this.#program;
    out.reserve(this.bytes);
    for (let i = 0; i < program.length;) {
      const argument = program[i + 1]!;
      switch (program[i]!) {
        case operation.bytes: {
          const end = i + 2 + argument;
          for (i += 2; i < end; i++) out.data[out.length++] = program[i]!;
          continue;
        }
        case operation.get: {
          const register = this.#registers[argument]!.register(operands);
          if (register >= 0) out.two(0x20, filler.local(register));
          else out.two(0x42, 0);
          break;
        }
        case operation.set: {
          const register = this.#registers[argument]!.register(operands);
          if (register >= 0) out.two(0x21, filler.local(register));
          else out.byte(0x1a);
          break;
        }
        case operation.i32:
        case operation.i64:
          out.byte(program[i] === operation.i32 ? 0x41 : 0x42);
          out.signed(this.#values[argument]!(operands));
          break;
        case operation.offset:
          out.byte(0x42);
          out.signed(argument === 1 ? offset + bytes : offset);
          break;
        case operation.behind:
          out.byte(0x41);
          out.signed(behind + argument);
          break;
        case operation.call:
          out.byte(program[i + 2]!);
          out.unsigned(filler.imported(this.#callees[argument]!));
          i += 3;
          continue;
        case operation.leave:
          out.byte(program[i + 2]!);
          out.unsigned(program[i + 3]! + filler.distance(this.#targets[argument]!));
          i += 4;
          continue;
        default:
          filler.flow(argument);
          // What it appended may have taken the room.
          out.reserve(this.bytes);
      }
      i += 2;
    }
  }
}
