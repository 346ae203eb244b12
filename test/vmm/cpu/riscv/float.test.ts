import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Cell } from '#vmm/cpu/engine/cells';
import { call, type I64 } from '#vmm/cpu/engine/wasm';
import { ModuleBuilder } from '#vmm/cpu/engine/wasm-module';
import { emitFloat, type FloatFormat, type FloatOperation } from '#vmm/cpu/riscv/float';
import { emitMulhu } from '#vmm/cpu/riscv/multiply';
import * as exact from './exact-float.ts';

const operands: Readonly<Record<string, number>> = { add: 2, sub: 2, mul: 2, div: 2, sqrt: 1, madd: 3, min: 2, max: 2, eq: 2, lt: 2, le: 2 }; // prettier-ignore
const flagsAt = 16;

type Run = (operation: FloatOperation, format: FloatFormat, mode: number, values: readonly bigint[], before?: number) => exact.Outcome; // prettier-ignore

const build = (): Run => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  const module = new ModuleBuilder();
  const float = emitFloat(module, new Cell('i32', flagsAt), emitMulhu(module));
  const names = [...exact.operations, 'toI32', 'toU32', 'toI64', 'toU64', 'fromI64', 'fromU64', 'narrow', 'widen'] as FloatOperation[]; // prettier-ignore
  for (const name of names)
    for (const format of ['f32', 'f64'] as const) {
      const callee = float(name, format);
      const params = Array.from({ length: operands[name] ?? 1 }, () => 'i64' as const);
      module.function(
        `${name}_${format}`,
        [...params, 'i32'],
        'i64',
        (locals) => {
          const values = params.map((_, i) => locals.param('i64', i).get);
          const mode = callee.params.at(-1) === 'i32' ? [locals.param('i32', params.length).get] : [];
          return call(callee, ...values, ...mode) as I64;
        },
        true,
      );
    }
  const bytes = module.encode({ initial: 1, maximum: 1 });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } });
  const view = new DataView(memory.buffer);
  return (operation, format, mode, values, before = 0) => {
    view.setUint32(flagsAt, before, true);
    const f = exports[`${operation}_${format}`] as (...args: (bigint | number)[]) => bigint;
    const bits = BigInt.asUintN(64, f(...values, mode));
    return { bits, flags: view.getUint32(flagsAt, true) };
  };
};
const run = build();

/** Bit patterns with many special and nearly equal ones. */
const pattern = (format: FloatFormat): fc.Arbitrary<bigint> => {
  const { width, fraction, bias } = exact.shape(format);
  const top = 2n * bias + 1n;
  const field = fc.oneof(
    fc.bigInt({ min: 0n, max: top }),
    fc.constantFrom(0n, 1n, 2n, bias - 1n, bias, bias + 1n, bias + fraction, bias + fraction + 1n, bias + 31n, bias + 63n, bias + 64n, top - 1n, top), // prettier-ignore
  );
  const max = (1n << fraction) - 1n;
  const significand = fc.oneof(
    fc.bigInt({ min: 0n, max }),
    fc.constantFrom(0n, 1n, 2n, max, max - 1n, 1n << (fraction - 1n), (1n << (fraction - 1n)) + 1n, (1n << (fraction - 1n)) - 1n), // prettier-ignore
    fc.bigInt({ min: 0n, max: fraction - 1n }).map((bit) => 1n << bit),
  );
  return fc
    .tuple(fc.boolean(), field, significand)
    .map(([negative, e, s]) => ((negative ? 1n : 0n) << (width - 1n)) | (e << fraction) | s);
};
/** The second of a pair is often the first with few bits changed, so that sums cancel. */
const triple = (format: FloatFormat): fc.Arbitrary<[bigint, bigint, bigint]> =>
  fc.oneof(
    fc.tuple(pattern(format), pattern(format), pattern(format)),
    fc
      .tuple(pattern(format), fc.integer({ min: 0, max: Number(exact.shape(format).width) - 1 }), pattern(format))
      .map(([a, bit, b]): [bigint, bigint, bigint] => [a, a ^ (1n << BigInt(bit)), b]),
    fc
      .tuple(pattern(format), pattern(format), fc.constantFrom(0, 1, 2, 3, 4))
      .map(([a, b, mode]): [bigint, bigint, bigint] => {
        // The addend of a fused operation close to minus the product.
        const product = exact.evaluate('mul', format, mode, [a, b]).bits;
        return [a, b, product ^ (1n << (exact.shape(format).width - 1n))];
      }),
  );
const mode = fc.integer({ min: 0, max: 4 });
const hexes = (values: readonly bigint[]): string => values.map((value) => value.toString(16)).join(' ');

describe.each(['f32', 'f64'] as const)('%s', (format) => {
  it.each(exact.operations)('%s equals exact rational arithmetic, rounded once', (operation) => {
    fc.assert(
      fc.property(triple(format), mode, (values, rounding) => {
        const inputs = values.slice(0, operands[operation] ?? 1);
        const wanted = exact.evaluate(operation, format, rounding, inputs);
        expect(run(operation, format, rounding, inputs), `${operation} ${hexes(inputs)} mode ${rounding}`).toEqual(
          wanted,
        );
        // The same when NX is raised already, which native arithmetic relies on.
        const sticky = run(operation, format, rounding, inputs, 1);
        expect(sticky).toEqual({ bits: wanted.bits, flags: wanted.flags | 1 });
      }),
      { numRuns: 2500 },
    );
  });

  it.each([
    ['toI32', 32n, true],
    ['toU32', 32n, false],
    ['toI64', 64n, true],
    ['toU64', 64n, false],
  ] as const)('%s rounds, saturates and raises NV', (operation, width, signed) => {
    fc.assert(
      fc.property(pattern(format), mode, (value, rounding) => {
        const wanted = exact.toInteger(format, rounding, value, width, signed);
        expect(run(operation, format, rounding, [value]), hexes([value])).toEqual(wanted);
      }),
      { numRuns: 1500 },
    );
  });

  it.each(['fromI64', 'fromU64'] as const)('%s rounds', (operation) => {
    const value = fc.oneof(
      fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
      fc.tuple(fc.bigInt({ min: 0n, max: 63n }), fc.bigInt({ min: -2n, max: 2n })).map(([bit, near]) => BigInt.asUintN(64, (1n << bit) + near)), // prettier-ignore
    );
    fc.assert(
      fc.property(value, mode, (bits, rounding) => {
        const integer = operation === 'fromI64' ? BigInt.asIntN(64, bits) : bits;
        const wanted = exact.fromRational(format, rounding, integer < 0n, integer < 0n ? -integer : integer, 1n);
        expect(run(operation, format, rounding, [bits])).toEqual(wanted);
      }),
      { numRuns: 1000 },
    );
  });

  it('converts to the other format', () => {
    const operation = format === 'f64' ? 'narrow' : 'widen';
    fc.assert(
      fc.property(pattern(format), mode, (value, rounding) => {
        const wanted = exact.convert(format, format === 'f64' ? 'f32' : 'f64', rounding, value);
        expect(run(operation, format, rounding, [value]), hexes([value])).toEqual(wanted);
      }),
      { numRuns: 2000 },
    );
  });
});
