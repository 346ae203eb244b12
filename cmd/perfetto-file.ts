import type { Machine } from '#vmm/machine/machine';
import { PerfettoTrace } from '#vmm/record/perfetto';
import { bdf } from '#vmm/base/address';
import type { NameOf } from '#vmm/record/narration';
import { OutputFile } from './files.ts';

/** What people call the requesters of a machine, by the guest's ids and the host's. */
export function namesOf(machine: Machine): NameOf {
  const names = new Map<number, string>();
  for (const { placed, hostRid, guestRid } of machine.host.devices) {
    names.set(hostRid, placed.id);
    if (guestRid !== undefined) names.set(guestRid, placed.id);
  }
  // One that was plugged in meanwhile.
  const late = (id: number): string | undefined =>
    machine.host.devices.find(({ hostRid, guestRid }) => hostRid === id || guestRid === id)?.placed.id;
  return (id) => names.get(id) ?? late(id) ?? bdf(id);
}

/** `--trace-perfetto FILE`. */
export class PerfettoFile {
  readonly #path: string;
  #file: OutputFile | undefined;
  readonly #trace = new PerfettoTrace((text) => this.#open().write(text));
  readonly sink = this.#trace.sink;

  constructor(path: string) {
    this.#path = path;
  }

  #open(): OutputFile {
    return (this.#file ??= new OutputFile(this.#path, 'a Perfetto trace'));
  }

  /** The machine stands: only now a file is written. */
  started(machine: Machine): void {
    this.#open();
    this.#trace.nameOf = namesOf(machine);
  }

  close(): void {
    if (!this.#file) return;
    this.#trace.finish();
    this.#file.close();
  }
}
