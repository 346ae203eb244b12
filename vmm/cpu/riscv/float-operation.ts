/** What every floating-point operation is declared with. */
import type { FunctionReference, I32, I64, Local, Locals, Statement, ValueType } from '../engine/wasm.ts';
import type { ModuleBuilder } from '../engine/wasm-module.ts';
import { i32, ret, when } from '../engine/wasm.ts';
import { type Bits, c, flags, type FloatFormat, type Parts } from './float-parts.ts';

type Returns<T> = FunctionReference & { result: T };
/** What an operation's code is built from. */
export interface OperationContext {
  readonly module: ModuleBuilder;
  readonly parts: Parts;
  readonly bits: Bits;
  readonly format: FloatFormat;
  readonly mulhu: Returns<'i64'>;
}
/** Parameters: operands as raw bits, then the rounding mode where the operation has one. */
export type Emit = (ctx: OperationContext) => Returns<'i64'>;

export const define = (
  { module, format }: OperationContext,
  name: string,
  operands: number,
  rounds: boolean,
  build: (locals: Locals, operands: Local<'i64'>[], mode: Local<'i32'> | undefined) => I64,
): Returns<'i64'> => {
  const params: ValueType[] = Array.from({ length: operands }, () => 'i64');
  if (rounds) params.push('i32');
  return module.function(`${name}.${format}`, params, 'i64', (locals) =>
    build(
      locals,
      Array.from({ length: operands }, (_, i) => locals.param('i64', i)),
      rounds ? locals.param('i32', operands) : undefined,
    ),
  );
};

export const any = (tests: readonly I32[]): I32 => tests.reduce((all, test) => i32.or(all, test));
/** Returns the canonical NaN where an operand is a NaN; a signaling one is an invalid operation. */
export const propagateNan = ({ parts, bits }: OperationContext, operands: readonly Local<'i64'>[]): Statement =>
  when(any(operands.map((a) => bits.isNan(a.get))), [
    when(any(operands.map((a) => bits.isSignaling(a.get))), parts.raiseFlags(flags.NV)),
    ret(c(bits.nan)),
  ]);
export const invalid = ({ parts, bits }: OperationContext): Statement => [parts.raiseFlags(flags.NV), ret(c(bits.nan))];
