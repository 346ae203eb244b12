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
  readonly #open: { close(): void }[] = [];
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
    this.#open.push(opened);
    return opened;
  };

  get isOpen(): boolean {
    return this.#open.length > 0;
  }

  close(): void {
    for (const one of this.#open.splice(0)) one.close();
  }
}
