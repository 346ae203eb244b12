/**
 * Little-endian records declared once: field name → scalar type, in wire order, naturally aligned as a C compiler
 * lays them out. uAPI structures, PCI and NVMe data structures and ELF headers all use it.
 */
export interface Scalar<T> {
  readonly kind: string;
  readonly bytes: number;
  readonly align: number;
  read(view: DataView, offset: number): T;
  write(view: DataView, offset: number, value: T): void;
  readonly zero: T;
}

const number = (
  kind: string,
  bytes: number,
  read: (v: DataView, o: number) => number,
  write: (v: DataView, o: number, x: number) => void,
): Scalar<number> => ({ kind, bytes, align: bytes, read, write, zero: 0 });

export const u8 = number('u8', 1, (v, o) => v.getUint8(o), (v, o, x) => v.setUint8(o, x)); // prettier-ignore
export const u16 = number('u16', 2, (v, o) => v.getUint16(o, true), (v, o, x) => v.setUint16(o, x, true)); // prettier-ignore
export const u32 = number('u32', 4, (v, o) => v.getUint32(o, true), (v, o, x) => v.setUint32(o, x, true)); // prettier-ignore
export const s32 = number('s32', 4, (v, o) => v.getInt32(o, true), (v, o, x) => v.setInt32(o, x, true)); // prettier-ignore
export const u64: Scalar<bigint> = {
  kind: 'u64',
  bytes: 8,
  align: 8,
  read: (v, o) => v.getBigUint64(o, true),
  write: (v, o, x) => v.setBigUint64(o, x, true),
  zero: 0n,
};

/** `count` raw bytes; a shorter value is zero-padded. */
export const bytes = (count: number): Scalar<Uint8Array> => ({
  kind: `u8[${count}]`,
  bytes: count,
  align: 1,
  read: (v, o) => new Uint8Array(v.buffer, v.byteOffset + o, count).slice(),
  write: (v, o, x) => {
    const target = new Uint8Array(v.buffer, v.byteOffset + o, count);
    target.fill(0);
    target.set(x.subarray(0, count));
  },
  zero: new Uint8Array(count),
});

type Shape = Readonly<Record<string, Scalar<number> | Scalar<bigint> | Scalar<Uint8Array>>>;
export type Values<S> = { -readonly [K in keyof S]: S[K] extends Scalar<infer T> ? T : never };

export interface Member {
  readonly name: string;
  readonly offset: number;
  readonly bytes: number;
  readonly kind: string;
}

export class Struct<const S extends Shape> {
  readonly name: string;
  /** Total size in bytes, padded to the widest member. */
  readonly size: number;
  readonly members: readonly Member[];
  readonly #shape: S;
  readonly #offsets: Readonly<Record<keyof S, number>>;

  constructor(name: string, shape: S) {
    const members: Member[] = [];
    const offsets: Record<string, number> = {};
    let at = 0;
    let align = 1;
    for (const [member, type] of Object.entries(shape)) {
      at = Math.ceil(at / type.align) * type.align;
      offsets[member] = at;
      members.push({ name: member, offset: at, bytes: type.bytes, kind: type.kind });
      at += type.bytes;
      align = Math.max(align, type.align);
    }
    this.name = name;
    this.size = Math.ceil(at / align) * align;
    this.members = members;
    this.#shape = shape;
    this.#offsets = offsets as Record<keyof S, number>;
  }

  /** Byte offset of one member. */
  offset(member: keyof S & string): number {
    return this.#offsets[member];
  }

  decode(source: Uint8Array, at = 0): Values<S> {
    const view = new DataView(source.buffer, source.byteOffset + at, source.byteLength - at);
    const out: Record<string, unknown> = {};
    for (const name of Object.keys(this.#shape)) out[name] = this.#shape[name]!.read(view, this.#offsets[name]!);
    return out as Values<S>;
  }

  /** Missing members are zero. */
  encode(values: Partial<Values<S>>): Uint8Array<ArrayBuffer> {
    const out = new Uint8Array(this.size);
    this.encodeInto(out, values);
    return out;
  }

  /** Writes only the members given; the rest of `target` stays. */
  encodeInto(target: Uint8Array, values: Partial<Values<S>>, at = 0): void {
    const view = new DataView(target.buffer, target.byteOffset + at, target.byteLength - at);
    for (const [name, value] of Object.entries(values)) {
      const type = this.#shape[name] as Scalar<unknown> | undefined;
      if (!type) throw new RangeError(`struct ${this.name} has no member ${name}`);
      type.write(view, this.#offsets[name]!, value);
    }
  }
}

export const struct = <const S extends Shape>(name: string, shape: S): Struct<S> => new Struct(name, shape);
