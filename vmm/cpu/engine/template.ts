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

type Part =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'call'; readonly callee: FunctionReference; readonly tail: boolean }
  | { readonly kind: 'leave'; readonly opcode: number; readonly target: Label; readonly depth: number }
  | { readonly kind: 'hole'; readonly hole: Hole; readonly depth: number };

/** What fills a template in. */
export interface Filler {
  readonly out: CodeBuffer;
  /** Local of a register. */
  local(register: number): number;
  /** Index of a function that the region's module imports. */
  imported(callee: FunctionReference): number;
  /** How many labels are between the place where the template begins and the target. */
  distance(target: Label): number;
  /** Emits what follows control; `depth` labels of the template are open there. */
  flow(depth: number): void;
}
export interface Place {
  readonly operands: Operands;
  /** From the start of the region's first page, in bytes. */
  readonly offset: number;
  readonly bytes: number;
  readonly behind: number;
}

export class Template {
  readonly #parts: readonly Part[];
  readonly #registers: readonly (Hole & { kind: 'get' | 'set' })[];
  /** Labels open where control goes on elsewhere; 0 = always, undefined = never. */
  readonly flowDepth: number | undefined;

  constructor(code: Statement) {
    const parts: Part[] = [];
    let out: number[] = [];
    const cut = (): void => {
      if (out.length > 0) parts.push({ kind: 'bytes', bytes: Uint8Array.from(out) });
      out = [];
      sink.out = out;
    };
    const sink = {
      out,
      call: (callee: FunctionReference, tail: boolean): void => {
        cut();
        parts.push({ kind: 'call', callee, tail });
      },
      indirect: (): void => invariant(false, 'an indirect call in a template'),
      leave: (opcode: number, target: Label, depth: number): void => {
        cut();
        parts.push({ kind: 'leave', opcode, target, depth });
      },
      hole: (one: unknown, depth: number): void => {
        cut();
        parts.push({ kind: 'hole', hole: one as Hole, depth });
      },
    };
    flatten(code, sink);
    cut();
    this.#parts = parts;
    const holes = parts.flatMap((part) => (part.kind === 'hole' ? [part] : []));
    this.#registers = holes.map((part) => part.hole).filter((one) => one.kind === 'get' || one.kind === 'set');
    this.flowDepth = holes.find((part) => part.hole.kind === 'flow')?.depth;
  }

  /** Tells which registers the instruction reads and writes. */
  registers(operands: Operands, reads: Set<number>, writes: Set<number>): void {
    for (const one of this.#registers) {
      const register = one.register(operands);
      if (register < 0) continue;
      (one.kind === 'set' && !one.keeps ? writes : reads).add(register);
    }
  }

  fill(filler: Filler, { operands, offset, bytes, behind }: Place): void {
    const { out } = filler;
    for (const part of this.#parts) {
      if (part.kind === 'bytes') out.append(part.bytes);
      else if (part.kind === 'call') {
        out.byte(part.tail ? 0x12 : 0x10);
        out.unsigned(filler.imported(part.callee));
      } else if (part.kind === 'leave') {
        out.byte(part.opcode);
        out.unsigned(part.depth + filler.distance(part.target));
      } else {
        const one = part.hole;
        if (one.kind === 'get' || one.kind === 'set') {
          const register = one.register(operands);
          if (register >= 0) {
            out.byte(one.kind === 'get' ? 0x20 : 0x21);
            out.unsigned(filler.local(register));
          } else if (one.kind === 'get') out.two(0x42, 0);
          else out.byte(0x1a);
        } else if (one.kind === 'flow') filler.flow(part.depth);
        else if (one.kind === 'offset') {
          out.byte(0x42);
          out.signed(one.of === 'next' ? offset + bytes : offset);
        } else if (one.kind === 'behind') {
          out.byte(0x41);
          out.signed(one.self ? behind + 1 : behind);
        } else {
          out.byte(one.kind === 'i32' ? 0x41 : 0x42);
          out.signed(one.value(operands));
        }
      }
    }
  }
}
