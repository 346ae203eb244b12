/**
 * A device's address translation cache (PCI Express Base 6.0 §10.1, §10.3): bounded, set-associative, with ranges of any
 * size, and the book-keeping without which an invalidation races with what is in flight.
 *
 * Whoever uses a translation holds a slot from the moment the translation request leaves:
 *   watch ── completion ── fill ── use ── request is done ── release
 * An invalidation that hits a watched page makes the slot stale: the completion on its way must not be used. One that
 * hits a page in use is completed only after the release (§10.3.3).
 */
import { array, field, parts, plainList } from '#vmm/base/saved';
import { type InvalidateRequest, type TranslationCompletion, noPasid } from '#vmm/base/ports';
import { invariant } from '#vmm/base/invariant';
import { type InvalidatedRange, alignHigh, alignLow, decodeRange } from './invalidation.ts';

/** Permissions of an entry, and what an access needs. */
export const permission = { read: 1, write: 2, execute: 4, untranslatedOnly: 8 } as const;

/** PASID and mode as one number: entries of privileged mode are entries of their own (§10.2.3.7). */
export const tagOf = (pasid: number, privileged: boolean): number => (pasid + 1) * 2 + (privileged ? 1 : 0);

/** Permission bits of a completion. */
export const permissionsOf = (c: TranslationCompletion): number =>
  (c.read ? permission.read : 0) |
  (c.write ? permission.write : 0) |
  (c.execute ? permission.execute : 0) |
  (c.untranslatedOnly ? permission.untranslatedOnly : 0);

const ways = 4;
const itags = 32;
const idle = 0;
const watching = 1;
const using = 2;

export class TranslationCache {
  /** Translated address of the latest hit. */
  hitHi = 0;
  hitLo = 0;
  readonly entries: number;
  /** Valid entries. */
  valid = 0;
  readonly #completed: (itag: number) => void;
  readonly #setMask: number;
  // Entries, as parallel arrays; the key is the tag + 1, 0 an empty entry.
  readonly #key: Uint32Array;
  readonly #shift: Uint8Array;
  readonly #rights: Uint8Array;
  readonly #hi: Uint32Array;
  readonly #lo: Uint32Array;
  readonly #toHi: Uint32Array;
  readonly #toLo: Uint32Array;
  /** Next way to replace, by set. */
  readonly #victim: Uint8Array;
  /** Entries of each size, so that a look-up tries only the sizes there are. */
  readonly #ofShift = new Uint32Array(64);
  // Slots.
  readonly #state: Uint8Array;
  readonly #stale: Uint8Array;
  readonly #tainted: Uint8Array;
  readonly #slotTag: Uint32Array;
  readonly #slotHi: Uint32Array;
  readonly #slotLo: Uint32Array;
  /** ITags whose completion waits for the slot, as a bit vector. */
  readonly #waiters: Uint32Array;
  readonly #freeSlots: number[] = [];
  /** Slots that an invalidation still waits for, by ITag. */
  readonly #remaining = new Uint32Array(itags);
  readonly saved = parts({
    key: array(() => this.#key),
    shift: array(() => this.#shift),
    rights: array(() => this.#rights),
    hi: array(() => this.#hi),
    lo: array(() => this.#lo),
    toHi: array(() => this.#toHi),
    toLo: array(() => this.#toLo),
    victim: array(() => this.#victim),
    ofShift: array(() => this.#ofShift),
    state: array(() => this.#state),
    stale: array(() => this.#stale),
    tainted: array(() => this.#tainted),
    slotTag: array(() => this.#slotTag),
    slotHi: array(() => this.#slotHi),
    slotLo: array(() => this.#slotLo),
    waiters: array(() => this.#waiters),
    remaining: array(() => this.#remaining),
    freeSlots: plainList(() => this.#freeSlots),
    hitHi: field(
      () => this.hitHi,
      (value) => (this.hitHi = value),
    ),
    hitLo: field(
      () => this.hitLo,
      (value) => (this.hitLo = value),
    ),
    valid: field(
      () => this.valid,
      (value) => (this.valid = value),
    ),
  });
  readonly #range: InvalidatedRange = { hi: 0, lo: 0, shift: 12, isGlobal: false };

  /**
   * @param entries a power of two, at least 4
   * @param slots translations that can be awaited or in use at once
   * @param completed told the ITag of every invalidation that is complete
   */
  constructor(entries: number, slots: number, completed: (itag: number) => void) {
    invariant(entries >= ways && (entries & (entries - 1)) === 0, `a translation cache of ${entries} entries`);
    this.entries = entries;
    this.#completed = completed;
    this.#setMask = entries / ways - 1;
    this.#key = new Uint32Array(entries);
    this.#shift = new Uint8Array(entries);
    this.#rights = new Uint8Array(entries);
    this.#hi = new Uint32Array(entries);
    this.#lo = new Uint32Array(entries);
    this.#toHi = new Uint32Array(entries);
    this.#toLo = new Uint32Array(entries);
    this.#victim = new Uint8Array(entries / ways);
    this.#state = new Uint8Array(slots);
    this.#stale = new Uint8Array(slots);
    this.#tainted = new Uint8Array(slots);
    this.#slotTag = new Uint32Array(slots);
    this.#slotHi = new Uint32Array(slots);
    this.#slotLo = new Uint32Array(slots);
    this.#waiters = new Uint32Array(slots);
    for (let slot = slots - 1; slot >= 0; slot--) this.#freeSlots.push(slot);
  }

  /** True, and `hitHi`, `hitLo` set, where an entry grants all of `rights`. */
  lookup(tag: number, hi: number, lo: number, rights: number): boolean {
    for (let shift = 12; shift < 64; shift++) {
      if (this.#ofShift[shift] === 0) continue;
      const at = this.#find(tag, alignHigh(hi, shift), alignLow(lo, shift), shift);
      if (at < 0 || (this.#rights[at]! & rights) !== rights) continue;
      const offsetLo = shift >= 32 ? lo : lo - alignLow(lo, shift);
      const offsetHi = hi - alignHigh(hi, shift);
      this.hitHi = (this.#toHi[at]! | offsetHi) >>> 0;
      this.hitLo = (this.#toLo[at]! | offsetLo) >>> 0;
      return true;
    }
    return false;
  }

  /** A translation of the 4 KiB page of hi:lo is about to be asked for or used. Returns the slot. */
  watch(tag: number, hi: number, lo: number): number {
    const slot = this.#freeSlots.pop();
    invariant(slot !== undefined, 'more translations in flight than the cache has slots');
    this.#state[slot] = watching;
    this.#stale[slot] = 0;
    this.#tainted[slot] = 0;
    this.#waiters[slot] = 0;
    this.#slotTag[slot] = tag;
    this.#slotHi[slot] = hi;
    this.#slotLo[slot] = alignLow(lo, 12);
    return slot;
  }

  /** The page was invalidated after `watch`. */
  isStale(slot: number): boolean {
    return this.#stale[slot] === 1;
  }

  /**
   * Keeps a completion for later, unless something of its PASID was invalidated since the request: the range may be
   * larger than the page that was asked for, and what was invalidated may lie in the rest of it.
   */
  fill(slot: number, shift: number, hi: number, lo: number, rights: number): void {
    if (this.#tainted[slot] === 1 || (rights & permission.untranslatedOnly) !== 0 || shift < 12 || shift > 63) return;
    const tag = this.#slotTag[slot]!;
    const pageHi = alignHigh(this.#slotHi[slot]!, shift);
    const pageLo = alignLow(this.#slotLo[slot]!, shift);
    let at = this.#find(tag, pageHi, pageLo, shift);
    if (at < 0) {
      const set = this.#set(tag, pageHi, pageLo, shift);
      at = set * ways;
      while (at < set * ways + ways && this.#key[at] !== 0) at++;
      if (at === set * ways + ways) {
        at = set * ways + this.#victim[set]!;
        this.#victim[set] = (this.#victim[set]! + 1) % ways;
        this.#drop(at);
      }
      this.valid++;
      this.#ofShift[shift]!++;
    }
    this.#key[at] = tag + 1;
    this.#shift[at] = shift;
    this.#rights[at] = rights;
    this.#hi[at] = pageHi;
    this.#lo[at] = pageLo;
    this.#toHi[at] = alignHigh(hi, shift);
    this.#toLo[at] = alignLow(lo, shift);
  }

  /** A request with the translated address leaves: invalidations of its page wait for `release`. */
  use(slot: number): void {
    this.#state[slot] = using;
  }

  release(slot: number): void {
    this.#state[slot] = idle;
    this.#freeSlots.push(slot);
    let waiters = this.#waiters[slot]!;
    this.#waiters[slot] = 0;
    for (let itag = 0; waiters !== 0; itag++, waiters >>>= 1)
      if ((waiters & 1) !== 0 && --this.#remaining[itag]! === 0) this.#completed(itag);
  }

  /** §10.3: drops what the request names; completes it now, or when the last request in flight with it is done. */
  invalidate(request: InvalidateRequest): void {
    const range = decodeRange(request.hi, request.lo, this.#range);
    const itag = request.itag & (itags - 1);
    for (let at = 0; at < this.entries; at++) {
      const key = this.#key[at]!;
      if (key === 0 || !concerns(range, request.pasid, key - 1)) continue;
      const shift = Math.max(range.shift, this.#shift[at]!);
      if (
        alignHigh(this.#hi[at]!, shift) === alignHigh(range.hi, shift) &&
        alignLow(this.#lo[at]!, shift) === alignLow(range.lo, shift)
      )
        this.#drop(at);
    }
    const bit = (1 << itag) >>> 0;
    for (let slot = 0; slot < this.#state.length; slot++) {
      const state = this.#state[slot]!;
      if (state === idle || !concerns(range, request.pasid, this.#slotTag[slot]!)) continue;
      this.#tainted[slot] = 1;
      if (alignHigh(this.#slotHi[slot]!, range.shift) !== range.hi) continue;
      if (alignLow(this.#slotLo[slot]!, range.shift) !== range.lo) continue;
      this.#stale[slot] = 1;
      if (state !== using || (this.#waiters[slot]! & bit) !== 0) continue;
      this.#waiters[slot] = (this.#waiters[slot]! | bit) >>> 0;
      this.#remaining[itag]!++;
    }
    if (this.#remaining[itag] === 0) this.#completed(itag);
  }

  /** Forgets every entry (§10.3.7); completions on their way are stale, requests in flight go on. */
  flush(): void {
    this.#key.fill(0);
    this.#ofShift.fill(0);
    this.valid = 0;
    this.#stale.fill(1);
    this.#tainted.fill(1);
  }

  #drop(at: number): void {
    this.#key[at] = 0;
    this.#ofShift[this.#shift[at]!]!--;
    this.valid--;
  }

  #set(tag: number, hi: number, lo: number, shift: number): number {
    let hash = Math.imul(tag, 0x9e37_79b1) ^ Math.imul(hi, 0x85eb_ca6b) ^ Math.imul(lo >>> 12, 0xc2b2_ae35) ^ shift;
    hash ^= hash >>> 15;
    return (hash ^ (hash >>> 7)) & this.#setMask;
  }

  #find(tag: number, hi: number, lo: number, shift: number): number {
    const first = this.#set(tag, hi, lo, shift) * ways;
    for (let at = first; at < first + ways; at++)
      if (this.#key[at] === tag + 1 && this.#lo[at] === lo && this.#hi[at] === hi && this.#shift[at] === shift)
        return at;
    return -1;
  }
}

/** §10.3.8: a request without PASID concerns translations without; a global one those of every PASID. */
const concerns = ({ isGlobal }: InvalidatedRange, pasid: number, tag: number): boolean => {
  const cached = (tag >>> 1) - 1;
  return cached === pasid || (isGlobal && pasid !== noPasid && cached !== noPasid);
};
