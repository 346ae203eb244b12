export type FloatFormat = 'f32' | 'f64';
export type FloatOperation =
  | 'add' | 'sub' | 'mul' | 'div' | 'sqrt' | 'madd' | 'min' | 'max' | 'eq' | 'lt' | 'le' | 'classify'
  | 'toI32' | 'toU32' | 'toI64' | 'toU64' | 'fromI64' | 'fromU64' | 'narrow' | 'widen'; // prettier-ignore
import type { FunctionReference, ModuleBuilder } from '../engine/wasm.ts';
import { unreachable } from '../engine/wasm.ts';
export const emitFloat = (module: ModuleBuilder) => {
  const m = new Map<string, FunctionReference & { result: 'i64' }>();
  return (operation: FloatOperation, format: FloatFormat): FunctionReference & { result: 'i64' } => {
    const n =
      operation === 'madd'
        ? 3
        : ['add', 'sub', 'mul', 'div', 'min', 'max', 'eq', 'lt', 'le'].includes(operation)
          ? 2
          : 1;
    const key = operation + format;
    if (!m.has(key))
      m.set(
        key,
        module.function(
          key,
          Array.from({ length: n }, () => 'i64' as const),
          'i64',
          () => unreachable as never,
        ),
      );
    return m.get(key)!;
  };
};
