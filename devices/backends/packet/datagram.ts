/** Frames as UDP datagrams, one each, as QEMU's `-netdev dgram` speaks it. */
import { type RemoteInfo, type Socket, createSocket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import type { PacketBackend } from '#vmm/base/ports';
import { type SocketReports, describeAddress, largestFrame, mostQueuedBytes } from './socket.ts';

export interface DatagramOptions extends SocketReports {
  /** Numeric addresses; a local port of 0 takes a free one. */
  readonly local: { readonly host: string; readonly port: number };
  readonly remote: { readonly host: string; readonly port: number };
}

export class DatagramBackend implements PacketBackend {
  onFrame: ((frame: Uint8Array) => boolean) | undefined = undefined;
  /** There is no connection to lose. */
  readonly linkUp = true;
  /** Frames that the host could not take. */
  dropped = 0;
  readonly #options: DatagramOptions;
  readonly #socket: Socket;
  #bound = false;

  constructor(options: DatagramOptions) {
    this.#options = options;
    this.#socket = createSocket(isIPv6(options.local.host) ? 'udp6' : 'udp4');
    this.#socket.on('error', (error) => this.#report(error.message));
    this.#socket.on('message', (message: Uint8Array, from: RemoteInfo) => {
      // Only the one at the other end of the wire is on the wire.
      const { host, port } = options.remote;
      if (from.port !== port || from.address !== host || message.length === 0) return;
      // Plain bytes: a Buffer's slice() would not copy.
      this.onFrame?.(new Uint8Array(message.buffer, message.byteOffset, message.length));
    });
    this.#socket.bind(options.local.port, options.local.host, () => {
      this.#bound = true;
    });
  }

  /** The local end, once it is bound. */
  get address(): { readonly host: string; readonly port: number } | undefined {
    if (!this.#bound) return undefined;
    const { address, port } = this.#socket.address();
    return { host: address, port };
  }

  send(frame: Uint8Array): void {
    if (!this.#bound || frame.length > largestFrame || this.#socket.getSendQueueSize() > mostQueuedBytes) {
      this.dropped++;
      return;
    }
    // The bytes are copied: the socket reads them after this call.
    this.#socket.send(frame.slice(), this.#options.remote.port, this.#options.remote.host, (error) => {
      if (error) this.dropped++;
    });
  }

  close(): void {
    this.#socket.close();
  }

  #report(message: string): void {
    this.#options.report?.(`network datagrams to ${describeAddress(this.#options.remote)}: ${message}`);
  }
}

export const datagram = (options: DatagramOptions): DatagramBackend => new DatagramBackend(options);
