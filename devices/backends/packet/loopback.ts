/** A plug that sends every frame straight back to its sender. */
import type { PacketBackend } from '#vmm/base/ports';

export const loopback = (): PacketBackend => {
  const backend: PacketBackend = {
    onFrame: undefined,
    linkUp: true,
    send(frame) {
      backend.onFrame?.(frame);
    },
  };
  return backend;
};
