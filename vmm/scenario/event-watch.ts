/** Who comes when: every event that some step asks for is noted from power-on, so that none is missed between steps. */
import type { EventFields, TraceEvent } from '#vmm/base/events';
import { matchesEvent } from '../machine/events.ts';
import { textLine } from '../record/text.ts';
import type { PlacedStep } from './parse.ts';

interface Asked {
  readonly event: string;
  readonly where: EventFields;
  /** Positions in the trace of events that match, oldest first. */
  readonly hits: number[];
  /** The first of them since somebody last looked. */
  example: string;
}
const mostHits = 1 << 20;

export class EventWatch {
  readonly #asked: readonly (Asked | undefined)[];
  readonly #byName = new Map<string, Asked[]>();
  #position = 0;
  /** Behind what the last expect-event found. */
  cursor = 0;
  #isDone: (() => boolean) | undefined;
  readonly #found: () => void;

  constructor(steps: readonly PlacedStep[], found: () => void) {
    this.#found = found;
    this.#asked = steps.map(({ step }) => {
      const options = step['expect-event'] ?? step['expect-no-event'];
      if (!options) return undefined;
      const asked: Asked = { event: options.event, where: options.where, hits: [], example: '' };
      this.#byName.set(options.event, [...(this.#byName.get(options.event) ?? []), asked]);
      return asked;
    });
  }

  hear(event: TraceEvent): void {
    this.#position++;
    const asked = this.#byName.get(event.name);
    if (!asked) return;
    let isNew = false;
    for (const one of asked) {
      if (one.hits.length >= mostHits || !matchesEvent(event, one.event, one.where)) continue;
      one.hits.push(this.#position);
      one.example = textLine(event).trim();
      isNew = true;
    }
    if (isNew && this.#isDone?.()) this.#found();
  }

  /** Events so far. */
  get position(): number {
    return this.#position;
  }

  /** Positions behind `after` at which what a step asks for came. */
  hits(step: number, after: number): readonly number[] {
    return this.#asked[step]!.hits.filter((position) => position > after);
  }

  /** The latest event that this step asks for, as text. */
  example(step: number): string {
    return this.#asked[step]!.example;
  }

  /** From now on `found` is called when this is so. */
  wait(isDone: (() => boolean) | undefined): void {
    this.#isDone = isDone;
  }
}
