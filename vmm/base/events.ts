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
 * An event of which there are very many. Who tells one hands over what it is made of, as texts and numbers; the fields
 * are built of them where somebody listens to events of this name, or looks at what is remembered.
 */
export interface EventKind {
  readonly name: string;
  readonly fields: (parts: EventParts) => Readonly<Record<string, FieldValue>>;
}
/** What an event is made of; what `subject`, `detail`, `value` and the numbers are is its kind's. */
export interface EventParts {
  readonly subject: string;
  readonly detail: string;
  readonly value: number | bigint;
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly d: number;
  readonly e: number;
  readonly f: number;
  readonly g: number;
  readonly h: number;
}

class Remembered implements EventParts {
  time = 0;
  kind: EventKind | undefined;
  name = '';
  build: (() => Readonly<Record<string, FieldValue>>) | undefined;
  subject = '';
  detail = '';
  value: number | bigint = 0;
  a = 0;
  b = 0;
  c = 0;
  d = 0;
  e = 0;
  f = 0;
  g = 0;
  h = 0;

  get event(): TraceEvent {
    const { time, kind } = this;
    return kind
      ? { time, name: kind.name, fields: kind.fields(this) }
      : { time, name: this.name, fields: this.build!() };
  }
}

/** The most recent events, for the report of a crash: kept as their parts, and built when they are asked for. */
export class Recollection {
  readonly #ring: Remembered[];
  readonly #omitted: string | undefined;
  #next = 0;

  /** `omitted`: events whose subject this is are not kept. */
  constructor(size: number, omitted?: string) {
    this.#ring = Array.from({ length: size }, () => new Remembered());
    this.#omitted = omitted;
  }

  /** Undefined for a subject that is not kept. */
  slot(subject: string): Remembered | undefined {
    if (subject === this.#omitted) return undefined;
    return this.#ring[this.#next++ % this.#ring.length];
  }

  /** Oldest first. */
  list(): readonly TraceEvent[] {
    const size = this.#ring.length;
    const first = Math.max(0, this.#next - size);
    return Array.from({ length: this.#next - first }, (_, i) => this.#ring[(first + i) % size]!.event);
  }
}

export interface Listener {
  readonly sink: TraceSink;
  /** Which events, by name; without it all. Asked once a name. */
  readonly wants?: ((name: string) => boolean) | undefined;
}

/**
 * What every layer is handed to tell its events. Test `on` before building anything, so that a run that nobody watches
 * pays one property load: `if (trace.on) trace.emit('nvme.reset', { … })`. What happens thousands of times a second of a
 * busy guest is told in parts (`tell`), or by a function that builds its fields (`tellLater`): a run whose last events are
 * remembered, and of which only the warnings are heard, builds nothing of these.
 */
export class Trace {
  /** True while somebody listens, or the last events are remembered. */
  on = false;
  readonly #now: () => number;
  #listeners: readonly Listener[] = [];
  /** By event name, as they are first told: who wants it. */
  readonly #sinks = new Map<string, readonly TraceSink[]>();
  #memory: Recollection | undefined;
  readonly #parts = new Remembered();

  constructor(now: () => number) {
    this.#now = now;
  }

  emit(name: string, fields: Readonly<Record<string, FieldValue>>): void {
    const sinks = this.#wanting(name);
    if (sinks) pass({ time: this.#now(), name, fields }, sinks);
    if (this.#memory) this.#keep(this.#memory, name, () => fields);
  }

  /** An event whose fields take long to build. What `build` reads must stay as it is. */
  tellLater(name: string, build: () => Readonly<Record<string, FieldValue>>): void {
    const sinks = this.#wanting(name);
    if (sinks) pass({ time: this.#now(), name, fields: build() }, sinks);
    if (this.#memory) this.#keep(this.#memory, name, build);
  }

  /** An event in its parts; its kind knows what they are. */
  tell(
    kind: EventKind,
    subject: string,
    detail: string,
    value: number | bigint,
    a = 0,
    b = 0,
    c = 0,
    d = 0,
    e = 0,
    f = 0,
    g = 0,
    h = 0,
  ): void {
    const sinks = this.#wanting(kind.name);
    const parts = this.#memory?.slot(subject) ?? (sinks ? this.#parts : undefined);
    if (!parts) return;
    parts.time = this.#now();
    parts.kind = kind;
    parts.subject = subject;
    parts.detail = detail;
    parts.value = value;
    parts.a = a;
    parts.b = b;
    parts.c = c;
    parts.d = d;
    parts.e = e;
    parts.f = f;
    parts.g = g;
    parts.h = h;
    if (sinks) pass(parts.event, sinks);
  }

  /** Calls `sink` with events, of the names that it wants; returns the function that stops listening. */
  listen(sink: TraceSink, wants?: (name: string) => boolean): () => void {
    const listener = { sink, wants };
    this.#change([...this.#listeners, listener]);
    return () => this.#change(this.#listeners.filter((one) => one !== listener));
  }

  /** From now on the last events are kept here. */
  remember(memory: Recollection): void {
    this.#memory = memory;
    this.on = true;
  }

  /** All who hear of a machine, and its memory for them. */
  attach(to: {
    readonly listeners?: readonly (TraceSink | Listener)[] | undefined;
    readonly recollection?: Recollection | undefined;
  }): void {
    for (const one of to.listeners ?? []) {
      if (typeof one === 'function') this.listen(one);
      else this.listen(one.sink, one.wants);
    }
    if (to.recollection) this.remember(to.recollection);
  }

  #change(listeners: readonly Listener[]): void {
    this.#listeners = listeners;
    this.#sinks.clear();
    this.on = listeners.length > 0 || this.#memory !== undefined;
  }

  #wanting(name: string): readonly TraceSink[] | undefined {
    let sinks = this.#sinks.get(name);
    if (!sinks) {
      sinks = this.#listeners.filter(({ wants }) => wants?.(name) ?? true).map(({ sink }) => sink);
      this.#sinks.set(name, sinks);
    }
    return sinks.length > 0 ? sinks : undefined;
  }

  #keep(memory: Recollection, name: string, build: () => Readonly<Record<string, FieldValue>>): void {
    const slot = memory.slot('')!;
    slot.time = this.#now();
    slot.kind = undefined;
    slot.name = name;
    slot.build = build;
  }
}

const pass = (event: TraceEvent, sinks: readonly TraceSink[]): void => {
  for (const sink of sinks) sink(event);
};

/** Listens to nothing; for parts built outside a machine. */
export const quiet = new Trace(() => 0);
