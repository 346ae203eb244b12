/** An Ethernet hub: a frame that one port sends arrives at all the others, at once and in the order of the ports. */
import type { PacketBackend } from '#vmm/base/ports';

class HubPort implements PacketBackend {
  onFrame: ((frame: Uint8Array) => boolean) | undefined = undefined;
  readonly linkUp = true;
  readonly #ports: ReadonlySet<HubPort>;

  constructor(ports: ReadonlySet<HubPort>) {
    this.#ports = ports;
  }

  send(frame: Uint8Array): void {
    for (const port of this.#ports) if (port !== this) port.onFrame?.(frame);
  }
}

export class Hub {
  readonly #ports = new Set<HubPort>();

  /** One more end of the segment; while nobody took it, it swallows what arrives. */
  join(): PacketBackend {
    const port = new HubPort(this.#ports);
    this.#ports.add(port);
    return port;
  }

  /** The end is cut off. */
  leave(port: PacketBackend): void {
    this.#ports.delete(port as HubPort);
  }
}

/** `ports` ends of one segment. */
export const hub = (ports: number): readonly PacketBackend[] => {
  const segment = new Hub();
  return Array.from({ length: ports }, () => segment.join());
};
