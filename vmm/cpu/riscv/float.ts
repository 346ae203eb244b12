/**
 * IEEE 754 arithmetic as RISC-V has it (ISA manual, volume I, chapters "F" and "D"): every rounding mode, flags,
 * canonical NaNs. Integer code throughout; where a flag that native arithmetic cannot tell is raised already, the
 * native instruction gives the same bits and is taken instead.
 */
import type { Cell } from '../engine/cells.ts';
import type { FunctionReference, I32, I64, Local, Statement } from '../engine/wasm.ts';
import type { ModuleBuilder } from '../engine/wasm-module.ts';
import { brIf, call, choose, i32, i64, label, loop, ret, select, when } from '../engine/wasm.ts';
import { Bits, c, emitParts, flags, type FloatFormat, isZero, k, nonZero, unpacked } from './float-parts.ts'; // prettier-ignore
import { emitConversions } from './float-convert.ts';
import { emitFused } from './float-fused.ts';
import { nativeFirst } from './float-native.ts';
import { any, define, type Emit, invalid, type OperationContext, propagateNan } from './float-operation.ts';

export type { FloatFormat } from './float-parts.ts';

type Returns<T> = FunctionReference & { result: T };
const native = ({ bits, format, parts: { fflags } }: OperationContext) => ({ bits, format, fflags });

const add: Emit = (ctx) =>
  define(ctx, 'add', 2, true, (locals, [a, b], mode) => {
    const { parts, bits, format } = ctx;
    const [x, y] = [unpacked(locals), unpacked(locals)];
    const [swap, shift] = [locals.local('i64'), locals.local('i64')];
    const sign = bits.isNegative(a!.get);
    const sameSign = isZero(i64.and(i64.xor(a!.get, b!.get), c(bits.signMask)));
    const result = x.significand;
    return [
      nativeFirst('add', native(ctx), locals, mode!, [a!, b!]),
      propagateNan(ctx, [a!, b!]),
      // The larger magnitude first.
      when(i64.ltU(bits.magnitude(a!.get), bits.magnitude(b!.get)), [
        swap.set(a!.get),
        a!.set(b!.get),
        b!.set(swap.get),
      ]),
      when(bits.isInfinite(a!.get), [
        when(i32.and(bits.isInfinite(b!.get), i32.eqz(sameSign)), invalid(ctx)),
        ret(a!.get),
      ]),
      when(bits.isZero(b!.get), [
        when(i32.and(bits.isZero(a!.get), i32.eqz(sameSign)), ret(bits.cancelled(mode!.get))),
        ret(a!.get),
      ]),
      bits.unpack(a!, x.exponent, x.significand),
      bits.unpack(b!, y.exponent, y.significand),
      y.significand.set(call(parts.shiftJam, y.significand.get, i32.sub(x.exponent.get, y.exponent.get))),
      when(
        sameSign,
        [
          result.set(i64.add(result.get, y.significand.get)),
          when(i64.ltS(result.get, c(0)), [
            result.set(call(parts.shiftJam, result.get, k(1))),
            x.exponent.set(i32.add(x.exponent.get, k(1))),
          ]),
        ],
        [
          result.set(i64.sub(result.get, y.significand.get)),
          when(isZero(result.get), ret(bits.cancelled(mode!.get))),
          shift.set(i64.sub(i64.clz(result.get), c(1))),
          result.set(i64.shl(result.get, shift.get)),
          x.exponent.set(i32.sub(x.exponent.get, i32.wrap(shift.get))),
        ],
      ),
      call(parts.round[format], sign, x.exponent.get, result.get, mode!.get),
    ] as I64;
  });

const mul: Emit = (ctx) =>
  define(ctx, 'mul', 2, true, (locals, [a, b], mode) => {
    const { parts, bits, format, mulhu } = ctx;
    const [x, y] = [unpacked(locals), unpacked(locals)];
    const high = locals.local('i64');
    const sign = bits.isNegative(i64.xor(a!.get, b!.get));
    const infinite = any([bits.isInfinite(a!.get), bits.isInfinite(b!.get)]);
    const zero = any([bits.isZero(a!.get), bits.isZero(b!.get)]);
    return [
      nativeFirst('mul', native(ctx), locals, mode!, [a!, b!]),
      propagateNan(ctx, [a!, b!]),
      when(i32.and(infinite, zero), invalid(ctx)),
      when(infinite, ret(bits.signed(sign, c(bits.infinity)))),
      when(zero, ret(bits.signed(sign, c(0)))),
      bits.unpack(a!, x.exponent, x.significand),
      bits.unpack(b!, y.exponent, y.significand),
      x.exponent.set(i32.sub(i32.add(x.exponent.get, y.exponent.get), k(bits.layout.bias - 1))),
      // Leading ones at bits 63 and 62: the upper half has its own at 62 or 61.
      x.significand.set(i64.shl(x.significand.get, c(1))),
      high.set(call(mulhu, x.significand.get, y.significand.get)),
      high.set(i64.or(high.get, i64.extendU(nonZero(i64.mul(x.significand.get, y.significand.get))))),
      when(i64.ltU(high.get, c(1n << 62n)), [
        high.set(i64.shl(high.get, c(1))),
        x.exponent.set(i32.sub(x.exponent.get, k(1))),
      ]),
      call(parts.round[format], sign, x.exponent.get, high.get, mode!.get),
    ] as I64;
  });

const div: Emit = (ctx) =>
  define(ctx, 'div', 2, true, (locals, [a, b], mode) => {
    const { parts, bits, format } = ctx;
    const [x, y] = [unpacked(locals), unpacked(locals)];
    const [quotient, rest] = [locals.local('i64'), x.significand];
    const count = locals.local('i32');
    const digits = label('digits');
    const sign = bits.isNegative(i64.xor(a!.get, b!.get));
    const signed = (value: bigint): Statement => ret(bits.signed(sign, c(value)));
    return [
      nativeFirst('div', native(ctx), locals, mode!, [a!, b!]),
      propagateNan(ctx, [a!, b!]),
      when(bits.isInfinite(a!.get), [when(bits.isInfinite(b!.get), invalid(ctx)), signed(bits.infinity)]),
      when(bits.isInfinite(b!.get), signed(0n)),
      when(bits.isZero(b!.get), [
        when(bits.isZero(a!.get), invalid(ctx)),
        parts.raiseFlags(flags.DZ),
        signed(bits.infinity),
      ]),
      when(bits.isZero(a!.get), signed(0n)),
      bits.unpack(a!, x.exponent, x.significand),
      bits.unpack(b!, y.exponent, y.significand),
      x.exponent.set(i32.add(i32.sub(x.exponent.get, y.exponent.get), k(bits.layout.bias))),
      when(i64.ltU(rest.get, y.significand.get), [
        rest.set(i64.shl(rest.get, c(1))),
        x.exponent.set(i32.sub(x.exponent.get, k(1))),
      ]),
      quotient.set(c(0)),
      count.set(k(63)),
      loop(
        digits,
        quotient.set(i64.shl(quotient.get, c(1))),
        when(i64.geU(rest.get, y.significand.get), [
          rest.set(i64.sub(rest.get, y.significand.get)),
          quotient.set(i64.or(quotient.get, c(1))),
        ]),
        rest.set(i64.shl(rest.get, c(1))),
        brIf(digits, countDown(count)),
      ),
      call(parts.round[format], sign, x.exponent.get, i64.or(quotient.get, i64.extendU(nonZero(rest.get))), mode!.get),
    ] as I64;
  });
/** Counts down and leaves the new value. */
const countDown = (count: Local<'i32'>): I32 => count.tee(i32.sub(count.get, k(1)));

const sqrt: Emit = (ctx) =>
  define(ctx, 'sqrt', 1, true, (locals, [a], mode) => {
    const { parts, bits, format } = ctx;
    const x = unpacked(locals);
    const [root, rest, trial] = [locals.local('i64'), locals.local('i64'), locals.local('i64')];
    const count = locals.local('i32');
    const digits = label('digits');
    const { bias } = bits.layout;
    // 58 digits, so that neither the remainder nor the trial value leaves 64 bits.
    const steps = 58;
    return [
      nativeFirst('sqrt', native(ctx), locals, mode!, [a!]),
      propagateNan(ctx, [a!]),
      when(bits.isZero(a!.get), ret(a!.get)),
      when(bits.isNegative(a!.get), invalid(ctx)),
      when(bits.isInfinite(a!.get), ret(a!.get)),
      bits.unpack(a!, x.exponent, x.significand),
      x.exponent.set(i32.sub(x.exponent.get, k(bias))),
      when(i32.and(x.exponent.get, k(1)), x.significand.set(i64.shl(x.significand.get, c(1)))),
      root.set(c(0)),
      rest.set(c(0)),
      count.set(k(steps)),
      loop(
        digits,
        rest.set(i64.or(i64.shl(rest.get, c(2)), i64.shrU(x.significand.get, c(62)))),
        x.significand.set(i64.shl(x.significand.get, c(2))),
        trial.set(i64.or(i64.shl(root.get, c(2)), c(1))),
        root.set(i64.shl(root.get, c(1))),
        when(i64.geU(rest.get, trial.get), [rest.set(i64.sub(rest.get, trial.get)), root.set(i64.or(root.get, c(1)))]),
        brIf(digits, countDown(count)),
      ),
      call(
        parts.round[format],
        k(0),
        i32.add(i32.shrS(x.exponent.get, k(1)), k(bias)),
        i64.or(i64.shl(root.get, c(63 - steps)), i64.extendU(nonZero(rest.get))),
        mode!.get,
      ),
    ] as I64;
  });

/** Orders as the bits of integers would be: negative magnitudes reversed, -0 below +0. */
const ordered = (bits: Bits, a: I64): I64 => {
  const wide = bits.layout.bits === 32 ? i64.extend32s(a) : a;
  return i64.xor(wide, i64.shrU(i64.shrS(wide, c(63)), c(1)));
};
const extreme =
  (name: 'min' | 'max'): Emit =>
  (ctx) =>
    define(ctx, name, 2, false, (_, [a, b]) => {
      const { parts, bits } = ctx;
      const test = name === 'min' ? i64.ltS : i64.gtS;
      return [
        when(any([bits.isSignaling(a!.get), bits.isSignaling(b!.get)]), parts.raiseFlags(flags.NV)),
        when(bits.isNan(a!.get), ret(select(bits.isNan(b!.get), c(bits.nan), b!.get))),
        when(bits.isNan(b!.get), ret(a!.get)),
        select(test(ordered(bits, a!.get), ordered(bits, b!.get)), a!.get, b!.get),
      ] as I64;
    });
const compare =
  (name: 'eq' | 'lt' | 'le'): Emit =>
  (ctx) =>
    define(ctx, name, 2, false, (_, [a, b]) => {
      const { parts, bits } = ctx;
      // eq is a quiet comparison, the others signal.
      const signals = name === 'eq' ? 'isSignaling' : 'isNan';
      const [x, y] = [ordered(bits, a!.get), ordered(bits, b!.get)];
      const zeros = isZero(bits.magnitude(i64.or(a!.get, b!.get)));
      return [
        when(any([bits.isNan(a!.get), bits.isNan(b!.get)]), [
          when(any([bits[signals](a!.get), bits[signals](b!.get)]), parts.raiseFlags(flags.NV)),
          ret(c(0)),
        ]),
        when(zeros, ret(c(name === 'lt' ? 0 : 1))),
        i64.extendU(name === 'eq' ? i64.eq(x, y) : name === 'lt' ? i64.ltS(x, y) : i64.leS(x, y)),
      ] as I64;
    });

/** A bit for each class (volume I, "Floating-Point Classify Instruction"). */
const classify: Emit = (ctx) =>
  define(ctx, 'classify', 1, false, (_, [a]) => {
    const { bits } = ctx;
    const negative = bits.isNegative(a!.get);
    const pair = (whenNegative: number, whenPositive: number): I64 =>
      select(negative, c(1 << whenNegative), c(1 << whenPositive));
    return [
      when(bits.isNan(a!.get), ret(select(bits.isSignaling(a!.get), c(1 << 8), c(1 << 9)))),
      when(bits.isInfinite(a!.get), ret(pair(0, 7))),
      when(bits.isZero(a!.get), ret(pair(3, 4))),
      choose('i64', bits.exponent(a!.get), pair(1, 6), pair(2, 5)),
    ] as I64;
  });

const arithmetic = {
  add,
  sub: (ctx: OperationContext, all: (operation: 'add') => Returns<'i64'>) =>
    define(ctx, 'sub', 2, true, (_, [a, b], mode) =>
      // The sign of a NaN operand does not matter.
      call(all('add'), a!.get, i64.xor(b!.get, c(ctx.bits.signMask)), mode!.get),
    ),
  mul,
  div,
  sqrt,
  min: extreme('min'),
  max: extreme('max'),
  eq: compare('eq'),
  lt: compare('lt'),
  le: compare('le'),
  classify,
  madd: emitFused,
  ...emitConversions,
} as const;
export type FloatOperation = keyof typeof arithmetic;

/** Functions by operation and (source) format, emitted when first asked for. */
export const emitFloat = (
  module: ModuleBuilder,
  fflags: Cell<'i32'>,
  mulhu: Returns<'i64'>,
): ((operation: FloatOperation, format: FloatFormat) => Returns<'i64'>) => {
  const parts = emitParts(module, fflags);
  const made = new Map<string, Returns<'i64'>>();
  const get = (operation: FloatOperation, format: FloatFormat): Returns<'i64'> => {
    const key = `${operation}.${format}`;
    const known = made.get(key);
    if (known) return known;
    const ctx = { module, parts, bits: new Bits(format), format, mulhu };
    const emitted = arithmetic[operation](ctx, (other) => get(other, format));
    made.set(key, emitted);
    return emitted;
  };
  return get;
};
