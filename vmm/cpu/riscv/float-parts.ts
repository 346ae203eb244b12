/**
 * The parts that IEEE 754 operations are made of, as generated integer code. A finite non-zero number is taken apart
 * into a biased exponent and a 64-bit significand whose leading one is bit 62; bit 0 is sticky. Rounding happens in
 * one place (`emitRound`).
 */
import type { Cell } from '../engine/cells.ts';
import type { FunctionReference, I32, I64, Local, Locals, Statement } from '../engine/wasm.ts';
import type { ModuleBuilder } from '../engine/wasm-module.ts';
import { call, choose, i32, i64, ret, select, when } from '../engine/wasm.ts';

type Returns<T> = FunctionReference & { result: T };
export type FloatFormat = 'f32' | 'f64';

export interface Layout {
  readonly bits: 32 | 64;
  readonly fraction: number;
  readonly bias: number;
  /** Exponent field of infinities and NaNs. */
  readonly top: number;
}
export const layouts: Readonly<Record<FloatFormat, Layout>> = {
  f32: { bits: 32, fraction: 23, bias: 127, top: 255 },
  f64: { bits: 64, fraction: 52, bias: 1023, top: 2047 },
};

/** fflags (ISA manual, volume I, §20.2). */
export const flags = { NX: 1, UF: 2, OF: 4, DZ: 8, NV: 16 } as const;
/** Rounding modes: to nearest even, towards zero, down, up, to nearest with ties away. */
export const modes = { RNE: 0, RTZ: 1, RDN: 2, RUP: 3, RMM: 4 } as const;

export const k = i32.const;
export const c = i64.const;
export const isZero = (value: I64): I32 => i64.eqz(value);
export const nonZero = (value: I64): I32 => i64.ne(value, c(0));

/** Constants and tests of one format, on bits held in an i64. */
export class Bits {
  readonly layout: Layout;
  readonly signMask: bigint;
  readonly infinity: bigint;
  readonly nan: bigint;
  readonly fractionMask: bigint;
  readonly quietBit: bigint;

  constructor(format: FloatFormat) {
    const layout = layouts[format];
    this.layout = layout;
    this.signMask = 1n << BigInt(layout.bits - 1);
    this.infinity = BigInt(layout.top) << BigInt(layout.fraction);
    this.fractionMask = (1n << BigInt(layout.fraction)) - 1n;
    this.quietBit = 1n << BigInt(layout.fraction - 1);
    this.nan = this.infinity | this.quietBit;
  }
  magnitude(a: I64): I64 {
    return i64.and(a, c(this.signMask - 1n));
  }
  isNan(a: I64): I32 {
    return i64.gtU(this.magnitude(a), c(this.infinity));
  }
  isSignaling(a: I64): I32 {
    return i32.and(this.isNan(a), isZero(i64.and(a, c(this.quietBit))));
  }
  isInfinite(a: I64): I32 {
    return i64.eq(this.magnitude(a), c(this.infinity));
  }
  isZero(a: I64): I32 {
    return isZero(this.magnitude(a));
  }
  isNegative(a: I64): I32 {
    return nonZero(i64.and(a, c(this.signMask)));
  }
  exponent(a: I64): I32 {
    return i32.wrap(i64.and(i64.shrU(a, c(this.layout.fraction)), c(this.layout.top)));
  }
  /** `value` with the sign, 0 or 1. */
  signed(sign: I32, value: I64): I64 {
    return i64.or(i64.shl(i64.extendU(sign), c(this.layout.bits - 1)), value);
  }
  /** Zero that an exact cancellation leaves: negative only when rounding down (IEEE 754 §6.3). */
  cancelled(mode: I32): I64 {
    return select(i32.eq(mode, k(modes.RDN)), c(this.signMask), c(0));
  }
  /** Takes a finite non-zero number apart. */
  unpack(a: Local<'i64'>, exponent: Local<'i32'>, significand: Local<'i64'>): Statement {
    const { fraction } = this.layout;
    const spare = 62 - fraction;
    return [
      exponent.set(this.exponent(a.get)),
      significand.set(i64.and(a.get, c(this.fractionMask))),
      when(exponent.get, significand.set(i64.shl(i64.or(significand.get, c(this.fractionMask + 1n)), c(spare))), [
        exponent.set(i32.sub(k(spare + 2), i32.wrap(i64.clz(significand.get)))),
        significand.set(i64.shl(significand.get, i64.sub(i64.clz(significand.get), c(1)))),
      ]),
    ];
  }
}

export interface Parts {
  raiseFlags(bits: number): Statement;
  readonly fflags: Cell<'i32'>;
  /** (value, distance) shifts right; what falls out is kept as the sticky bit 0. */
  readonly shiftJam: Returns<'i64'>;
  /** (sign, exponent, significand, mode) → bits; flags are set. */
  readonly round: Readonly<Record<FloatFormat, Returns<'i64'>>>;
}

const emitRound = (
  module: ModuleBuilder,
  format: FloatFormat,
  raiseFlags: (bits: number) => Statement,
  shiftJam: Returns<'i64'>,
): Returns<'i64'> =>
  module.function(`round.${format}`, ['i32', 'i32', 'i64', 'i32'], 'i64', (locals) => {
    const bits = new Bits(format);
    const { fraction, top } = bits.layout;
    const spare = 62 - fraction;
    const mask = (1n << BigInt(spare)) - 1n;
    const half = 1n << BigInt(spare - 1);
    const [sign, exponent] = [locals.param('i32', 0), locals.param('i32', 1)];
    const [significand, mode] = [locals.param('i64', 2), locals.param('i32', 3)];
    const [increment, lost, result] = [locals.local('i64'), locals.local('i64'), locals.local('i64')];
    const tiny = locals.local('i32');
    const away = select(
      i32.eq(mode.get, k(modes.RDN)),
      sign.get,
      i32.and(i32.eq(mode.get, k(modes.RUP)), i32.eqz(sign.get)),
    );
    const overflow: Statement = [
      raiseFlags(flags.OF | flags.NX),
      ret(bits.signed(sign.get, i64.sub(c(bits.infinity), i64.extendU(isZero(increment.get))))),
    ];
    return [
      increment.set(
        select(
          i32.or(i32.eq(mode.get, k(modes.RNE)), i32.eq(mode.get, k(modes.RMM))),
          c(half),
          select(away, c(mask), c(0)),
        ),
      ),
      when(i32.gtS(exponent.get, k(top - 1)), overflow),
      when(i32.leS(exponent.get, k(0)), [
        // Tininess is detected after rounding, as if the exponent had no bound (volume I, §20.3).
        tiny.set(i32.or(i32.ltS(exponent.get, k(0)), i64.geS(i64.add(significand.get, increment.get), c(0)))),
        significand.set(call(shiftJam, significand.get, i32.sub(k(1), exponent.get))),
        exponent.set(k(1)),
        when(i32.and(tiny.get, nonZero(i64.and(significand.get, c(mask)))), raiseFlags(flags.UF)),
      ]),
      lost.set(i64.and(significand.get, c(mask))),
      significand.set(i64.shrU(i64.add(significand.get, increment.get), c(spare))),
      when(i32.and(i64.eq(lost.get, c(half)), i32.eqz(mode.get)), significand.set(i64.and(significand.get, c(-2)))),
      // The leading one adds 1 to the exponent field; a carry out of rounding another.
      result.set(i64.add(i64.shl(i64.extendS(i32.sub(exponent.get, k(1))), c(fraction)), significand.get)),
      when(i64.geU(result.get, c(bits.infinity)), overflow),
      when(nonZero(lost.get), raiseFlags(flags.NX)),
      bits.signed(sign.get, result.get),
    ];
  });

export const emitParts = (module: ModuleBuilder, fflags: Cell<'i32'>): Parts => {
  const raiseFlags = (bits: number): Statement => fflags.set(i32.or(fflags.get, k(bits)));
  const shiftJam = module.function('shiftJam', ['i64', 'i32'], 'i64', (locals) => {
    const [value, distance] = [locals.param('i64', 0), locals.param('i32', 1)];
    const by = i64.extendU(distance.get);
    return choose(
      'i64',
      i32.geU(distance.get, k(64)),
      i64.extendU(nonZero(value.get)),
      choose(
        'i64',
        distance.get,
        i64.or(i64.shrU(value.get, by), i64.extendU(nonZero(i64.shl(value.get, i64.sub(c(64), by))))),
        value.get,
      ),
    );
  });
  return {
    raiseFlags,
    fflags,
    shiftJam,
    round: {
      f32: emitRound(module, 'f32', raiseFlags, shiftJam),
      f64: emitRound(module, 'f64', raiseFlags, shiftJam),
    },
  };
};

/** Locals for an operand taken apart. */
export const unpacked = (locals: Locals): { readonly exponent: Local<'i32'>; readonly significand: Local<'i64'> } => ({
  exponent: locals.local('i32'),
  significand: locals.local('i64'),
});
