import type { FunctionReference } from '../engine/wasm.ts';
import type { ModuleBuilder } from '../engine/wasm-module.ts';
import { i64 } from '../engine/wasm.ts';

const c = i64.const;

/** (a, b) → upper 64 bits of the unsigned product, by halves. */
export const emitMulhu = (module: ModuleBuilder): FunctionReference & { result: 'i64' } =>
  module.function('mulhu', ['i64', 'i64'], 'i64', (locals) => {
    const [a, b] = [locals.param('i64', 0), locals.param('i64', 1)];
    const [middle, other] = [locals.local('i64'), locals.local('i64')];
    const low = (x: ReturnType<typeof c>): ReturnType<typeof c> => i64.and(x, c(0xffff_ffff));
    const high = (x: ReturnType<typeof c>): ReturnType<typeof c> => i64.shrU(x, c(32));
    return [
      // Neither sum can carry out: (2^32-1)^2 + 2 (2^32-1) = 2^64 - 1.
      middle.set(i64.add(i64.mul(high(a.get), low(b.get)), high(i64.mul(low(a.get), low(b.get))))),
      other.set(i64.add(i64.mul(low(a.get), high(b.get)), low(middle.get))),
      i64.add(i64.add(i64.mul(high(a.get), high(b.get)), high(middle.get)), high(other.get)),
    ];
  });
