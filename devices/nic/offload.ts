/** Checksum insertion and TCP/UDP segmentation on transmit (§7.2.6, §7.3). */
import { field, parts, properties } from '#vmm/base/saved';
import { addWords, fold } from './checksum.ts';
import { TXD } from './descriptors.ts';

const largestSegment = 16 * 1024;
const tcpFinPush = 0x09;

/** Writes ~sum(first … end) at `target`; does nothing where the frame has no such bytes. */
const insert = (
  frame: Uint8Array,
  first: number,
  end: number,
  target: number,
  seed: number,
  zeroIsOnes: boolean,
): void => {
  if (first >= end || target + 2 > end) return;
  let sum = ~fold(addWords(frame, first, end, seed)) & 0xffff;
  if (sum === 0 && zeroIsOnes) sum = 0xffff;
  frame[target] = sum >>> 8;
  frame[target + 1] = sum;
};

/** Legacy descriptors (§7.2.5.3): CSS … end into CSO; the field's own content is the seed. */
export const insertLegacyChecksum = (frame: Uint8Array, length: number, css: number, cso: number): void =>
  insert(frame, css, length, cso, 0, false);

/** The context (§7.2.6) last seen in a queue, and a segmentation under way. */
export class Offload {
  ipcss = 0;
  ipcso = 0;
  ipcse = 0;
  tucss = 0;
  tucso = 0;
  tucse = 0;
  isTcp = false;
  isIpv4 = false;
  #headerBytes = 0;
  #mss = 0;
  #frame: Uint8Array | undefined;
  segmenting = false;
  /** Tag for every segment, or -1. */
  vlan = -1;
  #total = 0;
  #offset = 0;
  #index = 0;
  readonly saved = parts({
    context: properties(() => this, ['ipcss', 'ipcso', 'ipcse', 'tucss', 'tucso', 'tucse', 'isTcp', 'isIpv4', 'segmenting', 'vlan']), // prettier-ignore
    headerBytes: field(
      () => this.#headerBytes,
      (value) => (this.#headerBytes = value),
    ),
    mss: field(
      () => this.#mss,
      (value) => (this.#mss = value),
    ),
    total: field(
      () => this.#total,
      (value) => (this.#total = value),
    ),
    offset: field(
      () => this.#offset,
      (value) => (this.#offset = value),
    ),
    index: field(
      () => this.#index,
      (value) => (this.#index = value),
    ),
  });

  /** The segment that `next` built, tag and padding still to come. */
  get frame(): Uint8Array {
    return (this.#frame ??= new Uint8Array(largestSegment + 64));
  }

  reset(): void {
    this.ipcss = this.ipcso = this.ipcse = this.tucss = this.tucso = this.tucse = 0;
    this.isTcp = this.isIpv4 = this.segmenting = false;
    this.#headerBytes = this.#mss = 0;
  }

  setContext(ip: number, transport: number, command: number, segmentation: number): void {
    this.ipcss = ip & 0xff;
    this.ipcso = (ip >>> 8) & 0xff;
    this.ipcse = ip >>> 16;
    this.tucss = transport & 0xff;
    this.tucso = (transport >>> 8) & 0xff;
    this.tucse = transport >>> 16;
    this.isTcp = (command & TXD.TUCMD_TCP) !== 0;
    this.isIpv4 = (command & TXD.TUCMD_IPV4) !== 0;
    this.#headerBytes = (segmentation >>> 8) & 0xff;
    this.#mss = segmentation >>> 16;
  }

  /** Begins cutting `total` assembled bytes; false when the context cannot describe them. */
  start(total: number, vlan: number): boolean {
    const header = this.#headerBytes;
    const transportBytes = this.isTcp ? 20 : 8;
    if (this.#mss === 0 || header < 14 || header > total || header + this.#mss > largestSegment) return false;
    if (this.ipcss + 20 > header || this.tucss + transportBytes > header || this.tucss < this.ipcss) return false;
    this.#total = total;
    this.#offset = header;
    this.#index = 0;
    this.vlan = vlan;
    this.segmenting = true;
    return true;
  }

  /** Builds the next segment in `frame` and returns its length; ends `segmenting` with the last. */
  next(source: Uint8Array): number {
    const { frame, ipcss, tucss } = this;
    const header = this.#headerBytes;
    const payload = Math.min(this.#mss, this.#total - this.#offset);
    const isLast = this.#offset + payload >= this.#total;
    frame.set(source.subarray(0, header));
    frame.set(source.subarray(this.#offset, this.#offset + payload), header);
    const length = header + payload;
    const half = (at: number): number => (frame[at]! << 8) | frame[at + 1]!;
    const put = (at: number, value: number): void => {
      frame[at] = value >>> 8;
      frame[at + 1] = value;
    };
    if (this.isIpv4) {
      put(ipcss + 2, length - ipcss);
      put(ipcss + 4, (half(ipcss + 4) + this.#index) & 0xffff);
    } else put(ipcss + 4, Math.max(0, length - ipcss - 40));
    if (this.isTcp) {
      const sequence = ((half(tucss + 4) << 16) | half(tucss + 6)) + (this.#offset - header);
      put(tucss + 4, (sequence >>> 16) & 0xffff);
      put(tucss + 6, sequence & 0xffff);
      if (!isLast) frame[tucss + 13] = frame[tucss + 13]! & ~tcpFinPush;
    } else put(tucss + 4, length - tucss);
    if (this.isIpv4)
      insert(frame, ipcss, this.ipcse === 0 ? header : Math.min(this.ipcse + 1, length), this.ipcso, 0, false);
    // Software leaves the sum of the pseudo header without the length in the field; each segment has its own (§7.3.6).
    insert(frame, tucss, length, this.tucso, length - tucss, !this.isTcp);
    this.#offset += payload;
    this.#index++;
    this.segmenting = !isLast;
    return length;
  }
}

/** Data descriptors without segmentation: POPTS picks what the context describes (§7.2.7.3). */
export const insertChecksums = (context: Offload, frame: Uint8Array, length: number, options: number): void => {
  const end = (last: number): number => (last === 0 ? length : Math.min(last + 1, length));
  if ((options & TXD.POPTS_IXSM) !== 0) insert(frame, context.ipcss, end(context.ipcse), context.ipcso, 0, false);
  if ((options & TXD.POPTS_TXSM) !== 0)
    insert(frame, context.tucss, end(context.tucse), context.tucso, 0, !context.isTcp);
};
