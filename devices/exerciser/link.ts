/** The function's end of the link: its way to memory, what it is allowed to send, and what all transactions share. */
import type { Clock } from '#vmm/base/clock';
import type { Trace } from '#vmm/base/events';
import {
  type DmaPort,
  type MemoryRequest,
  type PageRequestMessage,
  type TransactionPort,
  type TranslationEnables,
  type TranslationRequest,
  noPasid,
} from '#vmm/base/ports';
import { field, part, parts, properties } from '#vmm/base/saved';
import { TranslationCache } from '../ats/atc.ts';
import { PageRequests } from '../ats/page-requests.ts';
import { addressTypeMask, mode, statuses } from './descriptors.ts';
import { LocalMemory } from './local-memory.ts';

const off: TranslationEnables = {
  ats: false,
  smallestTranslationShift: 12,
  pri: false,
  pageRequestAllocation: 0,
  pasid: false,
  pasidExecute: false,
  pasidPrivileged: false,
};

const zeroes = {
  transactions: 0,
  errors: 0,
  requests: 0,
  translations: 0,
  hits: 0,
  stale: 0,
  invalidations: 0,
  pageRequests: 0,
  pageResponses: 0,
};
/** Counters since reset. */
export type Counts = typeof zeroes;

interface LinkOptions {
  readonly name: string;
  readonly clock: Clock;
  readonly trace: Trace;
  readonly cacheEntries: number;
  readonly cacheSlots: number;
  readonly pageCapacity: number;
}

export class Link {
  readonly name: string;
  readonly clock: Clock;
  readonly trace: Trace;
  readonly local = new LocalMemory();
  readonly cache: TranslationCache;
  readonly pages: PageRequests;
  readonly counts: Counts = { ...zeroes };
  port: DmaPort | undefined;
  /** The same, where it can do more than plain reads and writes. */
  transactions: TransactionPort | undefined;
  enables = off;
  isMaster = false;
  /** CONTROL.UNCHECKED. */
  isUnchecked = false;
  /** CONTROL.HOLD_INVALIDATIONS. */
  #isHolding = false;
  /** ITags that are held, as a bit vector. */
  #held = 0;
  chunkBytes = 4096;
  requestNs = 0;
  translationNs = 0;
  /** Something may go on now. */
  wake: () => void = () => {};
  /** Without the page requests, which go behind everybody that may wait for one. */
  readonly saved = parts({
    local: part(() => this.local),
    cache: part(() => this.cache),
    counts: field(
      () => this.counts,
      (counts) => Object.assign(this.counts, counts),
    ),
    enables: field(
      () => ({ ...this.enables }),
      (enables) => (this.enables = enables),
    ),
    state: properties(() => this, ['isMaster', 'isUnchecked', 'chunkBytes', 'requestNs', 'translationNs']),
    isHolding: field(
      () => this.#isHolding,
      (value) => (this.#isHolding = value),
    ),
    held: field(
      () => this.#held,
      (value) => (this.#held = value),
    ),
  });

  // Filled in anew for every use: ports keep nothing beyond a call.
  readonly memoryRequest: MemoryRequest = {
    kind: 'read',
    isTranslated: false,
    hi: 0,
    lo: 0,
    length: 0,
    pasid: noPasid,
    privileged: false,
    execute: false,
  };
  readonly translationRequest: TranslationRequest = {
    hi: 0,
    lo: 0,
    noWrite: false,
    pasid: noPasid,
    privileged: false,
    execute: false,
  };
  readonly pageMessage: PageRequestMessage = {
    hi: 0,
    lo: 0,
    read: false,
    write: false,
    last: false,
    group: 0,
    pasid: noPasid,
    privileged: false,
    execute: false,
  };

  constructor({ name, clock, trace, cacheEntries, cacheSlots, pageCapacity }: LinkOptions) {
    this.name = name;
    this.clock = clock;
    this.trace = trace;
    this.cache = new TranslationCache(cacheEntries, cacheSlots, (itag) => this.#invalidated(itag));
    this.pages = new PageRequests(pageCapacity);
  }

  /** Status of a request that may not leave as it is, or SUCCESS. `pasid` is `noPasid` without. */
  refusal(modeBits: number, pasid: number): number {
    const type = modeBits & addressTypeMask;
    const { enables } = this;
    if (
      !this.transactions &&
      (type !== mode.UNTRANSLATED.value || (modeBits & (mode.PRIVILEGED.value | mode.EXECUTE.value)) !== 0)
    )
      return statuses.NOT_SUPPORTED.value;
    if (this.isUnchecked) return statuses.SUCCESS.value;
    const isAllowed =
      (type === mode.UNTRANSLATED.value || enables.ats) &&
      (pasid === noPasid || enables.pasid) &&
      ((modeBits & mode.PRIVILEGED.value) === 0 || enables.pasidPrivileged) &&
      ((modeBits & mode.EXECUTE.value) === 0 || enables.pasidExecute);
    return isAllowed ? statuses.SUCCESS.value : statuses.NOT_ENABLED.value;
  }

  /** The same for a message: a page request or a stop marker. */
  messageRefusal(modeBits: number, pasid: number): number {
    return this.transactions ? this.refusal(modeBits & ~addressTypeMask, pasid) : statuses.NOT_SUPPORTED.value;
  }

  /** Completions of invalidations leave only while this is false. */
  hold(isHolding: boolean): void {
    this.#isHolding = isHolding;
    if (isHolding) return;
    const held = this.#held;
    this.#held = 0;
    for (let itag = 0; itag < 32; itag++) if (((held >>> itag) & 1) === 1) this.#invalidated(itag);
  }

  resetCounts(): void {
    Object.assign(this.counts, zeroes);
  }

  #invalidated(itag: number): void {
    if (this.#isHolding) {
      this.#held = (this.#held | (1 << itag)) >>> 0;
      return;
    }
    if (this.trace.on) this.trace.emit('exerciser.invalidated', { device: this.name, itag });
    this.transactions?.invalidationCompleted(itag);
  }
}
