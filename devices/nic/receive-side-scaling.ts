/** Receive side scaling (§7.1.2.8): which fields are hashed, and the queue that the hash picks. */
import { toeplitz } from './checksum.ts';
import { type Headers, protocolTcp } from './headers.ts';
import { MRQC, RFCTL, RXCSUM, at } from './registers.ts';

/** RSS type of the write-back (§7.1.5.2.1), or 0 when nothing was hashed. */
export const rssType = { none: 0, tcpIpv4: 1, ipv4: 2, tcpIpv6: 3, ipv6Ex: 4, ipv6: 5 } as const;

/** RSS needs the extended descriptors and the checksum field's place. */
export const rssEnabled = (words: Uint32Array): boolean =>
  (words[at.MRQC]! & MRQC.ENABLE) === 1 &&
  (words[at.RXCSUM]! & RXCSUM.PCSD) !== 0 &&
  (words[at.RFCTL]! & RFCTL.EXTEN) !== 0;

const typeOf = (words: Uint32Array, headers: Headers): number => {
  const mrqc = words[at.MRQC]!;
  const tcp = headers.protocol === protocolTcp;
  if (headers.ip === 4) {
    if (tcp && (mrqc & MRQC.TCP_IPV4) !== 0) return rssType.tcpIpv4;
    return (mrqc & MRQC.IPV4) !== 0 ? rssType.ipv4 : rssType.none;
  }
  if (headers.ip !== 6) return rssType.none;
  const extensionsAllowed = !headers.hasExtensions || (words[at.RFCTL]! & RFCTL.IPV6_EX_DIS) === 0;
  if (extensionsAllowed) {
    if (tcp && (mrqc & (MRQC.TCP_IPV6_EX | MRQC.TCP_IPV6)) !== 0) return rssType.tcpIpv6;
    if ((mrqc & MRQC.IPV6_EX) !== 0) return rssType.ipv6Ex;
  }
  return (mrqc & MRQC.IPV6) !== 0 ? rssType.ipv6 : rssType.none;
};

/** Bytes of addresses and, for TCP, ports, in the order of the frame. */
const input = new Uint8Array(36);

export class ReceiveSideScaling {
  type = 0;
  hash = 0;
  queue = 0;

  /** Fills the fields above for one frame. */
  classify(words: Uint32Array, frame: Uint8Array, headers: Headers): void {
    this.type = typeOf(words, headers);
    this.hash = 0;
    this.queue = 0;
    if (this.type === rssType.none) return;
    const addresses = headers.ip === 4 ? 8 : 32;
    const from = headers.ipOffset + (headers.ip === 4 ? 12 : 8);
    for (let i = 0; i < addresses; i++) input[i] = frame[from + i]!;
    let length = addresses;
    if (this.type === rssType.tcpIpv4 || this.type === rssType.tcpIpv6)
      for (let i = 0; i < 4; i++) input[length++] = frame[headers.protocolOffset + i]!;
    this.hash = toeplitz(words, at.RSSRK, input, length);
    // RETA holds 128 entries of one byte, of which bit 7 is the queue (§10.2.5.21).
    const entry = this.hash & 0x7f;
    this.queue = (words[at.RETA + (entry >>> 2)]! >>> ((entry & 3) * 8 + 7)) & 1;
  }
}
