import { type Command, encodeCommand } from '#iommufd/arch/riscv/commands';
import { field, parts } from '#vmm/base/saved';
import type { CommandOutcome } from '#iommufd/arch/riscv/ports';
import { iommu_vevent_riscv_invalidation } from '#iommufd/uapi/extensions';
import type { Host } from './host.ts';

/** How the front end is told (§3.1.4). */
interface InvalidationSink {
  invalidationCompleted(rid: number, segment: number | undefined, itagVector: number, count: number): boolean;
  invalidationTimedOut(itagVector: number): void;
}

// A type, not an interface: a snapshot holds it as it is.
type Pending = {
  readonly itag: number;
  readonly rid: number;
  readonly segment: number | undefined;
  readonly low: bigint;
  readonly high: bigint;
};

/** The guest's ATS.INVAL commands that devices have not completed; at most as many as there are tags, 32. */
export class DeviceInvalidations {
  readonly #host: Host;
  readonly #sink: () => InvalidationSink;
  #pending: Pending[] = [];
  readonly saved = parts({
    pending: field(
      () => this.#pending,
      (value) => (this.#pending = value),
    ),
  });

  constructor(host: Host, sink: () => InvalidationSink) {
    this.#host = host;
    this.#sink = sink;
  }

  get outstanding(): number {
    return this.#pending.length;
  }

  /** Sends one to the host; a device that is not there never answers. */
  send(command: Command, itag: number): CommandOutcome {
    const present = Object.fromEntries(Object.entries(command.operands).filter(([, value]) => value !== 0n));
    const [low, high] = encodeCommand(command.name, present);
    const bytes = new Uint8Array(16);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, low, true);
    view.setBigUint64(8, high, true);
    if (!this.#host.invalidate(bytes, 1)) return 'timeout';
    const { RID, DSV, DSEG } = command.operands;
    this.#pending.push({ itag, rid: Number(RID), segment: DSV ? Number(DSEG) : undefined, low, high });
    return 'waiting';
  }

  /** The host tells that some have ended. Equal commands are as good as each other. */
  readEnded(): void {
    const { size } = iommu_vevent_riscv_invalidation;
    this.#host.readInvalidations(size, (bytes) => {
      const event = iommu_vevent_riscv_invalidation.decode(bytes);
      const at = this.#pending.findIndex(({ low, high }) => low === event['cmd[0]'] && high === event['cmd[1]']);
      if (at < 0) return;
      const [{ itag, rid, segment }] = this.#pending.splice(at, 1) as [Pending];
      const vector = (1 << itag) >>> 0;
      if (event.status === 0) this.#sink().invalidationCompleted(rid, segment, vector, 1);
      else this.#sink().invalidationTimedOut(vector);
    });
  }

  /** Power-on: nobody waits any more. */
  reset(): void {
    this.#pending = [];
  }
}
