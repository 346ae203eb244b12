/**
 * A WebAssembly assembler (core specification 2.0 with tail calls). Code is a tree of nodes with the type of the value
 * it leaves on the stack in its TypeScript type, so that an ill-typed tree does not compile; it is flattened once, when
 * the module is encoded. Trees are immutable: a tree that is used twice is emitted twice.
 */
import { invariant } from '#vmm/base/invariant';

export type ValueType = 'i32' | 'i64' | 'f32' | 'f64';
export type Result = ValueType | 'void';

/** The target of a branch: compared by identity. */
export interface Label {
  readonly name: string;
}
interface Structured {
  readonly opcode: 0x02 | 0x03 | 0x04;
  readonly result: Result;
  readonly label: Label | undefined;
  readonly body: Node;
  readonly otherwise: Node | undefined;
}
interface Branch {
  readonly targets: readonly Label[];
  readonly opcode: 0x0c | 0x0d | 0x0e;
}
interface Call {
  readonly callee: FunctionReference;
  readonly tail: boolean;
}
/** Through the table, whose index lies on the stack. */
interface IndirectCall {
  readonly type: Signature;
  readonly tail: boolean;
}
/** Left open until a template is filled in (template.ts). */
interface Open {
  readonly hole: unknown;
}
type Node = number | readonly Node[] | Structured | Branch | Call | IndirectCall | Open;

/** Code that leaves one value of type T, or none ('void'). */
export type Code<T extends Result = Result> = readonly Node[] & { readonly __leaves?: T };
export type I32 = Code<'i32'>;
export type I64 = Code<'i64'>;
export type Statement = Code<'void'>;

export interface Signature {
  readonly params: readonly ValueType[];
  readonly result: Result;
}
export interface FunctionReference extends Signature {
  readonly name: string;
  index: number;
}

export const typeByte = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, void: 0x40 } as const;

export const unsigned = (value: number): number[] => {
  const out: number[] = [];
  let rest = value;
  do {
    const byte = rest % 128;
    rest = Math.floor(rest / 128);
    out.push(rest > 0 ? byte | 128 : byte);
  } while (rest > 0);
  return out;
};
const signed = (value: number): number[] => {
  const out: number[] = [];
  let rest = value;
  for (;;) {
    const byte = rest & 127;
    rest >>= 7;
    if ((rest === 0 && !(byte & 64)) || (rest === -1 && byte & 64)) return [...out, byte];
    out.push(byte | 128);
  }
};
const signedWide = (value: bigint): number[] => {
  const out: number[] = [];
  let rest = BigInt.asIntN(64, value);
  for (;;) {
    const byte = Number(rest & 127n);
    rest >>= 7n;
    if ((rest === 0n && !(byte & 64)) || (rest === -1n && byte & 64)) return [...out, byte];
    out.push(byte | 128);
  }
};

type Unary<A extends ValueType, R extends ValueType> = (a: Code<A>) => Code<R>;
type Binary<A extends ValueType, R extends ValueType> = (a: Code<A>, b: Code<A>) => Code<R>;
const un = <A extends ValueType, R extends ValueType>(opcode: number): Unary<A, R> => (a) => [a, opcode]; // prettier-ignore
const bin = <A extends ValueType, R extends ValueType>(opcode: number): Binary<A, R> => (a, b) => [a, b, opcode]; // prettier-ignore
/** `offset` is added to the address without wrapping; alignment is only a hint and always given as 1. */
const load = <R extends ValueType>(opcode: number) => (address: I32, offset = 0): Code<R> => [address, opcode, 0, ...unsigned(offset)]; // prettier-ignore
const store = <A extends ValueType>(opcode: number) => (address: I32, value: Code<A>, offset = 0): Statement => [address, value, opcode, 0, ...unsigned(offset)]; // prettier-ignore

type I = 'i32';
type L = 'i64';
// prettier-ignore
export const i32 = {
  const: (value: number): I32 => [0x41, ...signed(value | 0)],
  load: load<I>(0x28), load8s: load<I>(0x2c), load8u: load<I>(0x2d), load16s: load<I>(0x2e), load16u: load<I>(0x2f),
  store: store<I>(0x36), store8: store<I>(0x3a), store16: store<I>(0x3b),
  eqz: un<I, I>(0x45), eq: bin<I, I>(0x46), ne: bin<I, I>(0x47), ltS: bin<I, I>(0x48), ltU: bin<I, I>(0x49),
  gtS: bin<I, I>(0x4a), gtU: bin<I, I>(0x4b), leS: bin<I, I>(0x4c), leU: bin<I, I>(0x4d), geS: bin<I, I>(0x4e), geU: bin<I, I>(0x4f),
  clz: un<I, I>(0x67), ctz: un<I, I>(0x68), popcnt: un<I, I>(0x69),
  add: bin<I, I>(0x6a), sub: bin<I, I>(0x6b), mul: bin<I, I>(0x6c), divS: bin<I, I>(0x6d), divU: bin<I, I>(0x6e),
  remS: bin<I, I>(0x6f), remU: bin<I, I>(0x70), and: bin<I, I>(0x71), or: bin<I, I>(0x72), xor: bin<I, I>(0x73),
  shl: bin<I, I>(0x74), shrS: bin<I, I>(0x75), shrU: bin<I, I>(0x76), rotl: bin<I, I>(0x77), rotr: bin<I, I>(0x78),
  wrap: un<L, I>(0xa7), reinterpret: un<'f32', I>(0xbc), extend8s: un<I, I>(0xc0), extend16s: un<I, I>(0xc1),
};
// prettier-ignore
export const i64 = {
  const: (value: number | bigint): I64 => [0x42, ...signedWide(BigInt(value))],
  load: load<L>(0x29), load8s: load<L>(0x30), load8u: load<L>(0x31), load16s: load<L>(0x32), load16u: load<L>(0x33),
  load32s: load<L>(0x34), load32u: load<L>(0x35),
  store: store<L>(0x37), store8: store<L>(0x3c), store16: store<L>(0x3d), store32: store<L>(0x3e),
  eqz: un<L, I>(0x50), eq: bin<L, I>(0x51), ne: bin<L, I>(0x52), ltS: bin<L, I>(0x53), ltU: bin<L, I>(0x54),
  gtS: bin<L, I>(0x55), gtU: bin<L, I>(0x56), leS: bin<L, I>(0x57), leU: bin<L, I>(0x58), geS: bin<L, I>(0x59), geU: bin<L, I>(0x5a),
  clz: un<L, L>(0x79), ctz: un<L, L>(0x7a), popcnt: un<L, L>(0x7b),
  add: bin<L, L>(0x7c), sub: bin<L, L>(0x7d), mul: bin<L, L>(0x7e), divS: bin<L, L>(0x7f), divU: bin<L, L>(0x80),
  remS: bin<L, L>(0x81), remU: bin<L, L>(0x82), and: bin<L, L>(0x83), or: bin<L, L>(0x84), xor: bin<L, L>(0x85),
  shl: bin<L, L>(0x86), shrS: bin<L, L>(0x87), shrU: bin<L, L>(0x88), rotl: bin<L, L>(0x89), rotr: bin<L, L>(0x8a),
  extendS: un<I, L>(0xac), extendU: un<I, L>(0xad), reinterpret: un<'f64', L>(0xbd),
  extend8s: un<L, L>(0xc2), extend16s: un<L, L>(0xc3), extend32s: un<L, L>(0xc4),
};
// prettier-ignore
export const f32 = {
  add: bin<'f32', 'f32'>(0x92), sub: bin<'f32', 'f32'>(0x93), mul: bin<'f32', 'f32'>(0x94), div: bin<'f32', 'f32'>(0x95),
  sqrt: un<'f32', 'f32'>(0x91), demote: un<'f64', 'f32'>(0xb6), reinterpret: un<I, 'f32'>(0xbe),
};
// prettier-ignore
export const f64 = {
  eq: bin<'f64', I>(0x61), ne: bin<'f64', I>(0x62), lt: bin<'f64', I>(0x63), gt: bin<'f64', I>(0x64), le: bin<'f64', I>(0x65), ge: bin<'f64', I>(0x66),
  add: bin<'f64', 'f64'>(0xa0), sub: bin<'f64', 'f64'>(0xa1), mul: bin<'f64', 'f64'>(0xa2), div: bin<'f64', 'f64'>(0xa3),
  sqrt: un<'f64', 'f64'>(0x9f), promote: un<'f32', 'f64'>(0xbb), reinterpret: un<L, 'f64'>(0xbf),
};

export const label = (name = ''): Label => ({ name });
/** `br(its label)` leaves the block. */
export const block = (target: Label, ...body: Statement[]): Statement => [
  { opcode: 0x02, result: 'void', label: target, body, otherwise: undefined },
];
/** `br(its label)` starts the body again; falling off the end leaves the loop. */
export const loop = (target: Label, ...body: Statement[]): Statement => [
  { opcode: 0x03, result: 'void', label: target, body, otherwise: undefined },
];
export const when = (condition: I32, then: Statement, otherwise?: Statement): Statement => [
  condition,
  { opcode: 0x04, result: 'void', label: undefined, body: then, otherwise },
];
/** Evaluates only the chosen arm. */
export const choose = <T extends ValueType>(type: T, condition: I32, then: Code<T>, otherwise: Code<T>): Code<T> => [
  condition,
  { opcode: 0x04, result: type, label: undefined, body: then, otherwise },
];
/** Evaluates both arms; no branch. */
export const select = <T extends ValueType>(condition: I32, then: Code<T>, otherwise: Code<T>): Code<T> => [
  then,
  otherwise,
  condition,
  0x1b,
];
export const br = (target: Label): Statement => [{ opcode: 0x0c, targets: [target] }];
export const brIf = (target: Label, condition: I32): Statement => [condition, { opcode: 0x0d, targets: [target] }];
/** The last target is the default. */
export const brTable = (targets: readonly Label[], index: I32): Statement => [index, { opcode: 0x0e, targets }];
export const ret = (value: Code = []): Statement => [value, 0x0f];
export const drop = (value: Code<ValueType>): Statement => [value, 0x1a];
export const unreachable: Statement = [0x00];
export const fill = (address: I32, value: I32, bytes: I32): Statement => [address, value, bytes, 0xfc, 11, 0];
export const copy = (to: I32, from: I32, bytes: I32): Statement => [to, from, bytes, 0xfc, 10, 0, 0];
/** Statements, then a value: for a value that needs a few steps. */
export const after = <T extends ValueType>(statements: readonly Statement[], value: Code<T>): Code<T> => [
  ...statements,
  value,
];
export const call = <T extends Result>(callee: FunctionReference & { result: T }, ...args: Code[]): Code<T> => {
  invariant(args.length === callee.params.length, `${callee.name} takes ${callee.params.length} arguments`);
  return [args, { callee, tail: false }];
};
/** Calls what the table of the module holds at `index`. */
export const callIndirect = <T extends Result>(
  type: Signature & { result: T },
  index: I32,
  ...args: Code[]
): Code<T> => [args, index, { type, tail: false }];
/** The same in place of a return. */
export const returnCallIndirect = (type: Signature, index: I32, ...args: Code[]): Statement => [
  args,
  index,
  { type, tail: true },
];
/** Calls in place of a return. */
export const returnCall = (callee: FunctionReference, ...args: Code[]): Statement => [args, { callee, tail: true }];
export const globalGet = <T extends ValueType>(_type: T, index: number): Code<T> => [0x23, ...unsigned(index)];
/** A place that a template fills in. */
export const open = <T extends Result>(hole: unknown): Code<T> => [{ hole }];

export class Local<T extends ValueType = ValueType> {
  readonly type: T;
  readonly index: number;
  constructor(type: T, index: number) {
    this.type = type;
    this.index = index;
  }
  get get(): Code<T> {
    return [0x20, ...unsigned(this.index)];
  }
  set(value: Code<T>): Statement {
    return [value, 0x21, ...unsigned(this.index)];
  }
  /** Sets and leaves the value. */
  tee(value: Code<T>): Code<T> {
    return [value, 0x22, ...unsigned(this.index)];
  }
}

/** The locals of a function under construction. */
export class Locals {
  readonly #types: ValueType[];
  readonly #params: number;
  readonly #free = new Map<ValueType, number[]>();
  #lent: Local[] = [];

  constructor(params: readonly ValueType[]) {
    this.#types = [...params];
    this.#params = params.length;
  }
  /** Parameters that `local` may hand out. */
  lend(first: number, count: number, type: ValueType): void {
    this.#free.set(type, [...(this.#free.get(type) ?? []), ...Array.from({ length: count }, (_, i) => first + i)]);
  }
  /** More was asked for than parameters were lent. */
  get hasGrown(): boolean {
    return this.#types.length > this.#params;
  }
  /** Holds garbage from an earlier scope until it is set. */
  local<T extends ValueType>(type: T): Local<T> {
    const index = this.#free.get(type)?.pop() ?? this.#types.push(type) - 1;
    const local = new Local(type, index);
    this.#lent.push(local);
    return local;
  }
  param<T extends ValueType>(type: T, index: number): Local<T> {
    invariant(this.#types[index] === type && index < this.#params, `parameter ${index} is no ${type}`);
    return new Local(type, index);
  }
  /** Locals made inside `build` may be reused once it returns. */
  scope<R>(build: () => R): R {
    const outer = this.#lent;
    this.#lent = [];
    const result = build();
    for (const { type, index } of this.#lent) this.#free.set(type, [...(this.#free.get(type) ?? []), index]);
    this.#lent = outer;
    return result;
  }
  encode(): number[] {
    const own = this.#types.slice(this.#params);
    return [...unsigned(own.length), ...own.flatMap((type) => [1, typeByte[type]])];
  }
}

/** Where a tree is flattened to, and who knows indexes. */
export interface Sink {
  readonly out: number[];
  call(callee: FunctionReference, tail: boolean): void;
  indirect(type: Signature, tail: boolean): void;
  /** A branch to a label that encloses the tree, with the number of labels in between. */
  leave(opcode: number, target: Label, depth: number): void;
  hole(hole: unknown, depth: number): void;
}

export const flatten = (node: Code, sink: Sink): void => flattenNode(node, sink, []);

const flattenNode = (node: Node, sink: Sink, labels: (Label | undefined)[]): void => {
  if (typeof node === 'number') {
    sink.out.push(node);
  } else if ('length' in node) {
    for (const child of node) flattenNode(child, sink, labels);
  } else if ('targets' in node) {
    const first = node.targets[0]!;
    if (node.targets.length === 1 && !labels.includes(first)) {
      sink.leave(node.opcode, first, labels.length);
      return;
    }
    const depths = node.targets.map((target) => {
      const at = labels.lastIndexOf(target);
      invariant(at >= 0, `a branch out of nowhere to ${target.name}`);
      return labels.length - 1 - at;
    });
    sink.out.push(node.opcode);
    if (node.opcode === 0x0e) sink.out.push(...unsigned(depths.length - 1));
    for (const depth of depths) sink.out.push(...unsigned(depth));
  } else if ('callee' in node) {
    sink.call(node.callee, node.tail);
  } else if ('type' in node) {
    sink.indirect(node.type, node.tail);
  } else if ('hole' in node) {
    sink.hole(node.hole, labels.length);
  } else {
    sink.out.push(node.opcode, typeByte[node.result]);
    labels.push(node.label);
    flattenNode(node.body, sink, labels);
    if (node.otherwise !== undefined) {
      sink.out.push(0x05);
      flattenNode(node.otherwise, sink, labels);
    }
    labels.pop();
    sink.out.push(0x0b);
  }
};
