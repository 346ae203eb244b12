/** One memory request with all that it takes: translation, page request, retry, and the bytes. At most one page of it. */
import { type DmaResult, noPasid } from '#vmm/base/ports';
import { field, parts, properties } from '#vmm/base/saved';
import { permission, permissionsOf, tagOf } from '../ats/atc.ts';
import type { PageListener, PageOutcome } from '../ats/page-requests.ts';
import { addressTypeMask, mode, statuses } from './descriptors.ts';
import type { Link } from './link.ts';

/** Something that takes virtual time. */
export interface Activity {
  /** When it can go on; Infinity while it waits for somebody. */
  readyAt: number;
  /** Valid when it is over. */
  status: number;
  /** First byte that could not be reached, relative to the activity's start. */
  faultOffset: number;
  /** Goes on; true when it is over. Bounded. */
  step(): boolean;
  /** Gives it up: nothing of it reaches memory any more. */
  cancel(): void;
}

/** Changes `bytes[0 … length - 1]`, the old value, in place; false leaves memory as it is. */
export type AtomicOperation = (bytes: Uint8Array, length: number) => boolean;
/** `translate` is a translation request alone. */
export type AccessKind = 'read' | 'write' | 'atomic' | 'translate';

type State = 'resolve' | 'translating' | 'credits' | 'responding' | 'issued' | 'over';

const mostPageFaults = 16;
const mostStale = 64;
/**
 * How long it waits after the second response that changed nothing; twice as long after each further one, up to 2^10
 * times. An IOMMU whose queue is full answers Success for software, which needs time to make room.
 */
const patienceNs = 1000;
/** Beyond the permission bits, in `rights`. */
const rightsBits = { ...permission, global: 16, privileged: 32 } as const;

const needed: Readonly<Record<AccessKind, number>> = {
  read: permission.read,
  write: permission.write,
  atomic: permission.read | permission.write,
  translate: 0,
};

const none = new Uint8Array(0);

export class Access implements Activity, PageListener {
  readyAt = Infinity;
  status = 0;
  faultOffset = 0;
  /** Address that was used last: translated, or as it stood. */
  usedHi = 0;
  usedLo = 0;
  /** Of the latest translation completion. */
  rights = 0;
  rangeShift = 0;
  translations = 0;
  pageRequests = 0;
  stale = 0;
  group = 0;
  noWrite = false;
  atomic: AtomicOperation | undefined;
  readonly #link: Link;
  #kind: AccessKind = 'read';
  #mode = 0;
  #pasid = noPasid;
  #hi = 0;
  #lo = 0;
  #length = 0;
  #buffer: Uint8Array = none;
  #at = 0;
  #state: State = 'over';
  /** The translation it holds in the cache, or -1. */
  #slot = -1;
  #isTranslated = false;
  #pageFaults = 0;
  // The latest completion, between its arrival at the function and its use.
  #answer = 0;
  #toHi = 0;
  #toLo = 0;
  readonly #buffers: readonly Uint8Array[];
  readonly saved = parts({
    progress: properties(() => this, ['readyAt', 'status', 'faultOffset', 'usedHi', 'usedLo', 'rights', 'rangeShift', 'translations', 'pageRequests', 'stale', 'group', 'noWrite']), // prettier-ignore
    buffer: field(
      () => this.#buffers.indexOf(this.#buffer),
      (index) => (this.#buffer = this.#buffers[index] ?? none),
    ),
    kind: field(
      () => this.#kind,
      (value) => (this.#kind = value),
    ),
    mode: field(
      () => this.#mode,
      (value) => (this.#mode = value),
    ),
    pasid: field(
      () => this.#pasid,
      (value) => (this.#pasid = value),
    ),
    hi: field(
      () => this.#hi,
      (value) => (this.#hi = value),
    ),
    lo: field(
      () => this.#lo,
      (value) => (this.#lo = value),
    ),
    length: field(
      () => this.#length,
      (value) => (this.#length = value),
    ),
    at: field(
      () => this.#at,
      (value) => (this.#at = value),
    ),
    state: field(
      () => this.#state,
      (value) => (this.#state = value),
    ),
    slot: field(
      () => this.#slot,
      (value) => (this.#slot = value),
    ),
    isTranslated: field(
      () => this.#isTranslated,
      (value) => (this.#isTranslated = value),
    ),
    pageFaults: field(
      () => this.#pageFaults,
      (value) => (this.#pageFaults = value),
    ),
    answer: field(
      () => this.#answer,
      (value) => (this.#answer = value),
    ),
    toHi: field(
      () => this.#toHi,
      (value) => (this.#toHi = value),
    ),
    toLo: field(
      () => this.#toLo,
      (value) => (this.#toLo = value),
    ),
  });

  /** `buffers`: every one that `begin` may be given. */
  constructor(link: Link, buffers: readonly Uint8Array[]) {
    this.#link = link;
    this.#buffers = buffers;
  }

  /**
   * @param modeBits as in descriptors; `pasid` counts only with the PASID bit
   * @param length bytes, inside one 4 KiB page
   * @param buffer bytes go to, or come from, `at` on
   */
  begin(
    kind: AccessKind,
    modeBits: number,
    pasid: number,
    hi: number,
    lo: number,
    length: number,
    buffer: Uint8Array,
    at = 0,
  ): void {
    // prettier-ignore
    this.#kind = kind;
    this.#mode = modeBits;
    this.#pasid = (modeBits & mode.PASID.value) !== 0 ? pasid : noPasid;
    this.#hi = hi;
    this.#lo = lo;
    this.#length = length;
    this.#buffer = buffer;
    this.#at = at;
    this.#state = 'resolve';
    this.#pageFaults = 0;
    this.status = 0;
    this.faultOffset = 0;
    this.readyAt = this.#link.clock.now;
    this.rights = 0;
    this.rangeShift = 0;
    this.translations = 0;
    this.pageRequests = 0;
    this.stale = 0;
    this.group = 0;
  }

  get isOver(): boolean {
    return this.#state === 'over';
  }

  step(): boolean {
    this.#steps[this.#state]();
    return this.#state === 'over';
  }

  readonly #steps: Readonly<Record<State, () => void>> = {
    resolve: () => this.#resolve(),
    translating: () => this.#translated(),
    credits: () => this.#requestPage(),
    responding: () => {},
    issued: () => this.#perform(),
    over: () => {},
  };

  cancel(): void {
    this.#release();
    if (this.#state === 'responding') this.#link.pages.detach(this);
    this.#state = 'over';
    this.readyAt = Infinity;
  }

  /** Takes back a request that was issued and had no effect yet: it starts again when its function may send. */
  retract(): void {
    if (this.#state !== 'issued' && this.#state !== 'translating') return;
    this.#release();
    this.#state = 'resolve';
    this.readyAt = this.#link.clock.now;
  }

  /** There are credits, or there will be none. */
  creditsChanged(): void {
    if (this.#state === 'credits') this.readyAt = this.#link.clock.now;
  }

  pageAnswered(outcome: PageOutcome): void {
    if (this.#state !== 'responding') return;
    this.readyAt = this.#link.clock.now;
    if (outcome === 'success') {
      this.#state = 'resolve';
      if (this.#pageFaults > 1) this.readyAt += patienceNs * 2 ** Math.min(10, this.#pageFaults - 2);
    } else this.#end(pageStatus[outcome]);
    this.#link.wake();
  }

  #end(status: number): void {
    this.#release();
    this.status = status;
    this.#state = 'over';
  }

  #release(): void {
    if (this.#slot >= 0) this.#link.cache.release(this.#slot);
    this.#slot = -1;
  }

  get #needs(): number {
    const execute = (this.#mode & mode.EXECUTE.value) !== 0 && this.#kind !== 'translate' ? permission.execute : 0;
    return needed[this.#kind] | execute;
  }

  get #isPrivileged(): boolean {
    return (this.#mode & mode.PRIVILEGED.value) !== 0;
  }

  #resolve(): void {
    const link = this.#link;
    const refusal = link.refusal(this.#kind === 'translate' ? (this.#mode & ~addressTypeMask) | mode.ATS.value : this.#mode, this.#pasid); // prettier-ignore
    if (refusal !== statuses.SUCCESS.value) return this.#end(refusal);
    const type = this.#mode & addressTypeMask;
    const isTranslation = this.#kind === 'translate';
    if (type !== mode.ATS.value && !isTranslation) return this.#issue(this.#hi, this.#lo, type === mode.TRANSLATED.value); // prettier-ignore
    const { cache } = link;
    const tag = tagOf(this.#pasid, this.#isPrivileged);
    if (!isTranslation && cache.lookup(tag, this.#hi, this.#lo, this.#needs)) {
      link.counts.hits++;
      const { hitHi, hitLo } = cache;
      this.#slot = cache.watch(tag, this.#hi, this.#lo);
      return this.#issue(hitHi, hitLo, true);
    }
    this.#slot = cache.watch(tag, this.#hi, this.#lo);
    this.#askTranslation();
  }

  /** The IOMMU answers at once; the function learns it `translationNs` later, and invalidations may overtake it. */
  #askTranslation(): void {
    const link = this.#link;
    const request = link.translationRequest;
    request.hi = this.#hi;
    request.lo = (this.#lo & ~0xfff) >>> 0;
    // A function that only reads should not make pages dirty (§10.2.2.5).
    request.noWrite = this.#kind === 'translate' ? this.noWrite : this.#kind === 'read';
    request.pasid = this.#pasid;
    request.privileged = this.#isPrivileged;
    request.execute = (this.#mode & mode.EXECUTE.value) !== 0;
    this.translations++;
    link.counts.translations++;
    const completion = link.transactions!.translate(request);
    this.#answer = completion.status === 'success' ? 0 : dmaStatus[completion.status];
    const { hi, lo, shift } = completion;
    this.#toHi = hi >>> 0;
    this.#toLo = lo >>> 0;
    this.rangeShift = shift;
    this.rights =
      permissionsOf(completion) |
      (completion.global ? rightsBits.global : 0) |
      (completion.privileged ? rightsBits.privileged : 0);
    this.#state = 'translating';
    this.readyAt = link.clock.now + link.translationNs;
    if (link.trace.on)
      link.trace.emit('exerciser.translation', {
        device: link.name,
        pasid: this.#pasid,
        address: BigInt(request.hi) * 0x1_0000_0000n + BigInt(request.lo),
        status: completion.status,
        translated: BigInt(this.#toHi) * 0x1_0000_0000n + BigInt(this.#toLo),
        bytes: 2 ** shift,
        rights: this.rights,
      });
  }

  #translated(): void {
    const { cache, counts } = this.#link;
    if (cache.isStale(this.#slot)) {
      counts.stale++;
      if (++this.stale > mostStale) return this.#end(statuses.RETRIES.value);
      this.#release();
      return this.#resolve();
    }
    if (this.#answer !== 0) return this.#end(this.#answer);
    const { rights } = this;
    const granted = rights & (permission.read | permission.write | permission.execute);
    const used = rights & (granted | permission.untranslatedOnly);
    const shift = this.rangeShift;
    if (granted !== 0) cache.fill(this.#slot, shift, this.#toHi, this.#toLo, used);
    // The range is aligned to its size: the page's address inside it comes from the untranslated address.
    const hi = (this.#toHi + (shift > 32 ? this.#hi % 2 ** (shift - 32) : 0)) >>> 0;
    const lo = (this.#toLo + (shift >= 32 ? this.#lo : this.#lo % 2 ** shift)) >>> 0;
    if (this.#kind === 'translate') {
      this.usedHi = granted === 0 ? 0 : hi;
      this.usedLo = granted === 0 ? 0 : lo;
      return this.#end(statuses.SUCCESS.value);
    }
    if ((granted & this.#needs) !== this.#needs) {
      this.#release();
      if ((this.#mode & mode.PAGE_REQUEST.value) === 0) return this.#end(statuses.NO_PERMISSION.value);
      if (++this.#pageFaults > mostPageFaults) return this.#end(statuses.RETRIES.value);
      return this.#requestPage();
    }
    if ((rights & permission.untranslatedOnly) !== 0) {
      this.#release();
      return this.#issue(this.#hi, this.#lo, false);
    }
    this.#issue(hi, lo, true);
  }

  /** A group of one request, of an index of its own. */
  #requestPage(): void {
    const { pages, pageMessage: message, isUnchecked, counts } = this.#link;
    // Looked at again, since it may have waited for credits.
    const refusal = this.#link.messageRefusal(this.#mode, this.#pasid);
    if (refusal !== statuses.SUCCESS.value) return this.#end(refusal);
    const group = pages.freeIndex();
    if (group < 0) return this.#end(statuses.NO_CREDITS.value);
    message.hi = this.#hi;
    message.lo = (this.#lo & ~0xfff) >>> 0;
    message.read = this.#kind !== 'write';
    message.write = this.#kind !== 'read';
    message.last = true;
    message.group = group;
    message.pasid = this.#pasid;
    message.privileged = this.#isPrivileged;
    message.execute = (this.#mode & mode.EXECUTE.value) !== 0;
    // Before it leaves, since the answer may be there when `send` returns.
    this.#state = 'responding';
    this.readyAt = Infinity;
    const outcome = pages.send(message, this, isUnchecked);
    if (outcome === 'sent') {
      this.pageRequests++;
      this.group = group;
      counts.pageRequests++;
    } else if (outcome === 'no-credits') this.#state = 'credits';
    else this.#end(statuses.NOT_ENABLED.value);
  }

  #issue(hi: number, lo: number, isTranslated: boolean): void {
    if (this.#slot >= 0) this.#link.cache.use(this.#slot);
    this.usedHi = hi;
    this.usedLo = lo;
    this.#isTranslated = isTranslated;
    this.#state = 'issued';
    this.readyAt = this.#link.clock.now + this.#link.requestNs;
  }

  #perform(): void {
    this.#link.counts.requests++;
    const length = this.#length;
    if (this.#kind === 'atomic') {
      if (this.#request('atomic', true) && this.atomic!(this.#buffer, length)) this.#move(false);
    } else this.#request(this.#kind === 'write' ? 'write' : 'read', this.#kind === 'read');
    this.#end(this.status);
  }

  #result: DmaResult | undefined;

  /** Sends it and moves the bytes, out of memory or into it. */
  #request(kind: 'read' | 'write' | 'atomic', isOut: boolean): boolean {
    const result = this.#send(kind);
    const fault = result.faults[0];
    if (fault) {
      this.status = dmaStatus[fault.status];
      this.faultOffset = fault.first;
      return false;
    }
    this.#result = result;
    this.#move(isOut);
    return true;
  }

  #send(kind: 'read' | 'write' | 'atomic'): DmaResult {
    const { transactions, port, memoryRequest: request } = this.#link;
    if (!transactions) {
      // A plain port has no atomics: one needs both permissions, which are asked for one after the other.
      const first = kind === 'write' ? undefined : port!.read(this.usedHi, this.usedLo, this.#length, this.#pasid);
      return first && (kind === 'read' || first.faults.length > 0)
        ? first
        : port!.write(this.usedHi, this.usedLo, this.#length, this.#pasid);
    }
    request.kind = kind;
    request.isTranslated = this.#isTranslated;
    request.hi = this.usedHi;
    request.lo = this.usedLo;
    request.length = this.#length;
    // What ATS translated needs its PASID no more, and may not carry it: the function does not offer Translated Requests
    // with PASID (§10.5.1.2). A forged address goes out with whatever the descriptor says.
    const isPlain = this.#isTranslated && (this.#mode & addressTypeMask) === mode.ATS.value;
    request.pasid = isPlain ? noPasid : this.#pasid;
    request.privileged = !isPlain && this.#isPrivileged;
    request.execute = !isPlain && kind === 'read' && (this.#mode & mode.EXECUTE.value) !== 0;
    return transactions.access(request);
  }

  #move(isOut: boolean): void {
    const { memory } = this.#link.port!;
    const result = this.#result!;
    let at = this.#at;
    for (let i = 0; i < result.count; i++) {
      const start = result.offsets[i]!;
      const bytes = result.lengths[i]!;
      if (isOut) this.#buffer.set(memory.subarray(start, start + bytes), at);
      else memory.set(this.#buffer.subarray(at, at + bytes), start);
      at += bytes;
    }
  }
}

const dmaStatus = {
  'unsupported-request': statuses.UNSUPPORTED_REQUEST.value,
  'completer-abort': statuses.COMPLETER_ABORT.value,
} as const;
export const pageStatus: Readonly<Record<PageOutcome, number>> = {
  success: statuses.SUCCESS.value,
  invalid: statuses.PAGE_INVALID.value,
  failure: statuses.PAGE_FAILURE.value,
  disabled: statuses.NOT_ENABLED.value,
};
