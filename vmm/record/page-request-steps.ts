/** Where the time of page requests goes: step by step from the device's message to the retry that finds the page. */
import type { TraceEvent } from '#vmm/base/events';

/** The steps in their order, each from the event before it. */
const steps = {
  queue: 'device, silicon and host kernel, to the guest’s queue',
  guest: 'guest: interrupt, handler, answer to the device',
  retry: 'device: translation again, with the page there',
  all: 'page request to completed retry',
} as const;
type Step = keyof typeof steps;

/** Upper ends of the histogram's buckets; what is above falls into a last one. */
const limits = [1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000] as const;
const limitName = (limit: number): string => `<${limit / 1000}k`;

/** One step's spans, in one unit. */
interface Distribution {
  readonly count: number;
  readonly median: number;
  readonly most: number;
  /** How many lie below each of `limits` and not below the one before; the last are those above all. */
  readonly buckets: readonly number[];
}
/** By step: virtual time in ns, and instructions that the harts retired meanwhile. */
export type PageRequestReport = Readonly<
  Record<Step, { readonly ns: Distribution; readonly instructions: Distribution }>
>;

interface Moment {
  readonly ns: number;
  readonly instructions: number;
}
interface Request {
  readonly asked: Moment;
  readonly rid: string;
  readonly page: string;
  queued?: Moment;
  answered?: Moment;
}

/** Requests that nobody answers do not fill our memory, nor do those of a long run. */
const mostOpen = 1 << 12;
const mostSpans = 1 << 20;

const distribution = (values: readonly number[]): Distribution => {
  const sorted = values.toSorted((a, b) => a - b);
  const buckets = Array.from({ length: limits.length + 1 }, () => 0);
  for (const value of sorted) {
    const at = limits.findIndex((limit) => value < limit);
    buckets[at < 0 ? limits.length : at]!++;
  }
  return { count: sorted.length, median: sorted[sorted.length >> 1] ?? 0, most: sorted.at(-1) ?? 0, buckets };
};

/**
 * Listens to a run. Requests are told apart by PASID and group index, which every layer keeps; only groups of one page that
 * end with Success and a retry count.
 */
export class PageRequestSteps {
  /** Instructions of all harts; set when the machine is there. */
  instructions: () => number = () => 0;
  readonly #open = new Map<string, Request>();
  /** Answered with Success, by what their device will ask again. */
  readonly #retried = new Map<string, Request>();
  readonly #spans: Record<Step, { ns: number[]; instructions: number[] }> = {
    queue: { ns: [], instructions: [] },
    guest: { ns: [], instructions: [] },
    retry: { ns: [], instructions: [] },
    all: { ns: [], instructions: [] },
  };

  readonly sink = ({ name, time, fields }: TraceEvent): void => {
    const handler = this.#handlers[name];
    if (!handler) return;
    handler(fields, () => ({ ns: time, instructions: this.instructions() }));
  };

  readonly #handlers: Readonly<Record<string, (fields: TraceEvent['fields'], now: () => Moment) => void>> = {
    'pri.request': (fields, now) => {
      if (fields['last'] !== 1 || this.#open.size >= mostOpen) return;
      const page = String(fields['address']);
      this.#open.set(keyOf(fields), { asked: now(), rid: String(fields['rid']), page });
    },
    'iommu.page-request': (fields, now) => {
      const request = fields['unit'] === 'viommu' ? this.#open.get(keyOf(fields)) : undefined;
      if (request) request.queued = now();
    },
    'pri.response': (fields, now) => {
      const request = this.#open.get(keyOf(fields));
      if (!request) return;
      this.#open.delete(keyOf(fields));
      if (fields['code'] !== 0 || !request.queued) return;
      request.answered = now();
      if (this.#retried.size < mostOpen)
        this.#retried.set(`${request.rid} ${String(fields['pasid'])} ${request.page}`, request);
    },
    'ats.translation': (fields, now) => {
      if (fields['rights'] === '') return;
      const key = `${String(fields['rid'])} ${String(fields['pasid'])} ${String(fields['iova'])}`;
      const request = this.#retried.get(key);
      if (!request) return;
      this.#retried.delete(key);
      this.#count(request, now());
    },
  };

  #count({ asked, queued, answered }: Request, done: Moment): void {
    const { all } = this.#spans;
    if (!queued || !answered || all.ns.length >= mostSpans) return;
    const add = (step: Step, from: Moment, to: Moment): void => {
      this.#spans[step].ns.push(to.ns - from.ns);
      this.#spans[step].instructions.push(to.instructions - from.instructions);
    };
    add('queue', asked, queued);
    add('guest', queued, answered);
    add('retry', answered, done);
    add('all', asked, done);
  }

  /** Undefined where there was none. */
  report(): PageRequestReport | undefined {
    if (this.#spans.all.ns.length === 0) return undefined;
    return Object.fromEntries(
      Object.entries(this.#spans).map(([step, { ns, instructions }]) => [
        step,
        { ns: distribution(ns), instructions: distribution(instructions) },
      ]),
    ) as PageRequestReport;
  }

  /** The report as tables: virtual time, and guest instructions. */
  lines(): string[] {
    const report = this.report();
    if (!report) return [];
    const lines: string[] = [];
    for (const [unit, title] of [
      ['ns', 'virtual time, ns'],
      ['instructions', 'guest instructions'],
    ] as const) {
      lines.push(`Steps of ${report.all.ns.count} page requests: ${title}`);
      const head = ['step', 'median', 'most', ...limits.map(limitName), 'more'];
      const rows = (Object.entries(report) as [Step, PageRequestReport[Step]][]).map(([step, of]) =>
        [steps[step], of[unit].median, of[unit].most, ...of[unit].buckets].map(String),
      );
      const widths = head.map((name, i) => Math.max(name.length, ...rows.map((row) => row[i]!.length)));
      for (const row of [head, ...rows])
        lines.push(
          `  ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  ')}`,
        );
      lines.push('');
    }
    return lines;
  }
}

const keyOf = (fields: TraceEvent['fields']): string => `${String(fields['pasid'])} ${String(fields['group'])}`;
