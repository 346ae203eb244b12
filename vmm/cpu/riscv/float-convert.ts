/** Conversions between formats, and to and from integers. */
import type { I32, I64 } from '../engine/wasm.ts';
import { call, choose, i32, i64, ret, select, when } from '../engine/wasm.ts';
import { define, type Emit, propagateNan } from './float-operation.ts';
import { c, flags, type FloatFormat, isZero, k, layouts, modes, nonZero, unpacked, Bits } from './float-parts.ts';

const toInteger =
  (name: string, width: 32 | 64, signed: boolean): Emit =>
  (ctx) =>
    define(ctx, name, 1, true, (locals, [a], mode) => {
      const { parts, bits } = ctx;
      const x = unpacked(locals);
      const [whole, rest] = [locals.local('i64'), locals.local('i64')];
      const [sign, shift] = [locals.local('i32'), locals.local('i32')];
      const max = c((1n << BigInt(signed ? width - 1 : width)) - 1n);
      const min = c(signed ? -(1n << BigInt(width - 1)) : 0n);
      /** Results of 32 bits are sign-extended, also unsigned ones. */
      const fit = (value: I64): I64 => (width === 32 ? i64.extend32s(value) : value);
      const by = i64.extendU(shift.get);
      const half = c(1n << 63n);
      const up: I32 = choose(
        'i32',
        i32.eq(mode!.get, k(modes.RNE)),
        i32.or(i64.gtU(rest.get, half), i32.and(i64.eq(rest.get, half), i32.wrap(i64.and(whole.get, c(1))))),
        choose(
          'i32',
          i32.eq(mode!.get, k(modes.RMM)),
          i64.geU(rest.get, half),
          i32.and(
            nonZero(rest.get),
            i32.or(
              i32.and(sign.get, i32.eq(mode!.get, k(modes.RDN))),
              i32.and(i32.eqz(sign.get), i32.eq(mode!.get, k(modes.RUP))),
            ),
          ),
        ),
      );
      const limit = signed ? c(1n << BigInt(width - 1)) : max;
      const tooLarge: I32 = signed
        ? select(sign.get, i64.gtU(whole.get, limit), i64.geU(whole.get, limit))
        : select(sign.get, nonZero(whole.get), i64.gtU(whole.get, limit));
      const saturate = [parts.raiseFlags(flags.NV), ret(select(sign.get, fit(min), fit(max)))];
      return [
        when(bits.isNan(a!.get), [parts.raiseFlags(flags.NV), ret(fit(max))]),
        when(bits.isZero(a!.get), ret(c(0))),
        sign.set(bits.isNegative(a!.get)),
        bits.unpack(a!, x.exponent, x.significand),
        // Distance from bit 62 to the units.
        shift.set(i32.sub(k(62 + bits.layout.bias), x.exponent.get)),
        when(i32.ltS(shift.get, k(-1)), saturate),
        when(
          i32.leS(shift.get, k(0)),
          [whole.set(i64.shl(x.significand.get, i64.sub(c(0), i64.extendS(shift.get)))), rest.set(c(0))],
          when(
            i32.ltS(shift.get, k(64)),
            [whole.set(i64.shrU(x.significand.get, by)), rest.set(i64.shl(x.significand.get, i64.sub(c(64), by)))],
            [whole.set(c(0)), rest.set(call(parts.shiftJam, x.significand.get, i32.sub(shift.get, k(64))))],
          ),
        ),
        whole.set(i64.add(whole.get, i64.extendU(up))),
        when(tooLarge, saturate),
        when(nonZero(rest.get), parts.raiseFlags(flags.NX)),
        fit(select(sign.get, i64.sub(c(0), whole.get), whole.get)),
      ] as I64;
    });

const fromInteger =
  (name: string, signed: boolean): Emit =>
  (ctx) =>
    define(ctx, name, 1, true, (locals, [a], mode) => {
      const { parts, bits, format } = ctx;
      const sign = locals.local('i32');
      const zeros = locals.local('i64');
      return [
        when(isZero(a!.get), ret(c(0))),
        sign.set(signed ? i64.ltS(a!.get, c(0)) : k(0)),
        when(sign.get, a!.set(i64.sub(c(0), a!.get))),
        zeros.set(i64.clz(a!.get)),
        a!.set(
          choose(
            'i64',
            isZero(zeros.get),
            call(parts.shiftJam, a!.get, k(1)),
            i64.shl(a!.get, i64.sub(zeros.get, c(1))),
          ),
        ),
        call(parts.round[format], sign.get, i32.sub(k(63 + bits.layout.bias), i32.wrap(zeros.get)), a!.get, mode!.get),
      ] as I64;
    });

/** From the context's format to another. */
const toFormat =
  (name: string, target: FloatFormat): Emit =>
  (ctx) =>
    define(ctx, name, 1, true, (locals, [a], mode) => {
      const { parts, bits } = ctx;
      const to = new Bits(target);
      const x = unpacked(locals);
      const sign = bits.isNegative(a!.get);
      return [
        propagateNan({ ...ctx, bits: narrowNan(bits, to) }, [a!]),
        when(bits.isInfinite(a!.get), ret(to.signed(sign, c(to.infinity)))),
        when(bits.isZero(a!.get), ret(to.signed(sign, c(0)))),
        bits.unpack(a!, x.exponent, x.significand),
        call(
          parts.round[target],
          sign,
          i32.add(x.exponent.get, k(to.layout.bias - layouts[ctx.format].bias)),
          x.significand.get,
          mode!.get,
        ),
      ] as I64;
    });
/** The tests of one format with the canonical NaN of another. */
const narrowNan = (from: Bits, to: Bits): Bits => Object.assign(Object.create(from) as Bits, { nan: to.nan });

export const emitConversions = {
  toI32: toInteger('toI32', 32, true),
  toU32: toInteger('toU32', 32, false),
  toI64: toInteger('toI64', 64, true),
  toU64: toInteger('toU64', 64, false),
  fromI64: fromInteger('fromI64', true),
  fromU64: fromInteger('fromU64', false),
  narrow: toFormat('narrow', 'f32'),
  widen: toFormat('widen', 'f64'),
} as const;
