/**
 * The transmit path (§7.2): rings, descriptors, assembly; what offloads do to the bytes is in offload.ts.
 *
 * A doorbell only schedules. Each event handles a bounded batch, in which frames leave one after the other at one virtual
 * instant; the next batch waits until the wire has carried them (preamble, FCS and gap included).
 * Deviation: a descriptor whose data cannot be read is completed like any other, its frame is dropped, counted and traced.
 * A ring whose descriptors cannot be read stops until its next doorbell.
 */
import { wide } from '#vmm/base/address';
import type { Clock, Scheduled } from '#vmm/base/clock';
import type { EventKind, Trace } from '#vmm/base/events';
import { field, part, partList, parts, properties, timer } from '#vmm/base/saved';
import { TXD, descriptorBytes, statusDone, txStatusOffset } from './descriptors.ts';
import { type Dma, locate } from './dma.ts';
import type { Interrupts } from './interrupts.ts';
import { Offload, insertChecksums, insertLegacyChecksum } from './offload.ts';
import { CTRL, ICR, TARC, TCTL, TXDCTL, at, queueStride } from './registers.ts';
import type { HookTable } from './register-file.ts';
import { bump } from './statistics.ts';

export const queueCount = 2;
/** From the doorbell to the first descriptor fetch: one round trip on the bus. */
const doorbellNs = 200;
/** Bounds of one event. */
const mostDescriptors = 64;
const mostFrames = 32;
/** Preamble, start delimiter, FCS and inter-frame gap. */
const wireOverheadBytes = 24;
const smallestFrame = 60;
/** Largest frame without segmentation, and the largest that segmentation starts from. */
const largestFrame = 16 * 1024;
const stagingBytes = 128 * 1024;
const vlanBytes = 4;

class Queue {
  #staging: Uint8Array | undefined;
  filled = 0;
  /** No descriptor of the frame was seen yet. */
  isFirst = true;
  /** The frame will be dropped: its data faulted or it is too long. */
  bad = false;
  /** POPTS and TSE of the frame's first descriptor. */
  options = 0;
  segment = false;
  readonly offload = new Offload();
  readonly saved = parts({
    frame: properties(() => this, ['filled', 'isFirst', 'bad', 'options', 'segment']),
    offload: part(() => this.offload),
    staging: field(
      () => (this.filled === 0 ? undefined : this.staging.subarray(0, this.filled)),
      (bytes) => bytes && this.staging.set(bytes),
    ),
  });

  /** The frame under assembly, with room for a tag behind it. Made when first needed: most frames never are copied. */
  get staging(): Uint8Array {
    return (this.#staging ??= new Uint8Array(stagingBytes));
  }

  restart(): void {
    this.filled = 0;
    this.isFirst = true;
    this.bad = false;
    this.options = 0;
    this.segment = false;
  }
}

const transmitEvent: EventKind = {
  name: 'nic.transmit',
  fields: ({ subject, value, a, b, c }) => ({ device: subject, queue: value, bytes: a, address: wide(b, c) }),
};

export class Transmitter {
  readonly #words: Uint32Array;
  readonly #clock: Clock;
  readonly #trace: Trace;
  readonly #device: string;
  readonly #dma: Dma;
  readonly #interrupts: Interrupts;
  readonly #send: (frame: Uint8Array) => boolean;
  readonly #nsPerByte: number;
  readonly #queues: readonly Queue[];
  readonly #descriptors = new Uint32Array((mostDescriptors * descriptorBytes) / 4);
  readonly #descriptorBytes = new Uint8Array(this.#descriptors.buffer);
  readonly #done = new Uint8Array(mostDescriptors);
  /** Views of the stagings by length, so that sending allocates nothing in the steady state. */
  readonly #views: (Uint8Array | undefined)[][] = [];
  /** The next batch; also the mark that there will be one. */
  #scheduled: Scheduled | undefined;
  #wireFreeAt = 0;
  /** Address of the piece read last, for the trace. */
  #pieceHi = 0;
  #pieceLo = 0;
  #frames = 0;
  #wireBytes = 0;
  /** Bumped by reset, so that a batch during which it comes ends. */
  #epoch = 0;
  dropped = 0;
  readonly saved = parts({
    queues: partList(() => this.#queues),
    scheduled: timer(
      () => this.#scheduled,
      (event) => (this.#scheduled = event),
      () => this.#clock.schedule(0, this.#run),
    ),
    wireFreeAt: field(
      () => this.#wireFreeAt,
      (value) => (this.#wireFreeAt = value),
    ),
    pieceHi: field(
      () => this.#pieceHi,
      (value) => (this.#pieceHi = value),
    ),
    pieceLo: field(
      () => this.#pieceLo,
      (value) => (this.#pieceLo = value),
    ),
    dropped: field(
      () => this.dropped,
      (value) => (this.dropped = value),
    ),
  });

  /** `send` puts a frame (valid during the call) on the wire: false when it could not. */
  constructor(
    device: string,
    words: Uint32Array,
    clock: Clock,
    trace: Trace,
    dma: Dma,
    interrupts: Interrupts,
    bitsPerSecond: number,
    send: (frame: Uint8Array) => boolean,
  ) {
    this.#device = device;
    this.#words = words;
    this.#clock = clock;
    this.#trace = trace;
    this.#dma = dma;
    this.#interrupts = interrupts;
    this.#nsPerByte = 8e9 / bitsPerSecond;
    this.#send = send;
    this.#queues = Array.from({ length: queueCount }, () => new Queue());
    for (let i = 0; i < queueCount; i++) this.#views.push([]);
  }

  readonly hooks: HookTable = {
    TDT: { afterWrite: () => this.kick() },
    TCTL: { afterWrite: () => this.kick() },
    TARC: { afterWrite: () => this.kick() },
  };

  reset(): void {
    for (const queue of this.#queues) {
      queue.restart();
      queue.offload.reset();
    }
    this.#epoch++;
    this.#scheduled?.cancel();
    this.#scheduled = undefined;
    this.#wireFreeAt = 0;
  }

  /** Work may have appeared: a doorbell, an enable bit, bus mastering. */
  kick(): void {
    if (this.#scheduled || !this.#hasWork()) return;
    this.#schedule(doorbellNs);
  }

  #schedule(least: number): void {
    this.#scheduled = this.#clock.schedule(Math.max(least, this.#wireFreeAt - this.#clock.now), this.#run);
  }

  #enabled(queue: number): boolean {
    return (this.#words[at.TARC + queue * queueStride]! & TARC.ENABLE) !== 0;
  }

  #hasWork(): boolean {
    if ((this.#words[at.TCTL]! & TCTL.EN) === 0 || !this.#dma.enabled) return false;
    for (let q = 0; q < queueCount; q++) {
      const offset = q * queueStride;
      if (this.#queues[q]!.offload.segmenting) return true;
      if (this.#enabled(q) && this.#words[at.TDH + offset] !== this.#words[at.TDT + offset]) return true;
    }
    return false;
  }

  readonly #run = (): void => {
    this.#scheduled = undefined;
    if ((this.#words[at.TCTL]! & TCTL.EN) === 0 || !this.#dma.enabled) return;
    this.#frames = 0;
    this.#wireBytes = 0;
    let progress = false;
    for (let q = 0; q < queueCount; q++) if (this.#enabled(q) && this.#serve(q)) progress = true;
    this.#wireFreeAt = this.#clock.now + Math.round(this.#wireBytes * this.#nsPerByte);
    // A ring that could not be read, or that makes no sense, waits for its next doorbell.
    if (progress && this.#hasWork()) this.#schedule(doorbellNs);
  };

  /** One batch of one ring; false when nothing could be done. */
  #serve(q: number): boolean {
    const queue = this.#queues[q]!;
    if (queue.offload.segmenting) {
      this.#segments(q, queue);
      return true;
    }
    const words = this.#words;
    const offset = q * queueStride;
    const size = words[at.TDLEN + offset]! >>> 4;
    const head = words[at.TDH + offset]!;
    const tail = words[at.TDT + offset]!;
    if (head === tail) return false;
    if (head >= size || tail >= size || !this.#dma.select(words[at.TXPASID + offset]!)) {
      if (this.#trace.on)
        this.#trace.emit('nic.ring-error', {
          device: this.#device,
          ring: 'transmit',
          queue: q,
          head,
          tail,
          length: size,
        });
      return false;
    }
    const fetched = Math.min(tail > head ? tail - head : size - head, mostDescriptors);
    const hi = words[at.TDBAH + offset]!;
    const lo = words[at.TDBAL + offset]!;
    const from = head * descriptorBytes;
    if (!this.#dma.fetch(hi, lo, from, fetched * descriptorBytes, this.#descriptorBytes, 0, 'transmit descriptors'))
      return false;
    const every = this.#interrupts.everyWriteBack;
    const epoch = this.#epoch;
    let used = 0;
    let first = -1;
    let last = -1;
    let delayed = false;
    while (used < fetched && this.#frames < mostFrames && !queue.offload.segmenting) {
      const lower = this.#descriptors[used * 4 + 2]!;
      // Again each time: with loopback the receive path has used the port in between.
      this.#dma.select(words[at.TXPASID + offset]!);
      this.#descriptor(q, queue, used);
      // A frame may come back through the guest's own registers (loopback): nothing here may outlive a reset.
      if (epoch !== this.#epoch) return false;
      this.#done[used] = every || (lower & TXD.RS) !== 0 ? 1 : 0;
      if (this.#done[used] === 1) {
        if (first < 0) first = used;
        last = used;
        if ((lower & TXD.IDE) !== 0) delayed = true;
      }
      used++;
    }
    this.#dma.select(words[at.TXPASID + offset]!);
    if (first >= 0) this.#writeBack(hi, lo, from, first, last);
    const now = head + used;
    words[at.TDH + offset] = now === size ? 0 : now;
    let causes = 0;
    if (first >= 0) causes |= ICR.TXDW | (q === 0 ? ICR.TXQ0 : ICR.TXQ1);
    const left = (tail - words[at.TDH + offset]! + size) % size;
    if (left === 0) {
      causes |= ICR.TXQE;
      bump(words, at.ICTXQEC);
    }
    // LWTHRESH counts in eights (§10.2.6.10); the cause comes when the ring falls below it.
    const low = ((words[at.TXDCTL + offset]! & TXDCTL.LWTHRESH) >>> 25) * 8;
    if (left < low && left + used >= low) {
      causes |= ICR.TXD_LOW;
      bump(words, at.ICTXQMTC);
    }
    if (causes !== 0) this.#interrupts.transmitCause(causes, delayed);
    return true;
  }

  /** Sets DD in every descriptor of the batch that asked for it, in one transaction. */
  #writeBack(hi: number, lo: number, from: number, first: number, last: number): void {
    const length = (last - first + 1) * descriptorBytes;
    const result = this.#dma.write(hi, lo, from + first * descriptorBytes, length, 'transmit status');
    if (!result) return;
    const memory = this.#dma.port!.memory;
    for (let i = first; i <= last; i++) {
      if (this.#done[i] === 0) continue;
      const byte = locate(result, (i - first) * descriptorBytes + txStatusOffset);
      if (byte >= 0) memory[byte] = (memory[byte]! & 0xf0) | statusDone;
    }
  }

  #descriptor(q: number, queue: Queue, position: number): void {
    const d = this.#descriptors;
    const lower = d[position * 4 + 2]!;
    const upper = d[position * 4 + 3]!;
    const extended = (lower & TXD.DEXT) !== 0;
    if (extended && (lower & TXD.DTYP_DATA) === 0) {
      queue.offload.setContext(d[position * 4]!, d[position * 4 + 1]!, lower, upper);
      return;
    }
    const length = extended ? lower & 0xf_ffff : lower & 0xffff;
    if (queue.isFirst && extended) {
      queue.options = upper;
      queue.segment = (lower & TXD.TSE) !== 0;
    }
    const hi = d[position * 4 + 1]!;
    const lo = d[position * 4]!;
    this.#pieceHi = hi;
    this.#pieceLo = lo;
    const isLast = (lower & TXD.EOP) !== 0;
    // The common case leaves straight from memory: one descriptor, one piece, nothing to change in it.
    const plain = isLast && queue.isFirst && length >= smallestFrame && length <= largestFrame;
    const untouched = extended
      ? (lower & (TXD.TSE | TXD.VLE)) === 0 && (upper & (TXD.POPTS_IXSM | TXD.POPTS_TXSM)) === 0
      : (lower & (TXD.IC | TXD.VLE)) === 0;
    if (plain && untouched) {
      const result = this.#dma.read(hi, lo, 0, length, 'transmit data');
      if (result && result.count === 1) {
        const start = result.offsets[0]!;
        this.#emit(q, this.#dma.port!.memory.subarray(start, start + length));
        queue.restart();
        return;
      }
      if (!result) {
        this.#drop('DMA fault', length);
        queue.restart();
        return;
      }
    }
    queue.isFirst = false;
    if (!queue.bad && length > 0) {
      if (queue.filled + length > stagingBytes - vlanBytes) queue.bad = true;
      else if (this.#dma.fetch(hi, lo, 0, length, queue.staging, queue.filled, 'transmit data')) queue.filled += length;
      else queue.bad = true;
    }
    if (!isLast) return;
    this.#finish(q, queue, lower, upper, extended);
    if (!queue.offload.segmenting) queue.restart();
  }

  /** The frame's last descriptor was seen. */
  #finish(q: number, queue: Queue, lower: number, upper: number, extended: boolean): void {
    if (queue.bad) return this.#drop('DMA fault or too long', queue.filled);
    const vlan = (this.#words[at.CTRL]! & CTRL.VME) !== 0 && (lower & TXD.VLE) !== 0 ? upper >>> 16 : -1;
    if (queue.segment) {
      if (!queue.offload.start(queue.filled, vlan)) {
        bump(this.#words, at.TSCTFC);
        return this.#drop('impossible segmentation context', queue.filled);
      }
      bump(this.#words, at.TSCTC);
      this.#segments(q, queue);
      return;
    }
    if (queue.filled > largestFrame) return this.#drop('too long', queue.filled);
    if (queue.filled < 14) return this.#drop('too short', queue.filled);
    if (extended) insertChecksums(queue.offload, queue.staging, queue.filled, queue.options);
    else if ((lower & TXD.IC) !== 0)
      insertLegacyChecksum(queue.staging, queue.filled, (upper >>> 8) & 0xff, (lower >>> 16) & 0xff);
    this.#emitStaging(q, queue.staging, queue.filled, vlan);
  }

  /** As many segments as this event may send. */
  #segments(q: number, queue: Queue): void {
    const offload = queue.offload;
    while (offload.segmenting && this.#frames < mostFrames) {
      const length = offload.next(queue.staging);
      this.#emitStaging(q, offload.frame, length, offload.vlan);
    }
    if (!offload.segmenting) queue.restart();
  }

  /** Tag, padding, and out. The buffer has room for both. */
  #emitStaging(q: number, staging: Uint8Array, filled: number, vlan: number): void {
    let length = filled;
    if (vlan >= 0) {
      staging.copyWithin(16, 12, length);
      const type = this.#words[at.VET]!;
      staging[12] = type >>> 8;
      staging[13] = type;
      staging[14] = vlan >>> 8;
      staging[15] = vlan;
      length += vlanBytes;
    }
    if (length < smallestFrame && (this.#words[at.TCTL]! & TCTL.PSP) !== 0) {
      staging.fill(0, length, smallestFrame);
      length = smallestFrame;
    }
    const isSegment = staging === this.#queues[q]!.offload.frame;
    if (isSegment) return this.#emit(q, staging.subarray(0, length));
    const views = this.#views[q]!;
    this.#emit(q, (views[length] ??= staging.subarray(0, length)));
  }

  #emit(q: number, frame: Uint8Array): void {
    this.#frames++;
    this.#wireBytes += Math.max(frame.length, smallestFrame) + wireOverheadBytes;
    if (this.#trace.on)
      this.#trace.tell(transmitEvent, this.#device, '', q, frame.length, this.#pieceHi, this.#pieceLo);
    if (!this.#send(frame)) this.#drop('no link', frame.length);
  }

  #drop(reason: string, bytes: number): void {
    this.dropped++;
    if (this.#trace.on) this.#trace.emit('nic.drop', { device: this.#device, direction: 'transmit', reason, bytes });
  }
}
