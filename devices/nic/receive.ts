/**
 * The receive path (§7.1): filters, packet buffer, rings, descriptors of the three kinds, checksum status, RSS, VLAN.
 *
 * Frames for which no descriptor is free wait in the packet buffer (PBA.RXA KiB); what does not fit is missed (MPC, RXO).
 * Deviation: a frame whose buffer cannot be written is dropped, counted and traced; its descriptor comes back with DD, EOP
 * and the RXE error. A ring whose descriptors cannot be read or written back keeps what arrives in the packet buffer
 * until software writes its tail, head or base.
 */
import { wide } from '#vmm/base/address';
import type { EventKind, Trace } from '#vmm/base/events';
import { array, type Data, field, partList, parts, properties, recordOf, SavedError } from '#vmm/base/saved';
import { addWords, fold, frameCheck } from './checksum.ts';
import { RXD, descriptorBytes, rxExtended, rxLegacy, rxSplit } from './descriptors.ts';
import type { Dma } from './dma.ts';
import { accepts, hasVlanTag } from './filters.ts';
import { noHeaders, parse, protocolTcp, protocolUdp } from './headers.ts';
import type { Interrupts } from './interrupts.ts';
import { ReceiveSideScaling, rssEnabled } from './receive-side-scaling.ts';
import { CTRL, ICR, RCTL, RFCTL, RXCSUM, at, queueStride } from './registers.ts';
import type { HookTable } from './register-file.ts';
import { bump, countArrived, countReceived, fcsBytes } from './statistics.ts';

const smallestFrame = 60;
/** Without RCTL.LPE: 1514 bytes, 1518 with a tag, the FCS not counted. */
const ordinaryFrame = 1514;
const longestFrame = 16 * 1024 - fcsBytes;
const vlanBytes = 4;
/** Descriptors read ahead per ring. */
const mostPrefetched = 32;
const splitBuffers = 4;
const packetBufferBytes = 40 * 1024;

const legacyAt = {
  length: rxLegacy.offset('length'), checksum: rxLegacy.offset('checksum'), status: rxLegacy.offset('status'),
  errors: rxLegacy.offset('errors'), special: rxLegacy.offset('special'),
}; // prettier-ignore
const extendedAt = {
  mrq: rxExtended.offset('mrq'), rss: rxExtended.offset('rss'), status: rxExtended.offset('status_error'),
  length: rxExtended.offset('length'), vlan: rxExtended.offset('vlan'),
}; // prettier-ignore
const splitAt = { header: rxSplit.offset('header_status'), length1: rxSplit.offset('length1') };

class Ring {
  /** Read-ahead: `count` descriptors' worth of bytes, of which `next` are used up. */
  readonly descriptors = new Uint32Array((mostPrefetched * descriptorBytes) / 4);
  readonly bytes = new Uint8Array(this.descriptors.buffer);
  next = 0;
  count = 0;
  /** The descriptors could not be read: nothing more until software touches the ring. */
  broken = false;
  readonly saved = parts({
    ring: properties(() => this, ['next', 'count', 'broken']),
    descriptors: array(() => this.descriptors),
  });

  flush(): void {
    this.next = this.count = 0;
    this.broken = false;
  }
}

const receiveEvent: EventKind = {
  name: 'nic.receive',
  fields: ({ subject, value, a, b, c, d }) => ({
    device: subject,
    queue: value,
    bytes: a,
    descriptors: b,
    address: wide(c, d),
  }),
};

export class Receiver {
  readonly #words: Uint32Array;
  readonly #trace: Trace;
  readonly #device: string;
  readonly #dma: Dma;
  readonly #interrupts: Interrupts;
  readonly #rings = [new Ring(), new Ring()];
  readonly #headers = noHeaders();
  readonly #rss = new ReceiveSideScaling();
  /** Frames that have to be changed before they are stored: padded, untagged, with their FCS. */
  readonly #staging = new Uint8Array(longestFrame + 64);
  readonly #views: (Uint8Array | undefined)[] = [];
  readonly #writeBack = new Uint8Array(rxSplit.size);
  readonly #writeBackView = new DataView(this.#writeBack.buffer);
  readonly #shortWriteBack = this.#writeBack.subarray(0, descriptorBytes);
  /** Buffer sizes of a descriptor (only the first but for packet split), and what of them was filled. */
  readonly #sizes = new Int32Array(splitBuffers);
  readonly #filled = new Int32Array(splitBuffers);
  #descriptorCapacity = 2048;
  /** Address of the buffer written last, for the trace. */
  #pieceHi = 0;
  #pieceLo = 0;
  /** The packet buffer: 2 bytes of length before each frame. */
  #backlog: Uint8Array | undefined;
  #backlogUsed = 0;
  #backlogFrom = 0;
  /** Since power-on. */
  frames = 0;
  bytes = 0;
  dropped = 0;
  readonly saved = parts(
    {
      rings: partList(() => this.#rings),
      writeBack: array(() => this.#writeBack),
      backlog: { save: () => this.#saveBacklog(), restore: (data: Data) => this.#restoreBacklog(data) },
      pieceHi: field(
        () => this.#pieceHi,
        (value) => (this.#pieceHi = value),
      ),
      pieceLo: field(
        () => this.#pieceLo,
        (value) => (this.#pieceLo = value),
      ),
      frames: field(
        () => this.frames,
        (value) => (this.frames = value),
      ),
      bytes: field(
        () => this.bytes,
        (value) => (this.bytes = value),
      ),
      dropped: field(
        () => this.dropped,
        (value) => (this.dropped = value),
      ),
    },
    () => this.#parseSizes(),
  );

  constructor(device: string, words: Uint32Array, trace: Trace, dma: Dma, interrupts: Interrupts) {
    this.#device = device;
    this.#words = words;
    this.#trace = trace;
    this.#dma = dma;
    this.#interrupts = interrupts;
    this.#parseSizes();
  }

  readonly hooks: HookTable = {
    RDT: { afterWrite: (index) => this.#doorbell(index === at.RDT ? 0 : 1) },
    RDH: { afterWrite: (index) => this.#rings[index === at.RDH ? 0 : 1]!.flush() },
    RDLEN: { afterWrite: (index) => this.#rings[index === at.RDLEN ? 0 : 1]!.flush() },
    RDBAL: { afterWrite: (index) => this.#rings[index === at.RDBAL ? 0 : 1]!.flush() },
    RDBAH: { afterWrite: (index) => this.#rings[index === at.RDBAH ? 0 : 1]!.flush() },
    RCTL: {
      afterWrite: (_, value) => {
        for (const ring of this.#rings) ring.flush();
        this.#parseSizes();
        if ((value & RCTL.EN) !== 0) this.#drain();
      },
    },
    PSRCTL: { afterWrite: () => this.#parseSizes() },
    RFCTL: { afterWrite: () => { for (const ring of this.#rings) ring.flush(); } }, // prettier-ignore
    // The part has one register for both queues.
    RXDCTL: { afterWrite: (_, value) => { this.#words[at.RXDCTL] = this.#words[at.RXDCTL + queueStride] = value & 0x013f_3f3f; } }, // prettier-ignore
  };

  reset(): void {
    for (const ring of this.#rings) ring.flush();
    this.#backlogUsed = this.#backlogFrom = 0;
    this.#parseSizes();
  }

  /** Bus mastering came back. */
  resume(): void {
    for (const ring of this.#rings) ring.flush();
    this.#drain();
  }

  /** A frame arrived, without FCS, its bytes valid during the call. False when there was no room and it is lost. */
  receive(frame: Uint8Array): boolean {
    const words = this.#words;
    if ((words[at.RCTL]! & RCTL.EN) === 0 || frame.length === 0) return false;
    let taken = frame;
    if (frame.length < smallestFrame) {
      // The wire's padding: a backend may hand over what a sender left short.
      this.#staging.set(frame);
      this.#staging.fill(0, frame.length, smallestFrame);
      taken = this.#stagingView(smallestFrame);
    }
    countArrived(words, taken);
    const rctl = words[at.RCTL]!;
    const ordinary = hasVlanTag(words, taken) ? ordinaryFrame + vlanBytes : ordinaryFrame;
    if (taken.length > longestFrame || (taken.length > ordinary && (rctl & (RCTL.LPE | RCTL.SBP)) === 0)) {
      bump(words, at.ROC);
      return this.#drop('too long', taken.length);
    }
    if (!accepts(words, taken)) {
      if (this.#trace.on)
        this.#trace.emit('nic.drop', {
          device: this.#device,
          direction: 'receive',
          reason: 'filtered',
          bytes: taken.length,
        });
      return true;
    }
    if (this.#backlogUsed !== this.#backlogFrom || !this.#store(taken)) return this.#defer(taken);
    return true;
  }

  /** Stores one accepted frame: false when the ring has no room for it now. */
  #store(taken: Uint8Array): boolean {
    const words = this.#words;
    if (!this.#dma.enabled) return false;
    const rctl = words[at.RCTL]!;
    const rxcsum = words[at.RXCSUM]!;
    const headers = this.#headers;
    parse(headers, taken, taken.length, words[at.VET]!);
    const rss = rssEnabled(words);
    if (rss) this.#rss.classify(words, taken, headers);
    const q = rss ? this.#rss.queue : 0;

    const strip = (words[at.CTRL]! & CTRL.VME) !== 0 && hasVlanTag(words, taken);
    const withCheck = (rctl & RCTL.SECRC) === 0;
    const length = taken.length - (strip ? vlanBytes : 0) + (withCheck ? fcsBytes : 0);
    const extended = (words[at.RFCTL]! & RFCTL.EXTEN) !== 0;
    const split = extended && (rctl & RCTL.DTYP) !== 0;
    const unit = split ? 2 : 1;
    const capacity = this.#descriptorCapacity;

    const offset = q * queueStride;
    const size = words[at.RDLEN + offset]! >>> 4;
    const head = words[at.RDH + offset]!;
    const tail = words[at.RDT + offset]!;
    if (head >= size || tail >= size || capacity === 0 || !this.#dma.select(words[at.RXPASID + offset]!)) {
      if (size !== 0) this.#ringError(q, head, tail, size);
      return false;
    }
    const free = head <= tail ? tail - head : size - head + tail;
    const ring = this.#rings[q]!;
    if (ring.broken || Math.ceil(length / capacity) > Math.floor(free / unit)) return false;

    let status = this.#status(taken, rxcsum, rss);
    const tag = strip ? (taken[14]! << 8) | taken[15]! : 0;
    if (strip) status |= RXD.VP;
    const mrq = rss ? this.#rss.type | (q << 8) : 0;
    const hashOrSum = (rxcsum & RXCSUM.PCSD) !== 0 ? (rss ? this.#rss.hash : 0) : this.#packetSum(taken, rxcsum);
    const data = strip || withCheck ? this.#prepare(taken, strip, withCheck, length) : taken;
    // What goes to the header buffer of a split descriptor: nothing when the headers do not fit it (§7.1.6.1).
    const headerEnd = headers.payloadOffset - (strip ? vlanBytes : 0);
    const canSplit =
      split && headers.ip !== 0 && headerEnd <= this.#sizes[0]! &&
      !(headers.isFragment && (words[at.RFCTL]! & RFCTL.IPFRSP_DIS) !== 0); // prettier-ignore
    const headerBytes = canSplit ? headerEnd : 0;

    let done = 0;
    let used = 0;
    while (done < length) {
      const position = words[at.RDH + offset]!;
      // Null buffers may eat up what the count above promised.
      if (position === tail) return this.#drop('no descriptors', taken.length);
      if (!this.#prefetch(q, ring, position, tail, size, unit)) return this.#drop('DMA fault', taken.length);
      const split0 = canSplit ? (used === 0 ? headerBytes : -1) : 0;
      const after = this.#fill(ring, data, done, length, split, split0);
      const faulted = after < 0;
      if (faulted) status = RXD.RXE;
      else done = after;
      const ended = faulted || done >= length;
      this.#describe(extended, split, ended, status, tag, mrq, hashOrSum, used === 0 ? headerBytes : 0);
      if (!this.#complete(offset, position, extended, split)) {
        ring.broken = true;
        return this.#drop('DMA fault', taken.length);
      }
      ring.next += unit;
      words[at.RDH + offset] = position + unit >= size ? 0 : position + unit;
      used++;
      if (faulted) {
        bump(words, at.RXERRC);
        this.#announce(q, taken.length, 0, free - used * unit, size);
        return this.#drop('DMA fault', taken.length);
      }
    }
    countReceived(words, taken);
    this.frames++;
    this.bytes += taken.length;
    if (this.#trace.on)
      this.#trace.tell(receiveEvent, this.#device, '', q, taken.length, used, this.#pieceHi, this.#pieceLo);
    this.#announce(q, taken.length, status, free - used * unit, size);
    return true;
  }

  /** Interrupt causes of one stored frame (§7.4.3). */
  #announce(q: number, length: number, status: number, left: number, size: number): void {
    const words = this.#words;
    let causes = ICR.RXT0 | (q === 0 ? ICR.RXQ0 : ICR.RXQ1);
    if (left === size >>> (((words[at.RCTL]! & RCTL.RDMTS) >>> 8) + 1)) {
      causes |= ICR.RXDMT0;
      bump(words, at.ICRXDMTC);
    }
    if (length + fcsBytes < words[at.RSRPD]!) causes |= ICR.SRPD;
    if ((status & RXD.ACK) !== 0 && (words[at.RFCTL]! & RFCTL.ACK_DIS) === 0) causes |= ICR.ACK;
    this.#interrupts.receiveCause(causes);
  }

  /** Makes sure that the descriptor at `position` is in the read-ahead. */
  #prefetch(q: number, ring: Ring, position: number, tail: number, size: number, unit: number): boolean {
    if (ring.next + unit <= ring.count) return true;
    const words = this.#words;
    const offset = q * queueStride;
    const ready = position <= tail ? tail - position : size - position;
    const count = Math.min(ready - (ready % unit), mostPrefetched);
    // Rings are multiples of 8 descriptors, so that a split descriptor wraps only where software set the head to be odd.
    if (count === 0) return false;
    ring.next = ring.count = 0;
    if (!this.#dma.fetch(words[at.RDBAH + offset]!, words[at.RDBAL + offset]!, position * descriptorBytes, count * descriptorBytes, ring.bytes, 0, 'receive descriptors')) {
      ring.broken = true;
      return false;
    } // prettier-ignore
    ring.count = count;
    return true;
  }

  /**
   * Writes what fits of `data` from `done` on into the buffers of the next descriptor: the new `done`, or -1 on a fault.
   * `header`: bytes for buffer 0 of a split descriptor; -1 to leave it empty (§7.1.6.1).
   */
  #fill(ring: Ring, data: Uint8Array, done: number, length: number, split: boolean, header: number): number {
    const descriptors = ring.descriptors;
    const filled = this.#filled;
    filled.fill(0);
    const base = ring.next * 4;
    // A null first buffer: the descriptor is skipped (§7.1.4).
    if (descriptors[base] === 0 && descriptors[base + 1] === 0) return done;
    const buffers = split ? splitBuffers : 1;
    for (let i = 0; i < buffers && done < length; i++) {
      let bytes = Math.min(this.#sizes[i]!, length - done);
      if (i === 0 && header > 0) bytes = Math.min(header, bytes);
      if (bytes === 0 || (i === 0 && header < 0)) continue;
      const lo = descriptors[base + 2 * i]!;
      const hi = descriptors[base + 2 * i + 1]!;
      this.#pieceHi = hi;
      this.#pieceLo = lo;
      if (!this.#dma.store(hi, lo, 0, data, done, bytes, 'receive data')) return -1;
      filled[i] = bytes;
      done += bytes;
    }
    return done;
  }

  /** Puts the write-back of one descriptor together. */
  #describe(
    extended: boolean,
    split: boolean,
    isLast: boolean,
    status: number,
    tag: number,
    mrq: number,
    hashOrSum: number,
    headerBytes: number,
  ): void {
    const view = this.#writeBackView;
    const filled = this.#filled;
    const flags = isLast ? (status | RXD.DD | RXD.EOP) >>> 0 : RXD.DD;
    if (!extended) {
      // The first 8 bytes, the buffer address, are not written.
      view.setUint16(legacyAt.length, filled[0]!, true);
      view.setUint16(legacyAt.checksum, isLast ? hashOrSum >>> 16 : 0, true);
      view.setUint8(legacyAt.status, flags & 0xff);
      view.setUint8(legacyAt.errors, isLast ? flags >>> 24 : 0);
      view.setUint16(legacyAt.special, isLast ? tag : 0, true);
      return;
    }
    view.setUint32(extendedAt.mrq, isLast ? mrq : 0, true);
    view.setUint32(extendedAt.rss, isLast ? hashOrSum : 0, true);
    view.setUint32(extendedAt.status, flags, true);
    view.setUint16(extendedAt.length, filled[0]!, true);
    view.setUint16(extendedAt.vlan, isLast ? tag : 0, true);
    if (!split) return;
    view.setUint16(splitAt.header, headerBytes > 0 ? headerBytes | RXD.HEADER_SPLIT : 0, true);
    for (let i = 1; i < splitBuffers; i++) view.setUint16(splitAt.length1 + 2 * (i - 1), filled[i]!, true);
  }

  /** Writes the descriptor back; false on a fault. */
  #complete(offset: number, position: number, extended: boolean, split: boolean): boolean {
    const lo = this.#words[at.RDBAL + offset]!;
    const hi = this.#words[at.RDBAH + offset]!;
    const from = position * descriptorBytes;
    if (!extended) return this.#dma.store(hi, lo, from + 8, this.#writeBack, 8, 8, 'receive status');
    if (!split) return this.#dma.store(hi, lo, from, this.#shortWriteBack, 0, descriptorBytes, 'receive status');
    return this.#dma.store(hi, lo, from, this.#writeBack, 0, rxSplit.size, 'receive status');
  }

  /** Packet type, checksum results and ACK indication of the extended status (§7.1.5.2.3, §7.1.10). */
  #status(frame: Uint8Array, rxcsum: number, rss: boolean): number {
    const h = this.#headers;
    if (h.ip === 0) return RXD.TYPE_MAC;
    const rfctl = this.#words[at.RFCTL]!;
    if (h.ip === 6 && (rfctl & RFCTL.IPV6_DIS) !== 0) return RXD.TYPE_MAC;
    let status: number = h.ip === 4
      ? h.protocol !== 0 ? RXD.TYPE_IPV4_L4 : RXD.TYPE_IPV4
      : h.protocol !== 0 ? RXD.TYPE_IPV6_L4 : RXD.TYPE_IPV6; // prettier-ignore
    if (h.ip === 4 && !rss && (rxcsum & RXCSUM.PCSD) === 0) status |= RXD.IPIDV;
    if (h.protocol === protocolTcp && (frame[h.protocolOffset + 13]! & 0x10) !== 0)
      if ((rfctl & RFCTL.ACK_DATA_DIS) === 0 || h.payloadOffset === h.ipEnd) status |= RXD.ACK;
    if (h.ip === 4 && (rxcsum & RXCSUM.IPOFLD) !== 0) {
      const end = h.ipOffset + (frame[h.ipOffset]! & 0xf) * 4;
      status |= RXD.IPCS;
      if (fold(addWords(frame, h.ipOffset, end, 0)) !== 0xffff) status |= RXD.IPE;
    }
    if (h.protocol === 0 || (rxcsum & RXCSUM.TUOFLD) === 0) return status;
    if (h.ip === 6 && (rfctl & RFCTL.IPV6_XSUM_DIS) !== 0) return status;
    const udp = h.protocol === protocolUdp;
    // A UDP datagram without checksum was not checked (§7.1.10).
    if (udp && frame[h.protocolOffset + 6] === 0 && frame[h.protocolOffset + 7] === 0) return status;
    const addresses = h.ip === 4 ? h.ipOffset + 12 : h.ipOffset + 8;
    const pseudo = h.protocol + (h.ipEnd - h.protocolOffset);
    const sum = addWords(frame, addresses, addresses + (h.ip === 4 ? 8 : 32), pseudo);
    status |= RXD.TCPCS | (udp ? RXD.UDPCS : 0);
    if (fold(addWords(frame, h.protocolOffset, h.ipEnd, sum)) !== 0xffff) status |= RXD.TCPE;
    return status;
  }

  /** IP identification in the low, packet checksum in the high half (§7.1.5.2.2): the sum of everything from PCSS on. */
  #packetSum(frame: Uint8Array, rxcsum: number): number {
    const first = rxcsum & RXCSUM.PCSS;
    const sum = first < frame.length ? fold(addWords(frame, first, frame.length, 0)) : 0;
    return ((sum << 16) | (this.#headers.ip === 4 ? this.#headers.ipId : 0)) >>> 0;
  }

  /** The frame without its tag and with its FCS, in the staging buffer. */
  #prepare(frame: Uint8Array, strip: boolean, withCheck: boolean, length: number): Uint8Array {
    const staging = this.#staging;
    // The FCS is the one of the frame on the wire, tag and all.
    const check = withCheck ? frameCheck(frame, frame.length) : 0;
    if (frame.buffer !== staging.buffer) staging.set(frame);
    if (strip) staging.copyWithin(12, 16, frame.length);
    if (withCheck) {
      staging[length - 4] = check;
      staging[length - 3] = check >>> 8;
      staging[length - 2] = check >>> 16;
      staging[length - 1] = check >>> 24;
    }
    return this.#stagingView(length);
  }

  #stagingView(length: number): Uint8Array {
    return (this.#views[length] ??= this.#staging.subarray(0, length));
  }

  /** No descriptors now: the frame waits in the packet buffer, or is missed. */
  #defer(frame: Uint8Array): boolean {
    const words = this.#words;
    bump(words, at.RNBC);
    const capacity = Math.min((words[at.PBA]! & 0xffff) * 1024, packetBufferBytes);
    const backlog = (this.#backlog ??= new Uint8Array(packetBufferBytes));
    if (this.#backlogFrom > 0 && this.#backlogUsed + 2 + frame.length > capacity) {
      backlog.copyWithin(0, this.#backlogFrom, this.#backlogUsed);
      this.#backlogUsed -= this.#backlogFrom;
      this.#backlogFrom = 0;
    }
    if (this.#backlogUsed + 2 + frame.length > capacity) {
      bump(words, at.MPC);
      bump(words, at.ICRXOC);
      this.#drop('no descriptors', frame.length);
      this.#interrupts.cause(ICR.RXO);
      return false;
    }
    backlog[this.#backlogUsed] = frame.length;
    backlog[this.#backlogUsed + 1] = frame.length >>> 8;
    backlog.set(frame, this.#backlogUsed + 2);
    this.#backlogUsed += 2 + frame.length;
    return true;
  }

  /** Frames lie in the packet buffer because a ring had no room for them. */
  get isBehind(): boolean {
    return this.#backlogUsed !== this.#backlogFrom;
  }

  #doorbell(q: number): void {
    const ring = this.#rings[q]!;
    if (ring.broken) ring.flush();
    if (this.#backlogUsed !== this.#backlogFrom) this.#drain();
  }

  #saveBacklog(): Data {
    return { from: this.#backlogFrom, bytes: this.#backlog?.subarray(0, this.#backlogUsed) };
  }

  #restoreBacklog(data: Data): void {
    const { from, bytes } = recordOf(data);
    if (typeof from !== 'number' || (bytes !== undefined && !(bytes instanceof Uint8Array)))
      throw new SavedError('expected a packet buffer');
    this.#backlogFrom = from;
    this.#backlogUsed = bytes?.length ?? 0;
    this.#backlog = bytes && new Uint8Array(packetBufferBytes);
    if (bytes) this.#backlog?.set(bytes);
  }

  /** Stores what waits, in order, as far as there is room; bounded by the packet buffer's size. */
  #drain(): void {
    const backlog = this.#backlog;
    if (!backlog || (this.#words[at.RCTL]! & RCTL.EN) === 0) return;
    while (this.#backlogFrom < this.#backlogUsed) {
      const length = backlog[this.#backlogFrom]! | (backlog[this.#backlogFrom + 1]! << 8);
      const start = this.#backlogFrom + 2;
      if (!this.#store(backlog.subarray(start, start + length))) return;
      this.#backlogFrom = start + length;
    }
    this.#backlogUsed = this.#backlogFrom = 0;
  }

  /** Buffer sizes per descriptor from RCTL and PSRCTL (§10.2.5.1, §10.2.5.4). */
  #parseSizes(): void {
    const rctl = this.#words[at.RCTL]!;
    const sizes = this.#sizes;
    sizes.fill(0);
    const flexible = (rctl & RCTL.FLXBUF) >>> 27;
    if ((rctl & RCTL.DTYP) !== 0) {
      const psrctl = this.#words[at.PSRCTL]!;
      sizes[0] = (psrctl & 0x7f) * 128;
      for (let i = 1; i < splitBuffers; i++) sizes[i] = ((psrctl >>> (8 * i)) & 0x3f) * 1024;
    } else if (flexible !== 0) sizes[0] = flexible * 1024;
    else {
      const code = (rctl & RCTL.BSIZE) >>> 16;
      // BSEX with code 0 is reserved: taken as without BSEX.
      sizes[0] = (rctl & RCTL.BSEX) !== 0 && code !== 0 ? 32768 >>> code : 2048 >>> code;
    }
    this.#descriptorCapacity = sizes[0]! + sizes[1]! + sizes[2]! + sizes[3]!;
  }

  #ringError(queue: number, head: number, tail: number, length: number): void {
    if (this.#trace.on)
      this.#trace.emit('nic.ring-error', { device: this.#device, ring: 'receive', queue, head, tail, length });
  }

  /** The frame is given up; true, because nobody should offer it again. */
  #drop(reason: string, bytes: number): true {
    this.dropped++;
    if (this.#trace.on) this.#trace.emit('nic.drop', { device: this.#device, direction: 'receive', reason, bytes });
    return true;
  }
}
