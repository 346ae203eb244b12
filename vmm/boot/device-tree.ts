import { invariant } from '#vmm/base/invariant';

/**
 * A property's value: true is an empty one, numbers are 32-bit cells, bigints two cells, text ends in NUL, and an
 * array of texts is a string list.
 */
export type PropertyValue = true | number | bigint | string | readonly (number | bigint)[] | readonly string[];

export interface TreeNode {
  readonly properties?: Readonly<Record<string, PropertyValue>>;
  readonly children?: Readonly<Record<string, TreeNode>>;
}

/** Devicetree Specification v0.4 chapter 5, structure version 17. */
export const fdt = {
  magic: 0xd00dfeed,
  version: 17,
  lastCompatibleVersion: 16,
  headerBytes: 40,
  beginNode: 1,
  endNode: 2,
  property: 3,
  nop: 4,
  end: 9,
} as const;

/** Writes big-endian words and NUL-terminated text into a buffer that grows. */
class Writer {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);
  length = 0;

  cell(value: number): void {
    this.#reserve(4);
    this.#view.setUint32(this.length, value);
    this.length += 4;
  }

  append(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  text(value: string): void {
    this.append(encoder.encode(`${value}\0`));
  }

  align(): void {
    const rest = (4 - (this.length % 4)) % 4;
    this.#reserve(rest);
    this.length += rest;
  }

  done(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.length);
  }

  #reserve(count: number): void {
    if (this.length + count <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(2 * this.#bytes.length, this.length + count));
    grown.set(this.#bytes);
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}
const encoder = new TextEncoder();

/** A flattened device tree as it is handed to a guest, a multiple of 8 bytes long. */
export function encodeDeviceTree(root: TreeNode): Uint8Array<ArrayBuffer> {
  const structure = new Writer();
  const strings = new Writer();
  const stringOffsets = new Map<string, number>();
  const nameOffset = (name: string): number => {
    let offset = stringOffsets.get(name);
    if (offset === undefined) {
      offset = strings.length;
      strings.text(name);
      stringOffsets.set(name, offset);
    }
    return offset;
  };
  const node = (name: string, { properties = {}, children = {} }: TreeNode): void => {
    structure.cell(fdt.beginNode);
    structure.text(name);
    structure.align();
    for (const [property, value] of Object.entries(properties)) {
      const bytes = encodeValue(value);
      structure.cell(fdt.property);
      structure.cell(bytes.length);
      structure.cell(nameOffset(property));
      structure.append(bytes);
      structure.align();
    }
    for (const [child, contents] of Object.entries(children)) node(child, contents);
    structure.cell(fdt.endNode);
  };
  node('', root);
  structure.cell(fdt.end);

  const reservationBytes = 16;
  const structureAt = fdt.headerBytes + reservationBytes;
  const stringsAt = structureAt + structure.length;
  const total = Math.ceil((stringsAt + strings.length) / 8) * 8;
  const out = new Uint8Array(total);
  const view = new DataView(out.buffer);
  // prettier-ignore
  const header = [
    fdt.magic, total, structureAt, stringsAt, fdt.headerBytes, fdt.version, fdt.lastCompatibleVersion,
    0 /* boot hart */, strings.length, structure.length,
  ];
  header.forEach((value, i) => view.setUint32(4 * i, value));
  out.set(structure.done(), structureAt);
  out.set(strings.done(), stringsAt);
  return out;
}

function encodeValue(value: PropertyValue): Uint8Array {
  if (value === true) return new Uint8Array(0);
  const writer = new Writer();
  const items: readonly (string | number | bigint)[] = typeof value === 'object' ? value : [value];
  for (const item of items) {
    if (typeof item === 'string') writer.text(item);
    else if (typeof item === 'bigint') {
      writer.cell(Number((item >> 32n) & 0xffff_ffffn));
      writer.cell(Number(item & 0xffff_ffffn));
    } else {
      invariant(Number.isInteger(item) && item >= 0 && item < 2 ** 32, `${item} is not a device tree cell`);
      writer.cell(item);
    }
  }
  return writer.done();
}
