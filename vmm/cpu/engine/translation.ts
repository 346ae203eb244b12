/** What an instruction set tells the translator. */
import type { Operands, Template } from './template.ts';
import type { FunctionReference } from './wasm.ts';

export interface Translation {
  readonly template: Template;
  readonly bytes: 2 | 4;
  /** Where control goes: behind it, to a distance as well, to a distance only, or to an address that it computes. */
  readonly flow: 'next' | 'branch' | 'jump' | 'indirect';
  /** Of 'indirect': to where the last call came from, as a rule. */
  readonly returns: boolean;
}

export interface InstructionSet {
  /** Undefined: the interpreter must do it. */
  translation(handler: number, operands: Operands): Translation | undefined;
  /** How far a 'branch' or 'jump' leads, in bytes. */
  distance(operands: Operands): number;
  /** Whether a 'jump' or an 'indirect' keeps the address behind it to come back to. */
  calls(operands: Operands): boolean;
  /** Where an 'indirect' leads with the instruction before it, from the latter's address; undefined = who knows. */
  target(before: Operands, beforeIs: Translation, operands: Operands): number | undefined;
  /** Registers are numbered from 0. */
  readonly registers: number;
  /** From the start of the hart's block, in bytes. */
  registerAddress(register: number): number;
  readonly chain: FunctionReference;
}
