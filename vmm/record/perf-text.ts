/** A trace for people, in the manner of perf trace: calls with their results and times, and a summary of them. */
import type { TraceEvent } from '#vmm/base/events';
import { callName, callOf, durationOf, isErrorEvent } from './call.ts';
import { Spans } from './spans.ts';

const ms = (ns: number): string => (ns / 1e6).toFixed(3);

/** `   0.512 ( 0.003 ms): guest/nvme0 IOMMU_HWPT_INVALIDATE(hwpt_id: 5, entries: 2) = 0`. */
function perfLine(event: TraceEvent, durationNs: number | undefined): string {
  const { who, name, args, result } = callOf(event, durationNs);
  const duration = durationNs === undefined ? '         ' : `${ms(durationNs).padStart(6)} ms`;
  return `${ms(event.time).padStart(10)} (${duration}): ${who} ${name}(${args})${result === '' ? '' : ` = ${result}`}`;
}

export interface CallSummary {
  readonly event: string;
  readonly call: string;
  readonly calls: number;
  readonly errors: number;
  /** Of those that tell how long they took. */
  readonly timed: number;
  readonly totalNs: number;
}

type Sum = { -readonly [K in keyof CallSummary]: CallSummary[K] };

/** Kinds of calls told apart; a guest can make up commands. */
const mostKinds = 4096;

/** What `trace` wants to see. */
export interface TraceSelection {
  /** By the event's or the call's name. */
  readonly wants: (name: string) => boolean;
  readonly errorsOnly: boolean;
}

/** Looks at events one by one, in their order; holds what is open and the sums, never the events. */
export class PerfTrace {
  readonly #selection: TraceSelection;
  readonly #spans = new Spans();
  /** By event, then by call. */
  readonly #sums = new Map<string, Map<string, Sum>>();
  #kinds = 0;
  seen = 0;

  constructor(selection: TraceSelection) {
    this.#selection = selection;
  }

  /** The duration of an event that is wanted; false for one that is not. */
  #select(event: TraceEvent): { readonly durationNs: number | undefined } | false {
    const durationNs = durationOf(event, this.#spans);
    const { wants, errorsOnly } = this.#selection;
    if (!wants(event.name) && !wants(callName(event))) return false;
    if (errorsOnly && !isErrorEvent(event)) return false;
    this.seen++;
    return { durationNs };
  }

  /** Whether the event is wanted. */
  matches(event: TraceEvent): boolean {
    return this.#select(event) !== false;
  }

  /** Its line, if it is wanted. */
  line(event: TraceEvent): string | undefined {
    const selected = this.#select(event);
    return selected ? perfLine(event, selected.durationNs) : undefined;
  }

  /** Adds it to the summary, if it is wanted. */
  add(event: TraceEvent): void {
    const selected = this.#select(event);
    if (!selected) return;
    const call = callName(event);
    const sum = this.#sums.get(event.name)?.get(call) ?? this.#newSum(event.name, call);
    sum.calls++;
    if (isErrorEvent(event)) sum.errors++;
    if (selected.durationNs === undefined) return;
    sum.timed++;
    sum.totalNs += selected.durationNs;
  }

  #newSum(event: string, call: string): Sum {
    const isRoom = this.#kinds < mostKinds;
    const [name, kind] = isRoom ? [event, call] : ['others', 'others'];
    let calls = this.#sums.get(name);
    if (!calls) this.#sums.set(name, (calls = new Map()));
    let sum = calls.get(kind);
    if (!sum) {
      sum = { event: name, call: kind, calls: 0, errors: 0, timed: 0, totalNs: 0 };
      calls.set(kind, sum);
      this.#kinds++;
    }
    return sum;
  }

  /** Most calls first. */
  summary(): readonly CallSummary[] {
    return [...this.#sums.values()]
      .flatMap((calls) => [...calls.values()])
      .sort((a, b) => b.calls - a.calls || (a.call < b.call ? -1 : 1));
  }
}

/** Rows of the table that `-s` prints. */
export const summaryRows = (sums: readonly CallSummary[]): string[][] => [
  ['EVENT', 'CALL', 'CALLS', 'ERRORS', 'TOTAL ms', 'AVG ms'],
  ...sums.map(({ event, call, calls, errors, timed, totalNs }) => [
    event,
    call,
    String(calls),
    String(errors),
    timed === 0 ? '' : ms(totalNs),
    timed === 0 ? '' : ms(totalNs / timed),
  ]),
];
