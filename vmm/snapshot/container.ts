/**
 * The file: "IOMMULAB", the format's version, a header, and sections that each carry their own check.
 *
 *   8 magic │ u32 version │ section "header" │ section … │ section "end"
 *   section: u8 length of its name │ name │ u32 bytes stored │ u32 bytes unpacked │ u32 CRC-32 of all before and of the content │ content
 *
 * All numbers are little-endian. The header is not packed, so that any reader can say what a file is.
 */
import { crc32 } from '#vmm/base/crc32';
import { type Data, SavedError } from '#vmm/base/saved';
import { decodeData, encodeData } from './encoding.ts';

/** Changed whenever what a section holds changes: a snapshot is for the program that wrote it. */
export const formatVersion = 2;

/** How sections are made small; the name is in the header. */
export interface Packing {
  readonly name: string;
  pack(bytes: Uint8Array): Uint8Array;
  /** @throws for bytes that `pack` did not make, or that do not yield `length` */
  unpack(bytes: Uint8Array, length: number): Uint8Array;
}

/** As it is. */
export const plainPacking: Packing = { name: 'none', pack: (bytes) => bytes, unpack: (bytes) => bytes };

/** The file is no snapshot, not whole, or not for this program: one sentence. */
export class SnapshotError extends Error {
  override readonly name = 'SnapshotError';
}

export interface Section {
  readonly name: string;
  readonly data: Data;
}

const magic = new TextEncoder().encode('IOMMULAB');
const prefixBytes = magic.length + 4;
const endName = 'end';
/** A section tells its length in 32 bits. */
const mostBytes = 2 ** 32 - 1;
const headerName = 'header';

const stored = (name: string, content: Uint8Array, unpacked: number): Uint8Array => {
  const label = new TextEncoder().encode(name);
  const head = 1 + label.length + 8;
  const out = new Uint8Array(head + 4 + content.length);
  const view = new DataView(out.buffer);
  out[0] = label.length;
  out.set(label, 1);
  view.setUint32(1 + label.length, content.length, true);
  view.setUint32(5 + label.length, unpacked, true);
  out.set(content, head + 4);
  view.setUint32(head, check(out.subarray(0, head), content), true);
  return out;
};

/** Over the names and lengths, too. */
const check = (head: Uint8Array, content: Uint8Array): number => {
  const sums = new DataView(new ArrayBuffer(8));
  sums.setUint32(0, crc32(head), true);
  sums.setUint32(4, crc32(content), true);
  return crc32(new Uint8Array(sums.buffer));
};

/** The pieces of a file in order, each made when it is asked for. */
export function* writeSnapshot(header: Data, sections: Iterable<Section>, packing: Packing): Generator<Uint8Array> {
  const prefix = new Uint8Array(prefixBytes);
  prefix.set(magic);
  new DataView(prefix.buffer).setUint32(magic.length, formatVersion, true);
  yield prefix;
  const head = encodeData({ packing: packing.name, content: header });
  yield stored(headerName, head, head.length);
  for (const { name, data } of sections) {
    const bytes = encodeData(data);
    if (bytes.length > mostBytes) throw new SavedError(`${name} has ${bytes.length} bytes, more than a section holds`);
    yield stored(name, packing.pack(bytes), bytes.length);
  }
  yield stored(endName, new Uint8Array(0), 0);
}

interface Place {
  readonly name: string;
  readonly content: Uint8Array;
  readonly unpacked: number;
}

/** A snapshot whose header is known and whose sections are all there and whole; they are unpacked when asked for. */
export class SnapshotFile {
  /** What was given to `writeSnapshot`. */
  readonly header: Data;
  readonly packing: string;
  readonly #places = new Map<string, Place>();

  /** @throws SnapshotError */
  constructor(bytes: Uint8Array) {
    if (bytes.length < prefixBytes || magic.some((byte, i) => bytes[i] !== byte))
      throw new SnapshotError('expected a snapshot, found another kind of file');
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const version = view.getUint32(magic.length, true);
    if (version !== formatVersion)
      throw new SnapshotError(
        `expected a snapshot of format ${formatVersion}, found format ${version}: another version of iommulab wrote it`,
      );
    let at = prefixBytes;
    let isWhole = false;
    while (!isWhole) {
      const label = bytes[at];
      if (label === undefined || at + 1 + label + 12 > bytes.length) throw cut(bytes);
      const name = new TextDecoder().decode(bytes.subarray(at + 1, at + 1 + label));
      const length = view.getUint32(at + 1 + label, true);
      const unpacked = view.getUint32(at + 5 + label, true);
      const sum = view.getUint32(at + 9 + label, true);
      const from = at + 13 + label;
      if (from + length > bytes.length) throw cut(bytes);
      const content = bytes.subarray(from, from + length);
      if (check(bytes.subarray(at, at + 9 + label), content) !== sum)
        throw new SnapshotError(`the snapshot is damaged at byte ${at} of ${bytes.length}`);
      isWhole = name === endName;
      this.#places.set(name, { name, content, unpacked });
      at = from + length;
    }
    const head = this.#decode(headerName, this.#places.get(headerName)?.content ?? new Uint8Array(0)) as {
      readonly packing: string;
      readonly content: Data;
    };
    this.header = head.content;
    this.packing = head.packing;
  }

  get names(): readonly string[] {
    return [...this.#places.keys()].filter((name) => name !== headerName && name !== endName);
  }

  /** Bytes of each section, as stored and unpacked. */
  sizes(): readonly { readonly name: string; readonly stored: number; readonly unpacked: number }[] {
    return this.names.map((name) => {
      const { content, unpacked } = this.#places.get(name)!;
      return { name, stored: content.length, unpacked };
    });
  }

  /** @throws SnapshotError */
  read(name: string, packing: Packing): Data {
    const place = this.#places.get(name);
    if (!place) throw new SnapshotError(`the snapshot has no section ${name}`);
    let bytes: Uint8Array;
    try {
      bytes = packing.unpack(place.content, place.unpacked);
    } catch {
      throw new SnapshotError(`section ${name} of the snapshot cannot be unpacked`);
    }
    return this.#decode(name, bytes);
  }

  #decode(name: string, bytes: Uint8Array): Data {
    try {
      return decodeData(bytes);
    } catch (error) {
      if (error instanceof SavedError) throw new SnapshotError(`section ${name} of the snapshot: ${error.message}`);
      throw error;
    }
  }
}

const cut = (bytes: Uint8Array): SnapshotError =>
  new SnapshotError(`the snapshot is cut off: it ends at byte ${bytes.length}, in the middle of a section`);
