/** What the receive path has to know of a frame's headers (§7.1.7 packet types, §7.1.10 checksums, §7.1.2.8 RSS). */

const ipv4Type = 0x0800;
const ipv6Type = 0x86dd;
export const protocolTcp = 6;
export const protocolUdp = 17;
/** Extension headers that the parser steps over: hop-by-hop, routing, destination options (RFC 8200 §4). */
const steppedOver = (next: number): boolean => next === 0 || next === 43 || next === 60;
const fragmentHeader = 44;
const mostExtensions = 8;

/** Filled by `parse`; one object is used for every frame. */
export interface Headers {
  /** 4, 6, or 0 for anything else. */
  ip: 0 | 4 | 6;
  ipOffset: number;
  /** End of the IP datagram in the frame (without Ethernet padding). */
  ipEnd: number;
  /** 6, 17, or 0: also 0 for fragments. */
  protocol: number;
  protocolOffset: number;
  /** First byte after the TCP or UDP header, or after the IP header. */
  payloadOffset: number;
  isFragment: boolean;
  hasExtensions: boolean;
  ipId: number;
}
export const noHeaders = (): Headers => ({
  ip: 0,
  ipOffset: 0,
  ipEnd: 0,
  protocol: 0,
  protocolOffset: 0,
  payloadOffset: 0,
  isFragment: false,
  hasExtensions: false,
  ipId: 0,
});

const half = (b: Uint8Array, i: number): number => (b[i]! << 8) | b[i + 1]!;

/** Reads the headers of a frame of `length` bytes whose tag, if any, has EtherType `vlanType`. Never reads beyond. */
export const parse = (out: Headers, frame: Uint8Array, length: number, vlanType: number): void => {
  out.ip = 0;
  out.protocol = 0;
  out.isFragment = false;
  out.hasExtensions = false;
  let offset = 12;
  let type = half(frame, offset);
  if (type === vlanType) {
    offset += 4;
    type = half(frame, offset);
  }
  offset += 2;
  out.ipOffset = offset;
  out.payloadOffset = offset;
  let next: number;
  if (type === ipv4Type) {
    const headerBytes = (frame[offset]! & 0xf) * 4;
    if (offset + 20 > length || frame[offset]! >>> 4 !== 4 || headerBytes < 20 || offset + headerBytes > length) return;
    const total = half(frame, offset + 2);
    if (total < headerBytes || offset + total > length) return;
    out.ip = 4;
    out.ipId = half(frame, offset + 4);
    out.ipEnd = offset + total;
    out.isFragment = (half(frame, offset + 6) & 0x3fff) !== 0;
    next = frame[offset + 9]!;
    offset += headerBytes;
  } else if (type === ipv6Type) {
    if (offset + 40 > length || frame[offset]! >>> 4 !== 6) return;
    const end = offset + 40 + half(frame, offset + 4);
    if (end > length) return;
    out.ip = 6;
    out.ipEnd = end;
    next = frame[offset + 6]!;
    offset += 40;
    for (let i = 0; i < mostExtensions && (steppedOver(next) || next === fragmentHeader); i++) {
      if (offset + 8 > end) return;
      out.hasExtensions = true;
      const fragment = next === fragmentHeader;
      const bytes = fragment ? 8 : (frame[offset + 1]! + 1) * 8;
      if (fragment && (half(frame, offset + 2) & 0xfff9) !== 0) out.isFragment = true;
      next = frame[offset]!;
      offset += bytes;
      if (offset > end) return;
    }
  } else return;
  out.protocolOffset = offset;
  out.payloadOffset = offset;
  if (out.isFragment) return;
  if (next === protocolUdp && offset + 8 <= out.ipEnd) {
    out.protocol = next;
    out.payloadOffset = offset + 8;
  } else if (next === protocolTcp && offset + 20 <= out.ipEnd) {
    const bytes = (frame[offset + 12]! >>> 4) * 4;
    if (bytes < 20 || offset + bytes > out.ipEnd) return;
    out.protocol = next;
    out.payloadOffset = offset + bytes;
  }
};
