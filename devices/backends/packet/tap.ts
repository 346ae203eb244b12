/** Looks at every frame that passes between an adapter and its backend, for captures. */
import type { PacketBackend } from '#vmm/base/ports';

export interface Tapped {
  /** The adapter sent it. The bytes are only valid during the call. */
  readonly sent: (frame: Uint8Array) => void;
  /** It arrived for the adapter, which may still refuse it. */
  readonly received: (frame: Uint8Array) => void;
}

export const tap = (backend: PacketBackend, look: Tapped): PacketBackend => {
  const tapped: PacketBackend = {
    onFrame: undefined,
    onLinkChange: undefined,
    get linkUp() {
      return backend.linkUp;
    },
    send(frame) {
      look.sent(frame);
      backend.send(frame);
    },
  };
  backend.onFrame = (frame) => {
    look.received(frame);
    return tapped.onFrame?.(frame) ?? false;
  };
  backend.isHeld = () => tapped.isHeld?.() ?? false;
  backend.onLinkChange = () => tapped.onLinkChange?.();
  return tapped;
};
