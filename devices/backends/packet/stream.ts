/**
 * Frames over a byte stream as QEMU's `-netdev stream` and `passt` speak it: each frame behind its length as a 32-bit
 * big-endian number. The link is up while the other end is there.
 */
import { type Server, type Socket, connect, createServer } from 'node:net';
import type { PacketBackend } from '#vmm/base/ports';
import { type SocketAddress, type SocketReports, describeAddress, largestFrame, mostQueuedBytes } from './socket.ts';

export interface StreamOptions extends SocketReports {
  readonly address: SocketAddress;
  /** Waits for the other end instead of connecting to it; one at a time, the next after the last went. */
  readonly listen?: boolean;
}

const lengthBytes = 4;

/** Puts frames together from whatever pieces the stream delivers. */
export class FrameReader {
  readonly #onFrame: (frame: Uint8Array) => void;
  readonly #partial = new Uint8Array(lengthBytes + largestFrame);
  #filled = 0;

  constructor(onFrame: (frame: Uint8Array) => void) {
    this.#onFrame = onFrame;
  }

  /** False when the stream cannot be what it should be: a length of 0 or beyond `largestFrame`. */
  push(chunk: Uint8Array): boolean {
    let at = 0;
    for (;;) {
      if (this.#filled === 0) {
        // Whole frames are handed over where they lie.
        while (chunk.length - at >= lengthBytes) {
          const length = lengthAt(chunk, at);
          if (length === 0 || length > largestFrame) return false;
          if (chunk.length - at < lengthBytes + length) break;
          this.#onFrame(chunk.subarray(at + lengthBytes, at + lengthBytes + length));
          at += lengthBytes + length;
        }
      }
      if (at === chunk.length) return true;
      const known = this.#filled >= lengthBytes;
      const wanted = known ? lengthBytes + lengthAt(this.#partial, 0) : lengthBytes;
      const bytes = Math.min(wanted - this.#filled, chunk.length - at);
      this.#partial.set(chunk.subarray(at, at + bytes), this.#filled);
      this.#filled += bytes;
      at += bytes;
      if (this.#filled < wanted) continue;
      if (known) {
        this.#filled = 0;
        this.#onFrame(this.#partial.subarray(lengthBytes, wanted));
        continue;
      }
      const length = lengthAt(this.#partial, 0);
      if (length === 0 || length > largestFrame) return false;
    }
  }

  /** The stream ended; what was half there is gone. */
  reset(): void {
    this.#filled = 0;
  }
}

const lengthAt = (bytes: Uint8Array, at: number): number =>
  ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;

/** Frames of one burst: half of the ring that Linux gives an 82574L. */
const largestBurst = 128;
/** Between two looks at a card that has no room. */
const heldMs = 1;
const shortestOnWire = 60;
const ethernetBytes = 14;
/** Where a header without VLAN tag says how long its packet is: the fixed part before it counts too for IPv6. */
const packetLengths: Readonly<Record<number, { readonly at: number; readonly fixed: number }>> = {
  0x0800: { at: 16, fixed: 0 },
  0x86dd: { at: 18, fixed: 40 },
};

/**
 * Bytes of a frame without what pads it to the least that Ethernet carries. A stream needs no padding, and some versions
 * of passt take it for data of TCP.
 */
export const unpaddedBytes = (frame: Uint8Array): number => {
  if (frame.length !== shortestOnWire) return frame.length;
  const length = packetLengths[(frame[12]! << 8) | frame[13]!];
  if (!length) return frame.length;
  const packet = length.fixed + ((frame[length.at]! << 8) | frame[length.at + 1]!);
  return packet < 20 ? frame.length : Math.min(frame.length, ethernetBytes + packet);
};

export class StreamBackend implements PacketBackend {
  onFrame: ((frame: Uint8Array) => boolean) | undefined = undefined;
  onLinkChange: (() => void) | undefined = undefined;
  isHeld: (() => boolean) | undefined = undefined;
  /** Frames that the other end, or the guest, was too slow for. */
  dropped = 0;
  readonly #options: StreamOptions;
  readonly #reader = new FrameReader((frame) => this.#arrived(frame));
  /** Frames handed over since the event loop last came round, during which no guest ran. */
  #burst = 0;
  /** What arrived beyond that, and its bytes. */
  readonly #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #isTurning = false;
  readonly #server: Server | undefined;
  #socket: Socket | undefined;
  #connected = false;

  constructor(options: StreamOptions) {
    this.#options = options;
    if (options.listen) {
      this.#server = createServer((socket) => {
        if (this.#socket) socket.destroy();
        else this.#adopt(socket, true);
      });
      this.#server.on('error', (error) => this.#report(`cannot listen at ${this.#where}: ${error.message}`));
      this.#server.listen({ ...options.address, exclusive: true });
    } else this.#adopt(connect({ ...options.address }), false);
  }

  get linkUp(): boolean {
    return this.#connected;
  }

  /** Where it listens, once it does (a port of 0 was replaced by a free one). */
  get address(): SocketAddress | undefined {
    const bound = this.#server?.address();
    if (!bound) return undefined;
    return typeof bound === 'string' ? { path: bound } : { host: bound.address, port: bound.port };
  }

  send(frame: Uint8Array): void {
    const socket = this.#socket;
    if (!socket || !this.#connected || frame.length > largestFrame) return;
    if (socket.writableLength > mostQueuedBytes) {
      this.dropped++;
      return;
    }
    const bytes = unpaddedBytes(frame);
    const message = new Uint8Array(lengthBytes + bytes);
    new DataView(message.buffer).setUint32(0, bytes);
    message.set(frame.subarray(0, bytes), lengthBytes);
    socket.write(message);
  }

  close(): void {
    this.#server?.close();
    this.#socket?.destroy();
  }

  #adopt(socket: Socket, isConnected: boolean): void {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('connect', () => this.#link(true));
    socket.on('data', (chunk: Uint8Array) => {
      // Plain bytes: a Buffer's slice() would not copy.
      if (this.#reader.push(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length))) return;
      this.#report(`${this.#where} sent an impossible frame length; disconnected`);
      socket.destroy();
    });
    socket.on('error', (error) => this.#report(`${this.#where}: ${error.message}`));
    socket.on('close', () => {
      this.#socket = undefined;
      this.#reader.reset();
      this.#waiting.length = this.#waitingBytes = 0;
      this.#link(false);
    });
    if (isConnected) this.#link(true);
  }

  /**
   * A receive ring is emptied only while the guest runs, so that what it cannot hold by then waits here, too. Not at the sender:
   * passt drops what its socket does not take at once.
   */
  #arrived(frame: Uint8Array): void {
    if (this.#burst < largestBurst && this.#waiting.length === 0 && !this.isHeld?.()) {
      this.#burst++;
      this.onFrame?.(frame);
    } else if (this.#waitingBytes + frame.length > mostQueuedBytes) this.dropped++;
    else {
      this.#waitingBytes += frame.length;
      this.#waiting.push(frame.slice());
    }
    this.#turn();
  }

  #turn(): void {
    if (this.#isTurning) return;
    this.#isTurning = true;
    // A card that does not take what it has may not do so for long: that is looked at less often.
    if (this.#waiting.length > 0 && this.isHeld?.()) setTimeout(() => this.#deliver(), heldMs);
    else setImmediate(() => this.#deliver());
  }

  #deliver(): void {
    this.#isTurning = false;
    let count = 0;
    while (count < largestBurst && count < this.#waiting.length && !this.isHeld?.()) {
      const frame = this.#waiting[count++]!;
      this.#waitingBytes -= frame.length;
      this.onFrame?.(frame);
    }
    this.#waiting.splice(0, count);
    this.#burst = count;
    if (count > 0 || this.#waiting.length > 0) this.#turn();
  }

  #link(up: boolean): void {
    if (up === this.#connected) return;
    this.#connected = up;
    this.#report(`${this.#where} ${up ? 'connected' : 'disconnected'}`);
    this.onLinkChange?.();
  }

  get #where(): string {
    return describeAddress(this.#options.address);
  }

  #report(message: string): void {
    this.#options.report?.(`network stream: ${message}`);
  }
}

export const stream = (options: StreamOptions): StreamBackend => new StreamBackend(options);
