import { hex } from '#vmm/base/address';
import type { Clock } from '#vmm/base/clock';
import type { FieldValue, Trace, TraceEvent } from '#vmm/base/events';
import type { PacketBackend } from '#vmm/base/ports';
import { parts, plainMap } from '#vmm/base/saved';
import { tap } from '#devices/backends/packet/tap';
import { type ByteWriter, PcapngWriter } from '../record/pcapng.ts';

/** Frames that arrived and of which the card has not yet said what became of them. */
const mostPending = 4096;

/** Where a device address leads now: guest-physical and host-physical; undefined where nothing is cached. */
export type Locate = (device: string, iova: bigint) => { readonly gpa: number; readonly hpa: number } | undefined;

// A type, not an interface: a snapshot holds it as it is.
type Arrived = {
  readonly time: number;
  readonly bytes: Uint8Array;
};

/**
 * Captures the frames of all network cards. Each frame carries its DMA story: the address the card used, and where it
 * led through both stages (`iova → gpa → hpa`).
 */
export class Capture {
  readonly #writer: PcapngWriter;
  readonly #names: string[];
  readonly #clock: Clock;
  readonly #locate: Locate;
  /** By card: the story of the frame about to leave, and the frames that wait for theirs. */
  readonly #leaving = new Map<string, string>();
  readonly #pending = new Map<string, Arrived[]>();
  /** The card into which a frame is just arriving: what it says now is about that frame. */
  #arriving: string | undefined;
  /** What was written already is in the file. */
  readonly saved = parts({
    leaving: plainMap(() => this.#leaving),
    pending: plainMap(() => this.#pending),
  });

  constructor(write: ByteWriter, names: readonly string[], clock: Clock, trace: Trace, locate: Locate) {
    this.#writer = new PcapngWriter(write, names);
    this.#names = [...names];
    this.#clock = clock;
    this.#locate = locate;
    trace.listen((event) => this.#heard(event));
  }

  /** The backend to give to the card `name` instead of its own. */
  wrap(name: string, backend: PacketBackend): PacketBackend {
    if (!this.#names.includes(name)) {
      this.#names.push(name);
      this.#writer.add(name);
    }
    const tapped = tap(backend, {
      sent: (frame) => {
        const story = this.#leaving.get(name) ?? '';
        this.#leaving.delete(name);
        this.#writer.frame(this.#names.indexOf(name), this.#clock.now, 'outbound', frame, story);
      },
      received: (frame) => {
        const pending = this.#pending.get(name) ?? [];
        this.#pending.set(name, pending);
        if (pending.length === mostPending) this.#settle(name, pending.shift()!, 'no word from the card');
        pending.push({ time: this.#clock.now, bytes: frame.slice() });
        this.#arriving = name;
      },
    });
    const inner = backend.onFrame;
    backend.onFrame = (frame) => {
      const isTaken = inner?.(frame) ?? false;
      this.#arriving = undefined;
      return isTaken;
    };
    return tapped;
  }

  #heard({ name, fields }: TraceEvent): void {
    const device = String(fields['device']);
    if (name === 'nic.transmit') this.#leaving.set(device, this.#story(device, fields['address']));
    else if (name === 'nic.receive') this.#next(device, this.#story(device, fields['address']));
    else if (name === 'nic.drop' && fields['direction'] === 'receive')
      this.#next(device, `dropped: ${String(fields['reason'])}`);
    else if (name === 'nic.reset')
      for (const frame of this.#pending.get(device)?.splice(0) ?? []) this.#settle(device, frame, 'dropped: reset');
  }

  /** The card says what became of a frame: of the one just arriving, or of the oldest that waits. */
  #next(device: string, story: string): void {
    const pending = this.#pending.get(device);
    const frame = this.#arriving === device ? pending?.pop() : pending?.shift();
    if (frame) this.#settle(device, frame, story);
  }

  #settle(device: string, { time, bytes }: Arrived, story: string): void {
    this.#writer.frame(this.#names.indexOf(device), time, 'inbound', bytes, story);
  }

  #story(device: string, address: FieldValue | undefined): string {
    const iova = BigInt(address ?? 0);
    const found = this.#locate(device, iova);
    return found ? `iova ${hex(iova)} → gpa ${hex(found.gpa)} → hpa ${hex(found.hpa)}` : `iova ${hex(iova)}`;
  }
}
