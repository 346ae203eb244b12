/** Modules of generated functions, in the binary format. */
import { invariant } from '#vmm/base/invariant';
import { type Code, flatten, type FunctionReference, Locals, type Signature, typeByte, unsigned } from './wasm.ts';
import type { Result, ValueType } from './wasm.ts';

interface Defined {
  readonly reference: FunctionReference;
  readonly locals: Locals;
  body: Code;
  exported: boolean;
}

/** A module over one imported memory (`env.memory`). Imports come first; functions may call each other in any order. */
export class ModuleBuilder {
  readonly #imports: FunctionReference[] = [];
  readonly #defined: Defined[] = [];

  /** Imported as `env.<name>`. */
  import<T extends Result>(name: string, params: readonly ValueType[], result: T): FunctionReference & { result: T } {
    invariant(this.#defined.length === 0, `import ${name} after a function`);
    const reference = { name, params, result, index: this.#imports.length };
    this.#imports.push(reference);
    return reference;
  }
  /** A function whose body follows with `define`, so that others may call it already. */
  declare<T extends Result>(name: string, params: readonly ValueType[], result: T): FunctionReference & { result: T } {
    return { name, params, result, index: -1 };
  }
  define(reference: FunctionReference, build: (locals: Locals) => Code, exported = false): void {
    invariant(reference.index < 0, `${reference.name} is defined twice`);
    reference.index = this.#imports.length + this.#defined.length;
    const locals = new Locals(reference.params);
    const defined: Defined = { reference, locals, body: [], exported };
    this.#defined.push(defined);
    // Building it may define others.
    defined.body = build(locals);
  }
  /** `declare` and `define` in one. */
  function<T extends Result>(
    name: string,
    params: readonly ValueType[],
    result: T,
    build: (locals: Locals) => Code<T>,
    exported = false,
  ): FunctionReference & { result: T } {
    const reference = this.declare(name, params, result);
    this.define(reference, build, exported);
    return reference;
  }

  /** Makes all functions visible to other modules, by their names. */
  exportAll(): void {
    for (const defined of this.#defined) defined.exported = true;
  }

  /** @param table whether `env.table` is imported, a table of functions */
  encode(memory: { readonly initial: number; readonly maximum: number }, table = false): Uint8Array<ArrayBuffer> {
    const types: string[] = [];
    const typeBytes: number[][] = [];
    const typeIndex = ({ params, result }: Signature): number => {
      const key = `${params.join()}>${result}`;
      const known = types.indexOf(key);
      if (known >= 0) return known;
      const results = result === 'void' ? [0] : [1, typeByte[result]];
      typeBytes.push([0x60, params.length, ...params.map((p) => typeByte[p]), ...results]);
      return types.push(key) - 1;
    };
    const vector = (items: readonly (readonly number[])[]): number[] => [...unsigned(items.length), ...items.flat()];
    const name = (text: string): number[] => [text.length, ...Array.from(text, (char) => char.charCodeAt(0))];
    const imported = this.#imports.map((f) => [...name('env'), ...name(f.name), 0, ...unsigned(typeIndex(f))]);
    imported.push([...name('env'), ...name('memory'), 2, 1, ...unsigned(memory.initial), ...unsigned(memory.maximum)]);
    if (table) imported.push([...name('env'), ...name('table'), 1, 0x70, 0, 0]);
    const declared = this.#defined.map(({ reference }) => unsigned(typeIndex(reference)));
    const exported = this.#defined
      .filter((f) => f.exported)
      .map(({ reference }) => [...name(reference.name), 0, ...unsigned(reference.index)]);

    const bytes: number[] = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
    const append = (part: readonly number[]): void => {
      for (const byte of part) bytes.push(byte);
    };
    const section = (id: number, content: readonly number[]): void => {
      append([id, ...unsigned(content.length)]);
      append(content);
    };
    const code: number[] = unsigned(this.#defined.length);
    for (const { locals, body } of this.#defined) {
      const own = locals.encode();
      flatten(body, {
        out: own,
        call: ({ name: called, index }, tail) => {
          invariant(index >= 0, `${called} has no body`);
          own.push(tail ? 0x12 : 0x10, ...unsigned(index));
        },
        indirect: (type, tail) => own.push(tail ? 0x13 : 0x11, ...unsigned(typeIndex(type)), 0),
        leave: (_, target) => invariant(false, `a branch out of nowhere to ${target.name}`),
        hole: () => invariant(false, 'a template among functions'),
      });
      own.push(0x0b);
      for (const byte of unsigned(own.length)) code.push(byte);
      for (const byte of own) code.push(byte);
    }
    section(1, vector(typeBytes));
    section(2, vector(imported));
    section(3, vector(declared));
    section(7, vector(exported));
    section(10, code);
    return new Uint8Array(bytes);
  }
}
