/**
 * One declaration per register or bit-packed structure; decode, encode, the guest's write semantics,
 * names in traces and the property tests are all derived from it.
 */
/**
 * rw: software may write; ro: only the device changes it; w1c: writing 1 clears; warl: the owner's hook legalises
 * the value after the write; wo: writable, reads as 0.
 */
export type Access = 'rw' | 'ro' | 'w1c' | 'warl' | 'wo';

export interface FieldSpec {
  /** One bit, or [high, low] inclusive. */
  readonly bits: number | readonly [number, number];
  /** Default rw. */
  readonly access?: Access;
  readonly doc?: string;
  /** Names of values, for traces and `inspect`. */
  readonly values?: Readonly<Record<number, string>>;
}
export interface Field {
  readonly hi: number;
  readonly lo: number;
  readonly access: Access;
  readonly doc: string;
  readonly values: Readonly<Record<number, string>>;
  /** The field's bits in place, and how far they lie from bit 0. */
  readonly mask: bigint;
  readonly shift: bigint;
}
export interface RegisterSpec<F extends Record<string, FieldSpec>> {
  readonly width: 8 | 16 | 32 | 64;
  /** Section of the specification that defines it. */
  readonly spec: string;
  readonly doc?: string;
  readonly fields: F;
}
export type Decoded<F> = { readonly [K in keyof F]: bigint };

export class Register<const F extends Record<string, FieldSpec> = Record<string, FieldSpec>> {
  readonly width: 8 | 16 | 32 | 64;
  readonly spec: string;
  readonly doc: string;
  readonly fields: ReadonlyMap<keyof F & string, Field>;
  /** Bits that software can set to either value. */
  readonly writable: bigint;
  readonly writeOneToClear: bigint;
  /** Their lower 32 bits. */
  readonly writableWord: number;
  readonly writeOneToClearWord: number;
  /** Bits of no field. */
  readonly reserved: bigint;
  readonly #writeOnly: bigint;

  constructor(layout: RegisterSpec<F>) {
    const fields = new Map<keyof F & string, Field>();
    let seen = 0n;
    let writable = 0n;
    let w1c = 0n;
    let wo = 0n;
    for (const [name, spec] of Object.entries(layout.fields) as [keyof F & string, FieldSpec][]) {
      const [hi, lo] = typeof spec.bits === 'number' ? [spec.bits, spec.bits] : spec.bits;
      if (hi >= layout.width || hi < lo || lo < 0)
        throw new RangeError(`${name}: bits ${hi}:${lo} outside a ${layout.width}-bit register`);
      const mask = ((1n << BigInt(hi - lo + 1)) - 1n) << BigInt(lo);
      if (seen & mask) throw new RangeError(`${name}: bits ${hi}:${lo} overlap another field`);
      seen |= mask;
      const access = spec.access ?? 'rw';
      if (access === 'rw' || access === 'warl' || access === 'wo') writable |= mask;
      if (access === 'w1c') w1c |= mask;
      if (access === 'wo') wo |= mask;
      fields.set(name, { hi, lo, access, doc: spec.doc ?? '', values: spec.values ?? {}, mask, shift: BigInt(lo) });
    }
    this.width = layout.width;
    this.spec = layout.spec;
    this.doc = layout.doc ?? '';
    this.fields = fields;
    this.writable = writable;
    this.writeOneToClear = w1c;
    this.writableWord = Number(writable & 0xffff_ffffn);
    this.writeOneToClearWord = Number(w1c & 0xffff_ffffn);
    this.#writeOnly = wo;
    this.reserved = ~seen & ((1n << BigInt(layout.width)) - 1n);
  }

  #field(name: keyof F & string): Field {
    const field = this.fields.get(name);
    if (!field) throw new RangeError(`no field ${name} in a register of ${this.spec}`);
    return field;
  }

  /** Mask of one field in place. */
  mask(name: keyof F & string): bigint {
    return this.#field(name).mask;
  }

  get(raw: bigint, name: keyof F & string): bigint {
    const { mask, shift } = this.#field(name);
    return (raw & mask) >> shift;
  }

  /**
   * Takes one field out of the two 32-bit halves of a value, as an unsigned number: for hot paths, which hold no bigint.
   * RangeError for a field that lies in both halves.
   */
  reader(name: keyof F & string): (lo: number, hi: number) => number {
    const { hi, lo } = this.#field(name);
    if (lo < 32 !== hi < 32) throw new RangeError(`${name}: bits ${hi}:${lo} lie in both halves`);
    const shift = lo % 32;
    const mask = 2 ** (hi - lo + 1) - 1;
    return lo < 32 ? (low) => (low >>> shift) & mask : (_low, high) => (high >>> shift) & mask;
  }

  /** `raw` with one field replaced; RangeError when the value does not fit. */
  set(raw: bigint, name: keyof F & string, value: bigint): bigint {
    return (raw & ~this.mask(name)) | this.encode({ [name]: value } as Partial<Decoded<F>>);
  }

  decode(raw: bigint): Decoded<F> {
    const out: Record<string, bigint> = {};
    for (const [name, { mask, shift }] of this.fields) out[name] = (raw & mask) >> shift;
    return out as Decoded<F>;
  }

  encode(values: Partial<Decoded<F>>): bigint {
    let raw = 0n;
    for (const name in values) {
      const field = this.#field(name);
      const value = values[name]!;
      if (value === 0n) continue;
      const { mask, shift } = field;
      const placed = value << shift;
      if (value < 0n || placed & ~mask) throw new RangeError(`${name}=${value} does not fit ${field.hi}:${field.lo}`);
      raw |= placed;
    }
    return raw;
  }

  /** What software's store does to the register: the only place where write semantics live. */
  write(old: bigint, value: bigint): bigint {
    return ((old & ~this.writable) | (value & this.writable)) & ~(value & this.writeOneToClear);
  }

  /** What software's load sees. */
  read(raw: bigint): bigint {
    return raw & ~this.#writeOnly;
  }

  /** `cqen=1 cqon=1`: the non-zero fields by name, for traces. */
  describe(raw: bigint): string {
    const parts: string[] = [];
    for (const [name, field] of this.fields) {
      const value = this.get(raw, name);
      if (value !== 0n) parts.push(`${name}=${field.values[Number(value)] ?? `0x${value.toString(16)}`}`);
    }
    return parts.join(' ');
  }
}

export const register = <const F extends Record<string, FieldSpec>>(layout: RegisterSpec<F>): Register<F> =>
  new Register(layout);
