/** Wires that leave the process: sockets in QEMU's formats. */
import { datagram } from '#devices/backends/packet/datagram';
import { stream } from '#devices/backends/packet/stream';
import type { SocketAddress } from '#devices/backends/packet/socket';
import { invariant } from '#vmm/base/invariant';
import type { PacketBackend } from '#vmm/base/ports';
import type { NicConfig } from '#vmm/config/schema';

const internet = (text: string): { readonly host: string; readonly port: number } => {
  const match = /^\[?([^\]]+?)\]?:(\d+)$/.exec(text);
  invariant(match, `${text} is no host:port`);
  return { host: match[1]!, port: Number(match[2]) };
};
const address = (text: string): SocketAddress => (/^[./]/.test(text) ? { path: text } : internet(text));

/** Opens the sockets of a machine's network cards; `close` ends them all. */
export class Networks {
  readonly #open = new Set<PacketBackend & { close(): void }>();
  readonly #report: (message: string) => void;

  constructor(report: (message: string) => void) {
    this.#report = report;
  }

  readonly open = ({ backend, local, remote }: NicConfig): PacketBackend => {
    const report = this.#report;
    const opened =
      backend === 'dgram'
        ? datagram({ local: internet(local!), remote: internet(remote!), report })
        : stream({ address: address((remote ?? local)!), listen: remote === undefined, report });
    this.#open.add(opened);
    return opened;
  };

  get isOpen(): boolean {
    return this.#open.size > 0;
  }

  /** Ends one of them. */
  readonly closeOne = (wire: PacketBackend): void => {
    for (const one of this.#open) if (one === wire && this.#open.delete(one)) one.close();
  };

  close(): void {
    for (const one of this.#open) one.close();
    this.#open.clear();
  }
}
