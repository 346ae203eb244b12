/**
 * Trace events. Each layer declares its rows in its own `events.ts` with `eventTable`; the catalogue
 * (`trace list`), the JSON-lines reader and the documentation derive from the rows.
 */
/** How a field is shown; the value itself is a number, bigint (64-bit) or string. */
export type FieldKind = 'int' | 'hex' | 'text' | 'bdf' | 'bytes';
export interface EventRow {
  /** One sentence: when it is emitted. */
  readonly doc: string;
  readonly fields: Readonly<Record<string, FieldKind>>;
  /** info events are narrated by default; debug only when traced. */
  readonly level?: 'info' | 'debug' | 'warning';
}
export type EventTable = Readonly<Record<string, EventRow>>;
export type FieldValue = number | bigint | string;

export const eventTable = <const T extends EventTable>(table: T): T => table;

/**
 * What fields of an event must be: numbers and 64-bit values compare by value, texts are globs (`*` any run, `?` one
 * character), a number matches the text that spells it, and `00:01.0` the requester id.
 */
export type EventFields = Readonly<Record<string, FieldValue>>;

export interface TraceEvent {
  /** Virtual time, ns. */
  readonly time: number;
  readonly name: string;
  readonly fields: Readonly<Record<string, FieldValue>>;
}
export type TraceSink = (event: TraceEvent) => void;

/**
 * What every layer is handed to emit into. Test `on` before building the fields, so that a run that nobody watches
 * pays one property load: `if (trace.on) trace.emit('nvme.command', { … })`.
 */
export class Trace {
  /** True while somebody listens. */
  on = false;
  readonly #now: () => number;
  readonly #sinks = new Set<TraceSink>();

  constructor(now: () => number) {
    this.#now = now;
  }

  emit(name: string, fields: Readonly<Record<string, FieldValue>>): void {
    const event: TraceEvent = { time: this.#now(), name, fields };
    for (const sink of this.#sinks) sink(event);
  }

  /** Returns the function that stops listening. */
  listen(sink: TraceSink): () => void {
    this.#sinks.add(sink);
    this.on = true;
    return () => {
      this.#sinks.delete(sink);
      this.on = this.#sinks.size > 0;
    };
  }
}

/** Listens to nothing; for parts built outside a machine. */
export const quiet = new Trace(() => 0);
