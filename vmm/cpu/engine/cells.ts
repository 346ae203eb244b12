import { type Code, i32, i64, type I32, type Statement } from './wasm.ts';

/** A scalar at a fixed address of linear memory: a CPU's state, seen from generated code and from JavaScript. */
export class Cell<T extends 'i32' | 'i64'> {
  readonly type: T;
  readonly address: number;
  constructor(type: T, address: number) {
    this.type = type;
    this.address = address;
  }
  get get(): Code<T> {
    return (this.type === 'i32' ? i32.load(zero, this.address) : i64.load(zero, this.address)) as Code<T>;
  }
  set(value: Code<T>): Statement {
    return this.type === 'i32'
      ? i32.store(zero, value as Code<'i32'>, this.address)
      : i64.store(zero, value as Code<'i64'>, this.address);
  }
}

const zero: I32 = i32.const(0);

/** Deals out addresses upwards from `first`. */
export class Arena {
  #next: number;
  constructor(first: number) {
    this.#next = first;
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
    return new Cell('i32', this.bytes(4, 4));
  }
  i64(): Cell<'i64'> {
    return new Cell('i64', this.bytes(8));
  }
}
