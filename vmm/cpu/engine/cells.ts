import { type Code, i32, i64, type I32, type Statement } from './wasm.ts';

/** A scalar at a fixed address of linear memory: a CPU's state, seen from generated code and from JavaScript. */
export class Cell<T extends 'i32' | 'i64'> {
  readonly type: T;
  readonly address: number;
  readonly #base: I32;
  constructor(type: T, address: number, base = zero) {
    this.type = type;
    this.address = address;
    this.#base = base;
  }
  get get(): Code<T> {
    return (this.type === 'i32' ? i32.load(this.#base, this.address) : i64.load(this.#base, this.address)) as Code<T>;
  }
  set(value: Code<T>): Statement {
    return this.type === 'i32'
      ? i32.store(this.#base, value as Code<'i32'>, this.address)
      : i64.store(this.#base, value as Code<'i64'>, this.address);
  }
}

const zero: I32 = i32.const(0);

/** Deals out addresses upwards from `first`; code adds `base`, where the addresses are offsets from it. */
export class Arena {
  #next: number;
  readonly #base: I32;
  constructor(first: number, base = zero) {
    this.#next = first;
    this.#base = base;
  }
  get next(): number {
    return this.#next;
  }
  bytes(count: number, align = 8): number {
    const at = Math.ceil(this.#next / align) * align;
    this.#next = at + count;
    return at;
  }
  i32(): Cell<'i32'> {
    return new Cell('i32', this.bytes(4, 4), this.#base);
  }
  i64(): Cell<'i64'> {
    return new Cell('i64', this.bytes(8), this.#base);
  }
}
