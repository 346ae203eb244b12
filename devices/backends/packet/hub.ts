/** An Ethernet hub: a frame that one port sends arrives at all the others, at once and in the order of the ports. */
import type { PacketBackend } from '#vmm/base/ports';

class HubPort implements PacketBackend {
  onFrame: ((frame: Uint8Array) => boolean) | undefined = undefined;
  readonly linkUp = true;
  readonly #ports: readonly HubPort[];

  constructor(ports: readonly HubPort[]) {
    this.#ports = ports;
  }

  send(frame: Uint8Array): void {
    for (const port of this.#ports) if (port !== this) port.onFrame?.(frame);
  }
}

/** `ports` ends of one segment; a port nobody took swallows what arrives. */
export const hub = (ports: number): readonly PacketBackend[] => {
  const all: HubPort[] = [];
  for (let i = 0; i < ports; i++) all.push(new HubPort(all));
  return all;
};
