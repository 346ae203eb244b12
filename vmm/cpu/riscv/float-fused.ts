/** Fused multiply-add: a × b + c rounded once, over a 128-bit sum. */
import type { I64, Local, Statement } from '../engine/wasm.ts';
import { after, call, choose, i32, i64, ret, when } from '../engine/wasm.ts';
import { nativeFusedFirst } from './float-native.ts';
import { any, define, type Emit, invalid, propagateNan } from './float-operation.ts';
import { c, isZero, k, nonZero, unpacked } from './float-parts.ts';

/** A 128-bit number in two locals. */
interface Wide {
  readonly high: Local<'i64'>;
  readonly low: Local<'i64'>;
}

export const emitFused: Emit = (ctx) => {
  const { module, parts, bits, format, mulhu } = ctx;
  /** (high, low, distance) → low half of the number shifted right, with what fell out as bit 0. */
  const shiftLow = module.function(`shiftLow.${format}`, ['i64', 'i64', 'i32'], 'i64', (locals) => {
    const [high, low, distance] = [locals.param('i64', 0), locals.param('i64', 1), locals.param('i32', 2)];
    const by = i64.extendU(distance.get);
    const kept = i64.or(i64.shl(high.get, i64.sub(c(64), by)), i64.shrU(low.get, by));
    const lost = nonZero(i64.shl(low.get, i64.sub(c(64), by)));
    return choose(
      'i64',
      i32.eqz(distance.get),
      low.get,
      choose(
        'i64',
        i32.ltU(distance.get, k(64)),
        i64.or(kept, i64.extendU(lost)),
        i64.or(call(parts.shiftJam, high.get, i32.sub(distance.get, k(64))), i64.extendU(nonZero(low.get))),
      ),
    );
  });
  return define(ctx, 'madd', 3, true, (locals, [a, b, addend], mode) => {
    const [x, y, z] = [unpacked(locals), unpacked(locals), unpacked(locals)];
    const wide = (): Wide => ({ high: locals.local('i64'), low: locals.local('i64') });
    const [product, other] = [wide(), wide()];
    const [sign, exponent, distance] = [locals.local('i32'), locals.local('i32'), locals.local('i32')];
    const [shift, borrow] = [locals.local('i64'), locals.local('i64')];
    const infinite = any([bits.isInfinite(a!.get), bits.isInfinite(b!.get)]);
    const zero = any([bits.isZero(a!.get), bits.isZero(b!.get)]);
    const differ = i32.xor(sign.get, bits.isNegative(addend!.get));

    const shiftRight = (value: Wide, by: Local<'i32'>): Statement => [
      value.low.set(call(shiftLow, value.high.get, value.low.get, by.get)),
      value.high.set(choose('i64', i32.ltU(by.get, k(64)), i64.shrU(value.high.get, i64.extendU(by.get)), c(0))),
    ];
    const lessThan = (p: Wide, q: Wide) =>
      i32.or(i64.ltU(p.high.get, q.high.get), i32.and(i64.eq(p.high.get, q.high.get), i64.ltU(p.low.get, q.low.get)));
    /** to = p - q. */
    const subtract = (to: Wide, p: Wide, q: Wide): Statement => [
      borrow.set(i64.extendU(i64.ltU(p.low.get, q.low.get))),
      to.low.set(i64.sub(p.low.get, q.low.get)),
      to.high.set(i64.sub(i64.sub(p.high.get, q.high.get), borrow.get)),
    ];
    const sum = product;
    const normalise: Statement = [
      when(isZero(sum.high.get), [
        sum.high.set(sum.low.get),
        sum.low.set(c(0)),
        exponent.set(i32.sub(exponent.get, k(64))),
      ]),
      // The leading one goes to bit 62 of the upper half; it may be at 63 after 64 bits were moved.
      shift.set(i64.clz(sum.high.get)),
      when(
        isZero(shift.get),
        [
          sum.low.set(i64.or(sum.low.get, i64.and(sum.high.get, c(1)))),
          sum.high.set(i64.shrU(sum.high.get, c(1))),
          exponent.set(i32.add(exponent.get, k(1))),
        ],
        [
          shift.set(i64.sub(shift.get, c(1))),
          when(nonZero(shift.get), [
            sum.high.set(i64.or(i64.shl(sum.high.get, shift.get), i64.shrU(sum.low.get, i64.sub(c(64), shift.get)))),
            sum.low.set(i64.shl(sum.low.get, shift.get)),
          ]),
          exponent.set(i32.sub(exponent.get, i32.wrap(shift.get))),
        ],
      ),
    ];
    return after(
      [
        nativeFusedFirst({ bits, format, fflags: parts.fflags }, locals, mode!, [a!, b!, addend!]),
        // Infinity times zero is invalid even where the addend is a quiet NaN.
        when(i32.and(infinite, zero), invalid(ctx)),
        propagateNan(ctx, [a!, b!, addend!]),
        sign.set(bits.isNegative(i64.xor(a!.get, b!.get))),
        when(infinite, [
          when(i32.and(bits.isInfinite(addend!.get), differ), invalid(ctx)),
          ret(bits.signed(sign.get, c(bits.infinity))),
        ]),
        when(bits.isInfinite(addend!.get), ret(addend!.get)),
        when(zero, [when(i32.and(bits.isZero(addend!.get), differ), ret(bits.cancelled(mode!.get))), ret(addend!.get)]),
        bits.unpack(a!, x.exponent, x.significand),
        bits.unpack(b!, y.exponent, y.significand),
        // Both leading ones at bit 62: the product's is at 124 or 125. `exponent` is that of a leading one at 126.
        product.high.set(call(mulhu, x.significand.get, y.significand.get)),
        product.low.set(i64.mul(x.significand.get, y.significand.get)),
        exponent.set(i32.sub(i32.add(x.exponent.get, y.exponent.get), k(bits.layout.bias - 2))),
        when(i32.eqz(bits.isZero(addend!.get)), [
          bits.unpack(addend!, z.exponent, z.significand),
          // Leading one at 125.
          other.high.set(i64.shrU(z.significand.get, c(1))),
          other.low.set(i64.shl(z.significand.get, c(63))),
          z.exponent.set(i32.add(z.exponent.get, k(1))),
          distance.set(i32.sub(exponent.get, z.exponent.get)),
          when(i32.geS(distance.get, k(0)), shiftRight(other, distance), [
            distance.set(i32.sub(k(0), distance.get)),
            shiftRight(product, distance),
            exponent.set(z.exponent.get),
          ]),
          when(
            differ,
            when(
              lessThan(product, other),
              [subtract(sum, other, product), sign.set(i32.eqz(sign.get))],
              [
                subtract(sum, product, other),
                when(isZero(i64.or(sum.high.get, sum.low.get)), ret(bits.cancelled(mode!.get))),
              ],
            ),
            [
              sum.low.set(i64.add(product.low.get, other.low.get)),
              sum.high.set(
                i64.add(i64.add(product.high.get, other.high.get), i64.extendU(i64.ltU(sum.low.get, other.low.get))),
              ),
            ],
          ),
        ]),
        normalise,
      ],
      call(
        parts.round[format],
        sign.get,
        exponent.get,
        i64.or(sum.high.get, i64.extendU(nonZero(sum.low.get))),
        mode!.get,
      ) as I64,
    );
  });
};
