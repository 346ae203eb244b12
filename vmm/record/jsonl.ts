/**
 * Events as JSON lines, one document a line: `{"time":1200,"event":"nvme.command","properties":{…}}`.
 * `time` is virtual nanoseconds. 64-bit values are strings "0x…"; the keys come in the order in which the layer
 * gave them, so the same run gives the same bytes.
 */
import type { FieldValue, TraceEvent, TraceSink } from '#vmm/base/events';

// eslint-disable-next-line no-control-regex -- JSON escapes exactly these
const special = /["\\\u0000-\u001f\u007f-\uffff]/;

function encodeValue(value: FieldValue): string {
  if (typeof value === 'number') return Number.isFinite(value) ? `${value}` : 'null';
  if (typeof value === 'bigint') return `"0x${value.toString(16)}"`;
  return special.test(value) ? JSON.stringify(value) : `"${value}"`;
}

/** One event without its line end. */
export function jsonLine(event: TraceEvent): string {
  let text = `{"time":${event.time},"event":"${event.name}","properties":{`;
  let separator = '"';
  const fields = event.fields;
  for (const key in fields) {
    text += `${separator}${key}":${encodeValue(fields[key]!)}`;
    separator = ',"';
  }
  return `${text}}}`;
}

/** Where recorded text goes; the caller owns the file. */
export type TextWriter = (text: string) => void;

const chunkCharacters = 1 << 16;

/** Collects lines and hands them on in large pieces; nothing older than one piece is kept. */
export class JsonLines {
  #pending = '';
  #events = 0;
  readonly #write: TextWriter;
  readonly #wants: (name: string) => boolean;

  constructor(write: TextWriter, wants: (name: string) => boolean = () => true) {
    this.#write = write;
    this.#wants = wants;
  }

  /** Events written so far. */
  get events(): number {
    return this.#events;
  }

  readonly sink: TraceSink = (event) => {
    if (!this.#wants(event.name)) return;
    this.#events++;
    this.#pending += `${jsonLine(event)}\n`;
    if (this.#pending.length >= chunkCharacters) this.flush();
  };

  flush(): void {
    if (this.#pending === '') return;
    this.#write(this.#pending);
    this.#pending = '';
  }
}
