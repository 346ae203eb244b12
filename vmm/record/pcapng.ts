/**
 * Captures as Wireshark reads them (draft-ietf-opsawg-pcapng, block types by section): one interface a network card,
 * nanosecond time stamps of virtual time, a direction and a comment a frame.
 */
export type ByteWriter = (bytes: Uint8Array) => void;
export type Direction = 'inbound' | 'outbound';

const blockTypes = { sectionHeader: 0x0a0d0d0a, interfaceDescription: 1, enhancedPacket: 6 } as const;
const byteOrderMagic = 0x1a2b3c4d;
const linkTypeEthernet = 1;
const options = { end: 0, comment: 1, if_name: 2, if_tsresol: 9, epb_flags: 2, shb_userappl: 4 } as const;
/** epb_flags bits 1:0 (§4.3.1). */
const directionBits: Readonly<Record<Direction, number>> = { inbound: 1, outbound: 2 };
const nanoseconds = 9;

const encoder = new TextEncoder();
const padded = (length: number): number => (length + 3) & ~3;

const option = (code: number, value: Uint8Array): Uint8Array => {
  const out = new Uint8Array(4 + padded(value.length));
  const view = new DataView(out.buffer);
  view.setUint16(0, code, true);
  view.setUint16(2, value.length, true);
  out.set(value, 4);
  return out;
};

const block = (type: number, parts: readonly Uint8Array[]): Uint8Array => {
  const length = 12 + parts.reduce((sum, part) => sum + part.length, 0);
  const out = new Uint8Array(length);
  const view = new DataView(out.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, length, true);
  let at = 8;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  view.setUint32(at, length, true);
  return out;
};

const end = option(options.end, new Uint8Array(0));

/** Writes one section; interfaces are numbered in the order of `names`. */
export class PcapngWriter {
  readonly #write: ByteWriter;

  constructor(write: ByteWriter, names: readonly string[]) {
    this.#write = write;
    const header = new Uint8Array(16);
    const view = new DataView(header.buffer);
    view.setUint32(0, byteOrderMagic, true);
    view.setUint16(4, 1, true);
    // The length of the section is not known beforehand: all ones.
    view.setBigUint64(8, 0xffff_ffff_ffff_ffffn, true);
    write(block(blockTypes.sectionHeader, [header, option(options.shb_userappl, encoder.encode('iommulab')), end]));
    for (const name of names) this.add(name);
  }

  /** One more interface; it has the next number. */
  add(name: string): void {
    const description = new Uint8Array(8);
    new DataView(description.buffer).setUint16(0, linkTypeEthernet, true);
    const named = option(options.if_name, encoder.encode(name));
    const resolution = option(options.if_tsresol, Uint8Array.of(nanoseconds));
    this.#write(block(blockTypes.interfaceDescription, [description, named, resolution, end]));
  }

  /** `timeNs` of virtual time. */
  frame(port: number, timeNs: number, direction: Direction, bytes: Uint8Array, comment: string): void {
    const head = new Uint8Array(20 + padded(bytes.length));
    const view = new DataView(head.buffer);
    view.setUint32(0, port, true);
    view.setUint32(4, Math.floor(timeNs / 2 ** 32), true);
    view.setUint32(8, timeNs % 2 ** 32, true);
    view.setUint32(12, bytes.length, true);
    view.setUint32(16, bytes.length, true);
    head.set(bytes, 20);
    const flags = new Uint8Array(4);
    new DataView(flags.buffer).setUint32(0, directionBits[direction], true);
    const parts = [head, option(options.epb_flags, flags)];
    if (comment !== '') parts.push(option(options.comment, encoder.encode(comment.slice(0, 1024))));
    this.#write(block(blockTypes.enhancedPacket, [...parts, end]));
  }
}
