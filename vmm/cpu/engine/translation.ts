/** What an instruction set tells the translator. */
import type { Operands, Template } from './template.ts';
import type { FunctionReference } from './wasm.ts';

export interface Translation {
  readonly template: Template;
  readonly bytes: number;
  /** Where control goes: behind it, to `distance` as well, to `distance` only, or to an address that it computes. */
  readonly flow: 'next' | 'branch' | 'jump' | 'indirect';
  readonly distance?: number;
  readonly link?: 'call' | 'return' | undefined;
}

export interface InstructionSet {
  /** Undefined: the interpreter must do it. */
  translation(handler: number, operands: Operands): Translation | undefined;
  /** From the start of the hart's block, in bytes. */
  registerAddress(register: number): number;
  readonly chain: FunctionReference;
}
