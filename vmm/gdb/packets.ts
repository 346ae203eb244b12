/** Framing of the GDB remote serial protocol (GDB manual, appendix E.1): `$data#checksum`, acknowledged until agreed otherwise. */

const dollar = 0x24;
const hash = 0x23;
const escape = 0x7d;
const interrupt = 3;
/** Longest packet that is taken, as `qSupported` tells GDB; what is longer is dropped. */
export const maxPacketBytes = 0x4000;

const latin1 = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0) & 0xff);
const checksum = (data: Uint8Array): number => data.reduce((sum, byte) => (sum + byte) & 0xff, 0);
export const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/** Bytes of hexadecimal text; undefined where it is none. */
export function unhex(text: string): Uint8Array | undefined {
  if (text.length % 2 !== 0 || /[^0-9a-f]/i.test(text)) return undefined;
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

export interface PacketHandler {
  /** A packet's data, one character a byte; binary escapes are undone. */
  packet(data: string): void;
  /** Ctrl-C at GDB's end. */
  interrupt(): void;
}

export class Packets {
  readonly #send: (bytes: Uint8Array) => void;
  readonly #handler: PacketHandler;
  #data: number[] = [];
  /** outside: between packets; then its data, and two digits of checksum. */
  #state: 'outside' | 'data' | 'first' | 'second' = 'outside';
  #digits = '';
  /** QStartNoAckMode turns this off. */
  acknowledges = true;

  constructor(send: (bytes: Uint8Array) => void, handler: PacketHandler) {
    this.#send = send;
    this.#handler = handler;
  }

  reply(text: string): void {
    const escaped = text.replace(/[$#}*]/g, (c) => `}${String.fromCharCode(c.charCodeAt(0) ^ 0x20)}`);
    const data = latin1(escaped);
    this.#send(latin1(`$${escaped}#${checksum(data).toString(16).padStart(2, '0')}`));
  }

  receive(bytes: Uint8Array): void {
    for (const byte of bytes) this.#take(byte);
  }

  #take(byte: number): void {
    if (this.#state === 'outside') {
      if (byte === interrupt) this.#handler.interrupt();
      else if (byte === dollar) {
        this.#data = [];
        this.#state = 'data';
      }
    } else if (this.#state === 'data') {
      if (byte === hash) this.#state = 'first';
      else if (byte === dollar) this.#data = [];
      // One byte more than is taken tells that it was too long.
      else if (this.#data.length <= maxPacketBytes) this.#data.push(byte);
    } else if (this.#state === 'first') {
      this.#digits = String.fromCharCode(byte);
      this.#state = 'second';
    } else {
      this.#state = 'outside';
      const isGood = Number.parseInt(this.#digits + String.fromCharCode(byte), 16) === checksum(Uint8Array.from(this.#data)); // prettier-ignore
      if (this.acknowledges) this.#send(latin1(isGood ? '+' : '-'));
      if (isGood && this.#data.length <= maxPacketBytes) this.#handler.packet(this.#unescaped());
    }
  }

  #unescaped(): string {
    let text = '';
    for (let i = 0; i < this.#data.length; i++) {
      const byte = this.#data[i]!;
      text += String.fromCharCode(byte === escape && i + 1 < this.#data.length ? this.#data[++i]! ^ 0x20 : byte);
    }
    return text;
  }
}
