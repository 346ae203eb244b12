import type { TraceEvent } from '#vmm/base/events';
import { catalogue, formatField } from './catalogue.ts';

/** `     0.001200 ms  nvme.command        device=nvme0 opcode=read`: one event for people, in the manner of perf trace. */
export function textLine(event: TraceEvent): string {
  const kinds = catalogue.get(event.name)?.fields;
  let fields = '';
  for (const [key, value] of Object.entries(event.fields)) {
    const text = formatField(kinds?.[key], value);
    fields += ` ${key}=${/[\s"=]/.test(text) || text === '' ? JSON.stringify(text) : text}`;
  }
  return `${(event.time / 1e6).toFixed(6).padStart(13)} ms  ${event.name.padEnd(22)}${fields}`;
}

/** The most recent events, for the report of a crash. */
export class LastEvents {
  readonly #ring: TraceEvent[] = [];
  readonly #size: number;
  #next = 0;

  constructor(size: number) {
    this.#size = size;
  }

  readonly sink = (event: TraceEvent): void => {
    this.#ring[this.#next % this.#size] = event;
    this.#next++;
  };

  /** Oldest first. */
  list(): readonly TraceEvent[] {
    const first = this.#next % this.#size;
    return this.#next <= this.#size ? [...this.#ring] : [...this.#ring.slice(first), ...this.#ring.slice(0, first)];
  }
}
