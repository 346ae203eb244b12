/** Reads back what vmm/record/jsonl writes, piece by piece. */
import type { FieldValue, TraceEvent } from '#vmm/base/events';

/** A line of more than this is no event of ours. */
const longestLine = 1 << 20;

/** What is wrong with a line. */
export class TraceFormatError extends Error {
  override readonly name = 'TraceFormatError';
  readonly line: number;
  constructor(line: number, found: string) {
    const shown = found.length > 60 ? `${found.slice(0, 60)}…` : found;
    super(`expected an event {"time":…,"event":…,"properties":{…}}, found ${JSON.stringify(shown)}`);
    this.line = line;
  }
}

const isFields = (value: unknown): value is Record<string, FieldValue> => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  for (const key in value) {
    const field = (value as Record<string, unknown>)[key];
    if (typeof field === 'number' || typeof field === 'string') continue;
    // What was not a finite number was written as null.
    if (field !== null) return false;
    (value as Record<string, unknown>)[key] = 'null';
  }
  return true;
};

function eventOf(value: unknown): TraceEvent | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { time, event, properties } = value as Record<string, unknown>;
  if (typeof time !== 'number' || typeof event !== 'string' || !isFields(properties)) return undefined;
  return { time, name: event, fields: properties };
}

function parseLine(line: string): TraceEvent | undefined {
  try {
    return eventOf(JSON.parse(line));
  } catch {
    return undefined;
  }
}

/**
 * The documents of whole lines, in one go: half the time of one line after the other, since neighbours are alike.
 * Undefined where the lines are not one document each, by which it is not said which of them is wrong.
 */
function parseLines(lines: string): readonly unknown[] | undefined {
  let count = 1;
  for (let at = lines.indexOf('\n'); at >= 0; at = lines.indexOf('\n', at + 1)) count++;
  try {
    const values = JSON.parse(`[${lines.replaceAll('\n', ',')}]`) as readonly unknown[];
    return values.length === count ? values : undefined;
  } catch {
    return undefined;
  }
}

/** Turns text as it comes into events; nothing but the last, unfinished line is kept. */
export class TraceReader {
  readonly #sink: (event: TraceEvent) => void;
  #rest = '';
  #line = 0;

  constructor(sink: (event: TraceEvent) => void) {
    this.#sink = sink;
  }

  /** @throws TraceFormatError for a line that is no event. */
  push(text: string): void {
    const all = this.#rest === '' ? text : this.#rest + text;
    const end = all.lastIndexOf('\n');
    if (end >= 0 && !this.#readAll(all.slice(0, end)))
      for (const line of all.slice(0, end).split('\n')) this.#read(line);
    this.#rest = all.slice(end + 1);
    if (this.#rest.length > longestLine) throw new TraceFormatError(this.#line + 1, this.#rest);
  }

  /** The end: false when the last line is unfinished, as of a run that was cut off. */
  finish(): boolean {
    const rest = this.#rest;
    this.#rest = '';
    if (rest === '') return true;
    const event = parseLine(rest);
    if (event) this.#sink(event);
    return event !== undefined;
  }

  /** False: nothing was told, and some line is no event. */
  #readAll(lines: string): boolean {
    const values = parseLines(lines);
    if (!values) return false;
    const events: TraceEvent[] = [];
    for (const value of values) {
      const event = eventOf(value);
      if (!event) return false;
      events.push(event);
    }
    this.#line += events.length;
    for (const event of events) this.#sink(event);
    return true;
  }

  #read(line: string): void {
    this.#line++;
    if (line === '' || line === '\r') return;
    const event = parseLine(line);
    if (!event) throw new TraceFormatError(this.#line, line);
    this.#sink(event);
  }
}
