/** What the socket backends share: where the other end is, and what they report. */

/** A TCP or UDP end, or (stream only) a Unix socket's path. */
export type SocketAddress = { readonly host: string; readonly port: number } | { readonly path: string };

export interface SocketReports {
  /** One sentence for a person: connected, lost, refused. */
  readonly report?: (message: string) => void;
}

export const describeAddress = (address: SocketAddress): string =>
  'path' in address ? address.path : `${address.host}:${address.port}`;

/** QEMU's limit for one frame on a socket (NET_BUFSIZE). */
export const largestFrame = 4096 + 65536;
/** What may wait in the host's socket before frames are dropped: a wire does not wait for slow listeners. */
export const mostQueuedBytes = 4 << 20;
