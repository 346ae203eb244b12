/**
 * Where native WebAssembly arithmetic gives the very bits that the specification asks for. Its one rounding mode is to
 * nearest even, and it tells no flags: so it serves where inexactness (NX) was raised before, and where the result and
 * what it is made of are so far from the ends of the range that nothing else can be raised.
 */
import type { Cell } from '../engine/cells.ts';
import type { Code, I32, I64, Local, Locals, Statement, ValueType } from '../engine/wasm.ts';
import { after, choose, f32, f64, i32, i64, ret, when } from '../engine/wasm.ts';
import type { FloatOperation } from './float.ts';
import { Bits, c, flags, type FloatFormat, k } from './float-parts.ts';

type F64 = Code<'f64'>;
const binary = ['add', 'sub', 'mul', 'div', 'sqrt'] as const;
type Binary = (typeof binary)[number];
const isBinary = (operation: string): operation is Binary => (binary as readonly string[]).includes(operation);

/** Native arithmetic of one or two operands on raw bits. */
export const onBits = (format: FloatFormat, name: Binary, operands: readonly I64[]): I64 => {
  const apply = <T extends ValueType>(
    type: Readonly<Record<Exclude<Binary, 'sqrt'>, (a: Code<T>, b: Code<T>) => Code<T>>> & { sqrt(a: Code<T>): Code<T> },
    [a, b]: readonly Code<T>[],
  ): Code<T> => (name === 'sqrt' ? type.sqrt(a!) : type[name](a!, b!));
  return format === 'f64'
    ? i64.reinterpret(apply<'f64'>(f64, operands.map((a) => f64.reinterpret(a))))
    : i64.extendU(i32.reinterpret(apply<'f32'>(f32, operands.map((a) => f32.reinterpret(i32.wrap(a))))));
}; // prettier-ignore

/** The rounding mode is to nearest even, and NX is raised. */
const mayBeNative = (mode: I32, fflags: Cell<'i32'>): I32 => i32.and(i32.eqz(mode), i32.and(fflags.get, k(flags.NX)));
/** Finite, and above the smallest normal number: neither overflow nor underflow, and no operand was a NaN or infinite. */
const isOrdinary = (bits: Bits, result: I64): I32 =>
  i32.ltU(i32.sub(bits.exponent(result), k(2)), k(bits.layout.top - 2));

/** Returns the native result where it serves; what follows is the way for all other cases. */
export const nativeFirst = (
  name: Binary,
  { bits, format, fflags }: { readonly bits: Bits; readonly format: FloatFormat; readonly fflags: Cell<'i32'> },
  locals: Locals,
  mode: Local<'i32'>,
  operands: readonly Local<'i64'>[],
): Statement => {
  const result = locals.local('i64');
  return when(mayBeNative(mode.get, fflags), [
    result.set(onBits(format, name, operands.map((a) => a.get))),
    when(isOrdinary(bits, result.get), ret(result.get)),
  ]);
}; // prettier-ignore

/**
 * The same without a call, for translated code: `slow` is the call. Undefined for operations that have no native form.
 * The operands are evaluated more than once.
 */
export const nativeInline = (
  operation: FloatOperation,
  format: FloatFormat,
  result: Local<'i64'>,
  fflags: Cell<'i32'>,
  mode: I32,
  operands: readonly I64[],
  slow: I64,
): I64 | undefined => {
  if (isBinary(operation)) {
    const bits = new Bits(format);
    return after(
      [
        result.set(onBits(format, operation, operands)),
        when(i32.eqz(i32.and(isOrdinary(bits, result.get), mayBeNative(mode, fflags))), result.set(slow)),
      ],
      result.get,
    );
  }
  if (format !== 'f64' || (operation !== 'lt' && operation !== 'le' && operation !== 'eq')) return undefined;
  const [a, b] = operands.map((bits) => f64.reinterpret(bits));
  // Neither holds where an operand is a NaN, which may raise a flag.
  const otherwise = { lt: f64.ge, le: f64.gt, eq: f64.ne } as const;
  const isOrdered = i32.and(f64.eq(a!, a!), f64.eq(b!, b!));
  const fails = operation === 'eq' ? i32.and(otherwise.eq(a!, b!), isOrdered) : otherwise[operation](a!, b!);
  return choose('i64', f64[operation](a!, b!), c(1), choose('i64', fails, c(0), slow));
};

/** (a + b) and what rounding lost of it (Knuth). */
const twoSum = (locals: Locals, a: Local<'f64'>, b: Local<'f64'>): { sum: Local<'f64'>; rest: Local<'f64'>; code: Statement } => {
  const [sum, rest, part] = [locals.local('f64'), locals.local('f64'), locals.local('f64')];
  return {
    sum,
    rest,
    code: [
      sum.set(f64.add(a.get, b.get)),
      part.set(f64.sub(sum.get, a.get)),
      rest.set(f64.add(f64.sub(a.get, f64.sub(sum.get, part.get)), f64.sub(b.get, part.get))),
    ],
  };
}; // prettier-ignore

/** a + b rounded to odd: what is lost makes the last bit 1, so that a second rounding errs no more. */
const sumToOdd = (locals: Locals, a: Local<'f64'>, b: Local<'f64'>): { sum: Local<'f64'>; code: Statement } => {
  const { sum, rest, code } = twoSum(locals, a, b);
  const bits = locals.local('i64');
  const zero = f64.reinterpret(c(0));
  const sameSign = i32.eq(f64.gt(rest.get, zero), f64.gt(sum.get, zero));
  return {
    sum,
    code: [
      code,
      when(f64.ne(rest.get, zero), [
        bits.set(i64.reinterpret(sum.get)),
        when(
          i64.eqz(i64.and(bits.get, c(1))),
          sum.set(f64.reinterpret(i64.add(bits.get, choose('i64', sameSign, c(1), c(-1))))),
        ),
      ]),
    ],
  };
};

/** Exponents of operands within which no part of a fused operation comes near the ends of the range. */
const reach = { factor: 300, addend: 600 } as const;
/** 2^27 + 1: cuts a significand of 53 bits in two (Veltkamp). */
const splitter = f64.reinterpret(c(0x41a0_0000_0200_0000n));

/**
 * a × b + addend, from products and sums whose rounding errors are known exactly (Boldo and Melquiond, "Emulation of
 * FMA and correctly rounded sums: proved algorithms using rounding to odd"); returns it where it serves.
 */
export const nativeFusedFirst = (
  { bits, format, fflags }: { readonly bits: Bits; readonly format: FloatFormat; readonly fflags: Cell<'i32'> },
  locals: Locals,
  mode: Local<'i32'>,
  [a, b, addend]: readonly Local<'i64'>[],
): Statement => {
  const value = (): Local<'f64'> => locals.local('f64');
  if (format === 'f32') {
    const [product, third] = [value(), value()];
    const wide = (from: Local<'i64'>): F64 => f64.promote(f32.reinterpret(i32.wrap(from.get)));
    const odd = sumToOdd(locals, product, third);
    const result = locals.local('i64');
    return when(mayBeNative(mode.get, fflags), [
      // Exact: 24 and 24 bits.
      product.set(f64.mul(wide(a!), wide(b!))),
      third.set(wide(addend!)),
      // Infinities and NaNs stay what they are, and are no ordinary result.
      odd.code,
      result.set(i64.extendU(i32.reinterpret(f32.demote(odd.sum.get)))),
      when(isOrdinary(bits, result.get), ret(result.get)),
    ]);
  }
  const within = (from: Local<'i64'>, distance: number): I32 =>
    i32.leU(i32.sub(bits.exponent(from.get), k(bits.layout.bias - distance)), k(2 * distance));
  const [x, y, z] = [value(), value(), value()];
  const split = (from: Local<'f64'>): { high: Local<'f64'>; low: Local<'f64'>; code: Statement } => {
    const [scaled, high, low] = [value(), value(), value()];
    return {
      high,
      low,
      code: [
        scaled.set(f64.mul(splitter, from.get)),
        high.set(f64.sub(scaled.get, f64.sub(scaled.get, from.get))),
        low.set(f64.sub(from.get, high.get)),
      ],
    };
  };
  const [p, q] = [split(x), split(y)];
  const [product, error] = [value(), value()];
  const lower = twoSum(locals, z, error);
  const upper = twoSum(locals, product, lower.sum);
  const odd = sumToOdd(locals, lower.rest, upper.rest);
  const result = locals.local('i64');
  const inRange = i32.and(
    i32.and(within(a!, reach.factor), within(b!, reach.factor)),
    i32.or(within(addend!, reach.addend), bits.isZero(addend!.get)),
  );
  return when(i32.and(mayBeNative(mode.get, fflags), inRange), [
    x.set(f64.reinterpret(a!.get)),
    y.set(f64.reinterpret(b!.get)),
    z.set(f64.reinterpret(addend!.get)),
    product.set(f64.mul(x.get, y.get)),
    p.code,
    q.code,
    error.set(
      f64.add(
        f64.add(
          f64.add(f64.sub(f64.mul(p.high.get, q.high.get), product.get), f64.mul(p.high.get, q.low.get)),
          f64.mul(p.low.get, q.high.get),
        ),
        f64.mul(p.low.get, q.low.get),
      ),
    ),
    lower.code,
    upper.code,
    odd.code,
    result.set(i64.reinterpret(f64.add(upper.sum.get, odd.sum.get))),
    ret(result.get),
  ]);
};
