/** Things that take time: the event that begins one, the event that ends it, and which fields tell that they belong together. */
import type { TraceEvent } from '#vmm/base/events';

interface SpanKind {
  readonly name: string;
  readonly begin: string;
  /** Only begins with this in `unit`. */
  readonly unit?: string;
  readonly end: string;
  readonly key: readonly string[];
}

// prettier-ignore
const kinds: readonly SpanKind[] = [
  { name: 'page request of the guest', begin: 'iommu.page-request', unit: 'viommu', end: 'viommu.page-response', key: ['rid', 'pasid', 'group'] },
  { name: 'page request',              begin: 'iommu.page-request', unit: 'host',   end: 'pri.response',         key: ['rid', 'pasid', 'group'] },
  { name: 'device invalidation',       begin: 'ats.invalidate',                     end: 'ats.completion',       key: ['rid', 'itag'] },
];
const beginnings = new Map(kinds.map(({ begin }) => [begin, kinds.filter((kind) => kind.begin === begin)]));
const ends = new Map(kinds.map((kind) => [kind.end, kind]));

export interface Span {
  readonly name: string;
  /** The same for both ends, and for no other span that is open. */
  readonly key: string;
  readonly from: number;
}

/** A guest that never answers does not fill our memory. */
const mostOpen = 1 << 16;

const keyOf = (kind: SpanKind, { fields }: TraceEvent): string => {
  let key = kind.name;
  for (const name of kind.key) key += ` ${String(fields[name])}`;
  return key;
};

/** Finds the other end of what an event begins or ends. */
export class Spans {
  readonly #open = new Map<string, Span>();

  begin(event: TraceEvent): Span | undefined {
    const kind = beginnings.get(event.name)?.find(({ unit }) => unit === undefined || unit === event.fields['unit']);
    if (!kind || this.#open.size >= mostOpen) return undefined;
    const key = keyOf(kind, event);
    // A group has several requests: it begins with the first.
    if (this.#open.has(key)) return undefined;
    const span = { name: kind.name, key, from: event.time };
    this.#open.set(key, span);
    return span;
  }

  end(event: TraceEvent): Span | undefined {
    const kind = ends.get(event.name);
    if (!kind) return undefined;
    const key = keyOf(kind, event);
    const span = this.#open.get(key);
    this.#open.delete(key);
    return span;
  }

  /** What never ended. */
  open(): readonly Span[] {
    return [...this.#open.values()];
  }
}
