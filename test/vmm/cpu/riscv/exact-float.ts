/** IEEE 754 arithmetic over exact rationals in BigInt: slow, and written without a look at the code it judges. */
import type { FloatFormat } from '#vmm/cpu/riscv/float';

export interface Outcome {
  readonly bits: bigint;
  readonly flags: number;
}
export const operations = ['add', 'sub', 'mul', 'div', 'sqrt', 'madd', 'min', 'max', 'eq', 'lt', 'le', 'classify'] as const; // prettier-ignore
export type Operation = (typeof operations)[number];

const [NX, UF, OF, DZ, NV] = [1, 2, 4, 8, 16];
export const shape = (format: FloatFormat): { width: bigint; fraction: bigint; bias: bigint } =>
  format === 'f32' ? { width: 32n, fraction: 23n, bias: 127n } : { width: 64n, fraction: 52n, bias: 1023n };

type Kind = 'nan' | 'signaling' | 'infinite' | 'finite';
interface Value {
  readonly kind: Kind;
  readonly negative: boolean;
  /** Magnitude as a fraction. */
  readonly n: bigint;
  readonly d: bigint;
}
const parse = (format: FloatFormat, bits: bigint): Value => {
  const { width, fraction, bias } = shape(format);
  const negative = bits >> (width - 1n) === 1n;
  const exponent = (bits >> fraction) & (2n * bias + 1n);
  const field = bits & ((1n << fraction) - 1n);
  if (exponent === 2n * bias + 1n) {
    const kind = field === 0n ? 'infinite' : field >> (fraction - 1n) ? 'nan' : 'signaling';
    return { kind, negative, n: 0n, d: 1n };
  }
  const n = exponent === 0n ? field : field + (1n << fraction);
  const power = (exponent === 0n ? 1n : exponent) - bias - fraction;
  return { kind: 'finite', negative, n: power > 0n ? n << power : n, d: power < 0n ? 1n << -power : 1n };
};
const constants = (format: FloatFormat) => {
  const { width, fraction, bias } = shape(format);
  const infinity = (2n * bias + 1n) << fraction;
  return { sign: 1n << (width - 1n), infinity, nan: infinity | (1n << (fraction - 1n)) };
};

/** floor(n/d × 2^power) and whether something was cut off. */
const scaled = (n: bigint, d: bigint, power: bigint): { whole: bigint; half: -1 | 0 | 1; exact: boolean } => {
  const top = power > 0n ? n << power : n;
  const bottom = power < 0n ? d << -power : d;
  const whole = top / bottom;
  const twice = 2n * (top % bottom);
  return { whole, half: twice < bottom ? -1 : twice > bottom ? 1 : 0, exact: twice === 0n };
};
const rounded = (mode: number, negative: boolean, { whole, half, exact }: ReturnType<typeof scaled>): bigint => {
  if (exact) return whole;
  const up = [half > 0 || (half === 0 && (whole & 1n) === 1n), false, negative, !negative, half >= 0][mode]!;
  return up ? whole + 1n : whole;
};
const log2 = (n: bigint, d: bigint): bigint => {
  let guess = BigInt(n.toString(2).length - d.toString(2).length);
  const atLeast = (e: bigint): boolean => (e >= 0n ? n >= d << e : n << -e >= d);
  while (!atLeast(guess)) guess--;
  while (atLeast(guess + 1n)) guess++;
  return guess;
};

/** n/d (not negative) with a sign, rounded; `n` = 0 gives a zero of that sign. */
export const fromRational = (format: FloatFormat, mode: number, negative: boolean, n: bigint, d: bigint): Outcome => {
  const { fraction, bias } = shape(format);
  const { sign, infinity } = constants(format);
  const signed = (bits: bigint): bigint => (negative ? sign | bits : bits);
  if (n === 0n) return { bits: signed(0n), flags: 0 };
  const smallest = 1n - bias;
  const exponent = log2(n, d);
  const unbounded = scaled(n, d, fraction - exponent);
  // Tiny: below the smallest normal number when rounded as if the exponent had no bound.
  const carried = rounded(mode, negative, unbounded) >> (fraction + 1n);
  const tiny = exponent + carried < smallest;
  const used = exponent < smallest ? smallest : exponent;
  const parts = scaled(n, d, fraction - used);
  const significand = rounded(mode, negative, parts);
  const bits = ((used + bias - 1n) << fraction) + significand;
  if (bits >= infinity) {
    const toInfinity = [true, false, negative, !negative, true][mode];
    return { bits: signed(toInfinity ? infinity : infinity - 1n), flags: OF! | NX! };
  }
  return { bits: signed(bits), flags: parts.exact ? 0 : tiny ? UF! | NX! : NX! };
};

const root = (n: bigint): bigint => {
  if (n < 2n) return n;
  let x = 1n << BigInt((n.toString(2).length + 1) >> 1);
  for (;;) {
    const y = (x + n / x) >> 1n;
    if (y >= x) return x;
    x = y;
  }
};

/** Signed sum of two finite values. */
const sum = (format: FloatFormat, mode: number, a: Value, b: Value): Outcome => {
  const signedA = a.negative ? -a.n : a.n;
  const signedB = b.negative ? -b.n : b.n;
  const n = signedA * b.d + signedB * a.d;
  if (n === 0n) {
    const negative = a.negative === b.negative ? a.negative : mode === 2;
    return fromRational(format, mode, negative, 0n, 1n);
  }
  return fromRational(format, mode, n < 0n, n < 0n ? -n : n, a.d * b.d);
};

export const evaluate = (
  operation: Operation,
  format: FloatFormat,
  mode: number,
  inputs: readonly bigint[],
): Outcome => {
  const { sign, infinity, nan } = constants(format);
  const values = inputs.map((bits) => parse(format, bits));
  const [a, b, addend] = values as [Value, Value, Value];
  const isNan = (value: Value): boolean => value.kind === 'nan' || value.kind === 'signaling';
  const signaling = values.some((value) => value.kind === 'signaling');
  const some = values.some(isNan);
  const invalid = { bits: nan, flags: NV! };
  const infinite = (negative: boolean): Outcome => ({ bits: negative ? sign | infinity : infinity, flags: 0 });
  const zero = (value: Value): boolean => value.kind === 'finite' && value.n === 0n;
  const inf = (value: Value): boolean => value.kind === 'infinite';

  if (operation === 'classify') {
    const subnormal = (inputs[0]! & infinity) === 0n;
    const index = isNan(a)
      ? a.kind === 'signaling' ? 8 : 9
      : inf(a) ? (a.negative ? 0 : 7)
        : zero(a) ? (a.negative ? 3 : 4)
          : subnormal ? (a.negative ? 2 : 5) : a.negative ? 1 : 6; // prettier-ignore
    return { bits: 1n << BigInt(index), flags: 0 };
  }
  const order = (): number => {
    const key = (value: Value): [bigint, bigint] => (inf(value) ? [value.negative ? -1n : 1n, 0n] : [value.negative ? -value.n : value.n, value.d]); // prettier-ignore
    const [an, ad] = key(a);
    const [bn, bd] = key(b);
    if (ad === 0n || bd === 0n) return Number((ad === 0n ? an : 0n) - (bd === 0n ? bn : 0n));
    const difference = an * bd - bn * ad;
    return difference < 0n ? -1 : difference > 0n ? 1 : 0;
  };
  if (operation === 'eq' || operation === 'lt' || operation === 'le') {
    if (some) return { bits: 0n, flags: signaling || operation !== 'eq' ? NV! : 0 };
    const o = order();
    return { bits: (operation === 'eq' ? o === 0 : operation === 'lt' ? o < 0 : o <= 0) ? 1n : 0n, flags: 0 };
  }
  if (operation === 'min' || operation === 'max') {
    const flags = signaling ? NV! : 0;
    if (isNan(a) && isNan(b)) return { bits: nan, flags };
    if (isNan(a)) return { bits: inputs[1]!, flags };
    if (isNan(b)) return { bits: inputs[0]!, flags };
    const o = order() || Number(b.negative) - Number(a.negative);
    return { bits: inputs[(operation === 'min' ? o <= 0 : o >= 0) ? 0 : 1]!, flags };
  }
  if (operation === 'madd' && ((inf(a) && zero(b)) || (zero(a) && inf(b)))) return invalid;
  if (some) return signaling ? invalid : { bits: nan, flags: 0 };

  switch (operation) {
    case 'add':
    case 'sub': {
      const other = operation === 'sub' ? { ...b, negative: !b.negative } : b;
      if (inf(a) && inf(other) && a.negative !== other.negative) return invalid;
      if (inf(a) || inf(other)) return infinite(inf(a) ? a.negative : other.negative);
      return sum(format, mode, a, other);
    }
    case 'mul': {
      const negative = a.negative !== b.negative;
      if ((inf(a) && zero(b)) || (zero(a) && inf(b))) return invalid;
      if (inf(a) || inf(b)) return infinite(negative);
      return fromRational(format, mode, negative, a.n * b.n, a.d * b.d);
    }
    case 'madd': {
      const product: Value = { kind: 'finite', negative: a.negative !== b.negative, n: a.n * b.n, d: a.d * b.d };
      if (inf(a) || inf(b))
        return inf(addend) && addend.negative !== product.negative ? invalid : infinite(product.negative);
      if (inf(addend)) return infinite(addend.negative);
      return sum(format, mode, product, addend);
    }
    case 'div': {
      const negative = a.negative !== b.negative;
      if ((inf(a) && inf(b)) || (zero(a) && zero(b))) return invalid;
      if (inf(a)) return infinite(negative);
      if (inf(b)) return fromRational(format, mode, negative, 0n, 1n);
      if (zero(b)) return { ...infinite(negative), flags: DZ! };
      return fromRational(format, mode, negative, a.n * b.d, a.d * b.n);
    }
    case 'sqrt': {
      if (zero(a)) return { bits: inputs[0]!, flags: 0 };
      if (a.negative) return invalid;
      if (inf(a)) return infinite(false);
      // √(n/d) = √(n·d·4^k) / (d·2^k), with one more bit that says whether the root is exact.
      const k = 1200n;
      const square = (a.n * a.d) << (2n * k);
      const whole = root(square);
      const sticky = whole * whole === square ? 0n : 1n;
      return fromRational(format, mode, false, 2n * whole + sticky, a.d << (k + 1n));
    }
  }
  throw new RangeError(operation);
};

export const toInteger = (format: FloatFormat, mode: number, bits: bigint, width: bigint, signed: boolean): Outcome => {
  const value = parse(format, bits);
  const max = signed ? (1n << (width - 1n)) - 1n : (1n << width) - 1n;
  const min = signed ? -(1n << (width - 1n)) : 0n;
  const register = (integer: bigint): bigint =>
    BigInt.asUintN(64, width === 32n ? BigInt.asIntN(32, integer) : integer);
  if (value.kind === 'nan' || value.kind === 'signaling') return { bits: register(max), flags: NV! };
  if (value.kind === 'infinite') return { bits: register(value.negative ? min : max), flags: NV! };
  const parts = scaled(value.n, value.d, 0n);
  const magnitude = rounded(mode, value.negative, parts);
  const integer = value.negative ? -magnitude : magnitude;
  if (integer > max || integer < min) return { bits: register(value.negative ? min : max), flags: NV! };
  return { bits: register(integer), flags: parts.exact ? 0 : NX! };
};

export const convert = (from: FloatFormat, to: FloatFormat, mode: number, bits: bigint): Outcome => {
  const value = parse(from, bits);
  const { sign, infinity, nan } = constants(to);
  if (value.kind === 'signaling') return { bits: nan, flags: NV! };
  if (value.kind === 'nan') return { bits: nan, flags: 0 };
  if (value.kind === 'infinite') return { bits: value.negative ? sign | infinity : infinity, flags: 0 };
  return fromRational(to, mode, value.negative, value.n, value.d);
};
