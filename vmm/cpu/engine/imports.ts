import type { FunctionReference } from './wasm.ts';
import type { ModuleBuilder } from './wasm-module.ts';

type Returns<T> = FunctionReference & { result: T };

/** JavaScript's side, imported by the generated module. */
export interface EngineImports {
  /** (physical low, physical high, bytes) → 0 = refused; the value passes through `state.busValue`. */
  readonly busRead: Returns<'i32'>;
  readonly busWrite: Returns<'i32'>;
  /** (page of guest RAM) → its code page. */
  readonly codePage: Returns<'i32'>;
  /** (slot) decodes it. */
  readonly decode: Returns<'void'>;
  /** (slot, upper half) decodes an instruction that lies on two pages. */
  readonly decodeCrossing: Returns<'void'>;
  /** (slot) is where jumps often lead; `state.pcPage` is its virtual page. */
  readonly hot: Returns<'void'>;
  /** (code page) is no longer what translations were made of. */
  readonly dropTranslations: Returns<'void'>;
  /** A store to the watched page was done. */
  readonly watched: Returns<'void'>;
  /** A store to the physical address of the state, whose page is in the watch map, is about to be done. */
  readonly storing: Returns<'void'>;
}

export const importEngine = (module: ModuleBuilder): EngineImports => ({
  busRead: module.import('busRead', ['i32', 'i32', 'i32'], 'i32'),
  busWrite: module.import('busWrite', ['i32', 'i32', 'i32'], 'i32'),
  codePage: module.import('codePage', ['i32'], 'i32'),
  decode: module.import('decode', ['i32'], 'void'),
  decodeCrossing: module.import('decodeCrossing', ['i32', 'i32'], 'void'),
  hot: module.import('hot', ['i32'], 'void'),
  dropTranslations: module.import('dropTranslations', ['i32'], 'void'),
  watched: module.import('watched', [], 'void'),
  storing: module.import('storing', [], 'void'),
});
