import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as w from '#vmm/cpu/engine/wasm';
import { ModuleBuilder } from '#vmm/cpu/engine/wasm-module';

const memory = { initial: 1, maximum: 1 };
const run = (build: (module: ModuleBuilder) => void): Record<string, (...args: (number | bigint)[]) => unknown> => {
  const module = new ModuleBuilder();
  build(module);
  const instance = new WebAssembly.Instance(new WebAssembly.Module(module.encode(memory)), {
    env: { memory: new WebAssembly.Memory(memory) },
  });
  return instance.exports as Record<string, (...args: (number | bigint)[]) => unknown>;
};

describe('wasm assembler', () => {
  it('encodes every constant so that it reads back', () => {
    fc.assert(
      fc.property(fc.integer(), fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }), (narrow, wide) => {
        const f = run((m) => {
          m.function('narrow', [], 'i32', () => w.i32.const(narrow), true);
          m.function('wide', [], 'i64', () => w.i64.const(wide), true);
        });
        expect(f.narrow!()).toBe(narrow);
        expect(f.wide!()).toBe(wide);
      }),
      { numRuns: 200 },
    );
  });

  it('counts branch depths through nested structures', () => {
    const f = run((m) => {
      m.function(
        'sum',
        ['i32'],
        'i32',
        (locals) => {
          const n = locals.param('i32', 0);
          const total = locals.local('i32');
          const [again, done] = [w.label(), w.label()];
          return [
            w.block(
              done,
              w.loop(
                again,
                w.when(w.i32.eqz(n.get), w.br(done), [
                  total.set(w.i32.add(total.get, n.get)),
                  n.set(w.i32.sub(n.get, w.i32.const(1))),
                  w.br(again),
                ]),
              ),
            ),
            total.get,
          ];
        },
        true,
      );
    });
    expect(f.sum!(100)).toBe(5050);
  });

  it('dispatches through a branch table and calls forward', () => {
    const f = run((m) => {
      const later = m.declare('later', ['i32'], 'i32');
      m.function(
        'pick',
        ['i32'],
        'i32',
        (locals) => {
          const labels = [w.label(), w.label(), w.label()];
          let body: w.Statement = w.brTable(labels, locals.param('i32', 0).get);
          labels.forEach((label, i) => {
            body = [w.block(label, body), w.ret(w.call(later, w.i32.const(i)))];
          });
          return [body, w.unreachable] as w.I32;
        },
        true,
      );
      m.define(later, (locals) => w.i32.mul(locals.param('i32', 0).get, w.i32.const(10)));
    });
    expect([0, 1, 2, 99].map((i) => f.pick!(i))).toEqual([0, 10, 20, 20]);
  });

  it('refuses a branch to a label that does not enclose it', () => {
    expect(() => run((m) => m.function('f', [], 'void', () => w.br(w.label('elsewhere'))))).toThrow('elsewhere');
  });
});
