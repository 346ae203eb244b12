/** Plain data as bytes: a tag, then a length where the tag needs one, then the content. Little-endian. */
import { type Data, type SavedArray, SavedError } from '#vmm/base/saved';

const tags = {
  undefined: 0,
  false: 1,
  true: 2,
  /** Zigzag, 7 bits a byte. */
  integer: 3,
  /** 8 bytes. */
  double: 4,
  /** Sign, length, magnitude from its lowest byte on. */
  bigint: 5,
  text: 6,
  list: 7,
  record: 8,
  /** Plus the place in `arrayKinds`: length in elements, then the bytes. */
  array: 16,
} as const;
/** The order is the format's. */
const arrayKinds = [Uint8Array, Uint16Array, Uint32Array, Int32Array, Float64Array, BigUint64Array] as const;

/** Deeper data is nobody's. */
const mostDepth = 32;
const largestInteger = 2 ** 31;

class Writer {
  #bytes = new Uint8Array(1 << 16);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;
  readonly #text = new TextEncoder();

  #room(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const bytes = new Uint8Array(Math.max(2 * this.#bytes.length, this.#length + count));
    bytes.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
  }

  byte(value: number): void {
    this.#room(1);
    this.#bytes[this.#length++] = value;
  }
  length(value: number): void {
    for (; value >= 0x80; value = Math.floor(value / 0x80)) this.byte((value % 0x80) | 0x80);
    this.byte(value);
  }
  raw(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }
  text(value: string): void {
    const bytes = this.#text.encode(value);
    this.length(bytes.length);
    this.raw(bytes);
  }
  number(value: number): void {
    if (Number.isInteger(value) && Math.abs(value) < largestInteger && !Object.is(value, -0)) {
      this.byte(tags.integer);
      this.length(value < 0 ? -2 * value - 1 : 2 * value);
      return;
    }
    this.byte(tags.double);
    this.#room(8);
    this.#view.setFloat64(this.#length, value, true);
    this.#length += 8;
  }
  bigint(value: bigint): void {
    this.byte(tags.bigint);
    this.byte(value < 0n ? 1 : 0);
    const magnitude: number[] = [];
    for (let rest = value < 0n ? -value : value; rest > 0n; rest >>= 8n) magnitude.push(Number(rest & 0xffn));
    this.length(magnitude.length);
    for (const byte of magnitude) this.byte(byte);
  }
  array(value: SavedArray): void {
    const kind = arrayKinds.findIndex((one) => value instanceof one);
    this.byte(tags.array + kind);
    this.length(value.length);
    this.raw(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
  }
  data(value: Data): void {
    if (value === undefined) this.byte(tags.undefined);
    else if (typeof value === 'boolean') this.byte(value ? tags.true : tags.false);
    else if (typeof value === 'number') this.number(value);
    else if (typeof value === 'bigint') this.bigint(value);
    else if (typeof value === 'string') {
      this.byte(tags.text);
      this.text(value);
    } else if (ArrayBuffer.isView(value)) this.array(value);
    else if (Array.isArray(value)) {
      const items = value as readonly Data[];
      this.byte(tags.list);
      this.length(items.length);
      // Holes are undefined.
      for (let i = 0; i < items.length; i++) this.data(items[i]);
    } else {
      const entries = Object.entries(value as Readonly<Record<string, Data>>);
      this.byte(tags.record);
      this.length(entries.length);
      for (const [name, item] of entries) {
        this.text(name);
        this.data(item);
      }
    }
  }
  end(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }
}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  readonly #text = new TextDecoder();

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  #take(count: number): number {
    const at = this.#at;
    if (count > this.#bytes.length - at) throw new SavedError('the data ends too early');
    this.#at += count;
    return at;
  }
  byte(): number {
    return this.#bytes[this.#take(1)]!;
  }
  length(): number {
    let value = 0;
    for (let unit = 1; ; unit *= 0x80) {
      const byte = this.byte();
      value += (byte & 0x7f) * unit;
      if (byte < 0x80) return value;
      if (unit > 2 ** 42) throw new SavedError('a length that is none');
    }
  }
  raw(count: number): Uint8Array {
    const at = this.#take(count);
    return this.#bytes.subarray(at, at + count);
  }
  text(): string {
    return this.#text.decode(this.raw(this.length()));
  }
  #integer(): number {
    const value = this.length();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }
  #bigint(): bigint {
    const isNegative = this.byte() === 1;
    let value = 0n;
    for (const byte of this.raw(this.length()).toReversed()) value = (value << 8n) | BigInt(byte);
    return isNegative ? -value : value;
  }
  #array(kind: number): SavedArray {
    const make = arrayKinds[kind];
    if (!make) throw new SavedError('data of no kind that is known');
    const count = this.length();
    // A copy: the bytes may lie at any address.
    return new make(Uint8Array.from(this.raw(count * make.BYTES_PER_ELEMENT)).buffer);
  }
  /** Items are at least a byte each. */
  #count(): number {
    const count = this.length();
    if (count > this.#bytes.length - this.#at) throw new SavedError('the data ends too early');
    return count;
  }
  data(depth = 0): Data {
    if (depth > mostDepth) throw new SavedError('the data is nested too deeply');
    const tag = this.byte();
    if (tag >= tags.array) return this.#array(tag - tags.array);
    if (tag === tags.undefined) return undefined;
    if (tag === tags.false || tag === tags.true) return tag === tags.true;
    if (tag === tags.integer) return this.#integer();
    if (tag === tags.double) return this.#view.getFloat64(this.#take(8), true);
    if (tag === tags.bigint) return this.#bigint();
    if (tag === tags.text) return this.text();
    if (tag === tags.list) return Array.from({ length: this.#count() }, () => this.data(depth + 1));
    if (tag !== tags.record) throw new SavedError('data of no kind that is known');
    const record: Record<string, Data> = {};
    for (let left = this.#count(); left > 0; left--) {
      const name = this.text();
      Object.defineProperty(record, name, { value: this.data(depth + 1), enumerable: true, writable: true, configurable: true }); // prettier-ignore
    }
    return record;
  }
}

export const encodeData = (data: Data): Uint8Array => {
  const writer = new Writer();
  writer.data(data);
  return writer.end();
};

/** @throws SavedError for bytes that `encodeData` cannot have written */
export const decodeData = (bytes: Uint8Array): Data => {
  const reader = new Reader(bytes);
  const data = reader.data();
  if (!reader.isAtEnd) throw new SavedError('there is more behind the data');
  return data;
};
