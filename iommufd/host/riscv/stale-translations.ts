/**
 * `--check stale-translations`: every translation that is served from a cache is compared with the table bytes it was
 * made from. Where they changed and the walk would end elsewhere now, software forgot an invalidation (RISC-V IOMMU
 * v1.0.1 §6.3, "Guidelines for invalidations").
 */
import type { Trace } from '#vmm/base/events';
import { bdf, hex, pageBytes } from '#vmm/base/address';
import type { HostMemory } from '#vmm/base/memory';
import { noPasid } from '#vmm/base/ports';
import type { DmaResult } from '#vmm/base/ports';
import type { DeviceMessage } from '#iommufd/arch/riscv/ports';
import { entryWords, type Iotlb, right } from '../iotlb.ts';
import { HostMemoryPort } from '../memory-port.ts';
import { Probe, type TableRead } from './probe.ts';
import { type Change, Shadow } from './table-shadow.ts';
import { isPointer, missingCommand, ruleOf, type StaleCache, type StaleRule } from './stale-rules.ts';
import type { Translation, TranslationRequest } from './translation.ts';
import type { ContextWatch, Translator } from './translator.ts';
import type { TableKind } from './walk-observer.ts';

/** Who stored to a table entry last. */
export interface Writer {
  readonly who: string;
  /** Of the store instruction; undefined where no hart did it. */
  readonly pc: bigint | undefined;
  /** Virtual time, ns. */
  readonly time: number;
}

export interface StaleFinding {
  readonly cache: StaleCache;
  readonly rule: StaleRule;
  readonly rid: number;
  readonly pasid: number;
  readonly iova: bigint;
  /** What was served, and what the tables say now. */
  readonly served: string;
  readonly now: string;
  /** The entry that changed. */
  readonly table: string;
  readonly at: bigint;
  readonly was: bigint;
  readonly is: bigint;
  readonly writer: Writer | undefined;
  readonly missing: string;
}

export interface StaleTranslationsOptions {
  readonly host: HostMemory;
  readonly trace: Trace;
  readonly now?: () => number;
  /** Asks to be told (`stored`) of stores to the page of a host-physical address. */
  readonly watch?: (hpa: number) => void;
  /** What the guest calls a device whose first-stage tables are the guest's own. */
  readonly guestRid?: (rid: number) => number | undefined;
  /**
   * Between a store and the processing of its invalidation either value may be used (§6.3): a known store younger than
   * this is looked at again later. Default 20 µs of virtual time.
   */
  readonly graceNs?: number;
}

interface Cached {
  readonly shadow: Shadow;
  readonly request: TranslationRequest;
  readonly result: Translation;
}
interface Suspicion {
  readonly cache: StaleCache;
  readonly shadow: Shadow;
  readonly changes: readonly Change[];
  readonly request: TranslationRequest;
  readonly served: string;
  readonly now: string;
  readonly isCached: () => boolean;
  readonly result?: Translation;
}
interface Suspect {
  readonly finding: StaleFinding;
  readonly shadow: Shadow;
  readonly due: number;
  /** Still in its cache. */
  readonly isCached: () => boolean;
}

const defaultGraceNs = 20_000;
/** Stores remembered; the oldest are forgotten first. */
const mostWrites = 1 << 16;
const mostFindings = 10_000;
const mostContexts = 1 << 17;
/** Pages remembered of a device's translation cache, and addresses that lead to one. */
const mostTold = 1 << 16;
const mostAliases = 15;
/** Tables that a guest makes itself. */
const guestTables: ReadonlySet<TableKind> = new Set<TableKind>(['PDT', 'PC', 'stage 1', 'MSI']);
const levelled: ReadonlySet<TableKind> = new Set<TableKind>(['DDT', 'PDT', 'stage 1', 'stage 2']);

export class StaleTranslations implements ContextWatch {
  readonly findings: StaleFinding[] = [];
  readonly #options: StaleTranslationsOptions;
  readonly #words: Int32Array;
  readonly #view: DataView;
  readonly #probe: Probe;
  readonly #iotlb: Iotlb;
  readonly #now: () => number;
  /** By entry of the IOTLB. */
  readonly #entries: (Cached | undefined)[] = [];
  readonly #devices = new Map<number, Shadow>();
  readonly #processes = new Map<number, Shadow>();
  /** By host-physical doubleword. */
  readonly #writers = new Map<number, Writer>();
  readonly #watched = new Set<number>();
  /** The latest way to contexts whose pages are watched. */
  #way: Shadow | undefined;
  #suspects: Suspect[] = [];

  constructor(options: StaleTranslationsOptions, translator: Translator, iotlb: Iotlb) {
    this.#options = options;
    this.#words = options.host.i32;
    this.#view = options.host.view;
    this.#now = options.now ?? (() => 0);
    this.#iotlb = iotlb;
    this.#probe = new Probe(translator, new HostMemoryPort(options.host), this.#words);
  }

  // ── What was cached ───────────────────────────────────────────────────────────────────────────────────────────────

  #shadow(reads: readonly TableRead[], way?: Shadow): Shadow {
    for (const { hpa } of reads) this.#watch(Number(hpa));
    if (way && way !== this.#way) {
      for (const { hpa } of way.reads) this.#watch(Number(hpa));
      this.#way = way;
    }
    return new Shadow(this.#words, reads, way);
  }

  #watch(hpa: number): void {
    const page = hpa >>> 12;
    if (this.#watched.has(page)) return;
    this.#watched.add(page);
    this.#options.watch?.(hpa);
  }

  /** The IOTLB has a new entry `at`, made for this request. */
  filled(at: number, request: TranslationRequest): void {
    const { reads, result, way } = this.#probe.translate(request);
    // Where a cached context led elsewhere than memory would, that context is what is told of.
    this.#entries[at / entryWords] = result.ok ? { shadow: this.#shadow(reads, way), request, result } : undefined;
  }

  #contexts(deviceId: number, processId: number): readonly TableRead[] {
    const { reads, way } = this.#probe.translate(anyRequest(deviceId, processId));
    return way ? [...way.reads, ...reads] : reads;
  }

  deviceFilled(deviceId: number): void {
    const reads = this.#contexts(deviceId, noPasid).filter(({ table }) => table === 'DDT' || table === 'DC');
    this.#devices.set(deviceId, this.#shadow(reads));
  }

  processFilled(key: number): void {
    const reads = this.#contexts(Math.floor(key / 2 ** 20), key % 2 ** 20);
    const own = reads.filter(({ table }) => table === 'PDT' || table === 'PC');
    if (this.#processes.size >= mostContexts) this.#processes.clear();
    this.#processes.set(key, this.#shadow(own));
  }

  // ── What was served ───────────────────────────────────────────────────────────────────────────────────────────────

  /** The IOTLB's entry `at` was served for an access to (hi, lo). */
  served(at: number, hi: number, lo: number): void {
    if (this.#suspects.length > 0) this.review();
    const cached = this.#entries[at / entryWords];
    if (!cached || cached.shadow.isReported || cached.shadow.holds(this.#words)) return;
    this.#judge(at, cached, (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0));
  }

  #judge(at: number, cached: Cached, iova: bigint): void {
    const { shadow, result } = cached;
    const request = { ...cached.request, iova };
    const changes = shadow.changed(this.#view);
    const { reads, result: now, way } = this.#probe.translate(request);
    const shift = BigInt(this.#iotlb.shift(at));
    const pa = ((result.pa >> shift) << shift) | (iova & ((1n << shift) - 1n));
    const isMoved = !now.ok || now.pa >> 12n !== pa >> 12n;
    const rights = this.#iotlb.rights(at);
    const isNarrower = now.ok && ((rights & right.read && !now.read) || (rights & right.write && !now.write));
    if (!isMoved && !isNarrower && !changes.some(isPointerMoved)) {
      // Accessed and dirty bits, software's bits, rights that grew, a change of page size: the translation stands.
      // Where the page was split, each of its parts is walked for whenever it is used.
      if (now.shift >= shift)
        this.#entries[at / entryWords] = { shadow: this.#shadow(reads, way), request, result: now };
      return;
    }
    const entry = this.#entries;
    this.#suspect({
      cache: 'IOTLB',
      shadow,
      changes,
      request,
      served: told({ ...result, pa, read: (rights & right.read) !== 0, write: (rights & right.write) !== 0 }),
      now: now.ok ? told(now) : now.cause.name,
      isCached: () => entry[at / entryWords] === cached && this.#iotlb.isValid(at),
      result,
    });
  }

  deviceServed(deviceId: number): void {
    this.#context('device context', this.#devices.get(deviceId), deviceId, noPasid, () => this.#devices.get(deviceId));
  }

  processServed(key: number): void {
    const [deviceId, processId] = [Math.floor(key / 2 ** 20), key % 2 ** 20];
    const find = (): Shadow | undefined => this.#processes.get(key);
    this.#context('process context', find(), deviceId, processId, find);
  }

  /** A port used the contexts that it remembers for a PASID. */
  contextsServed(rid: number, pasid: number): void {
    this.deviceServed(rid);
    if (pasid !== noPasid && this.#processes.has(rid * 2 ** 20 + pasid)) this.processServed(rid * 2 ** 20 + pasid);
  }

  #context(
    cache: StaleCache,
    shadow: Shadow | undefined,
    deviceId: number,
    pasid: number,
    find: () => Shadow | undefined,
  ): void {
    if (this.#suspects.length > 0) this.review();
    if (!shadow || shadow.isReported || shadow.holds(this.#words)) return;
    const changes = shadow.changed(this.#view);
    const request = anyRequest(deviceId, pasid);
    const isCached = (): boolean => find() === shadow;
    this.#suspect({ cache, shadow, changes, request, served: 'the old context', now: 'another', isCached });
  }

  /** A command emptied caches of contexts. */
  contextsDropped(deviceId: number | undefined, processId: number | undefined): void {
    if (deviceId === undefined) {
      this.#devices.clear();
      this.#processes.clear();
    } else if (processId !== undefined) this.#processes.delete(deviceId * 2 ** 20 + processId);
    else {
      this.#devices.delete(deviceId);
      for (const key of this.#processes.keys()) if (Math.floor(key / 2 ** 20) === deviceId) this.#processes.delete(key);
    }
  }

  // ── The guest's own directory, which a vIOMMU keeps as attachments ────────────────────────────────────────────────

  readonly #guest = new Map<number, Shadow>();

  /** The vIOMMU read the guest's context of a device (host requester id) from these entries; undefined: it has none. */
  guestContext(rid: number, reads: readonly TableRead[] | undefined): void {
    if (reads === undefined) this.#guest.delete(rid);
    else this.#guest.set(rid, this.#shadow(reads));
  }

  /** The device is gone; another may come to have its requester id. */
  deviceGone(rid: number): void {
    this.#guest.delete(rid);
    this.#told.delete(rid);
    this.#devices.delete(rid);
  }

  /** A DMA of the device is about to use what the vIOMMU made of its context. */
  deviceUsed(rid: number): void {
    const shadow = this.#guest.get(rid);
    if (shadow) this.#context('vIOMMU context', shadow, rid, noPasid, () => this.#guest.get(rid));
  }

  // ── What devices cache themselves ─────────────────────────────────────────────────────────────────────────────────

  /** By device, then by the page that the device was told. */
  readonly #told = new Map<number, Map<bigint, Cached[]>>();

  /** A device was given the translated address `address` for this ATS request. */
  translated(request: TranslationRequest, address: bigint): void {
    const { reads, result, way } = this.#probe.translate(request);
    if (!result.ok) return;
    let pages = this.#told.get(request.deviceId);
    if (!pages) this.#told.set(request.deviceId, (pages = new Map()));
    const page = address >> 12n;
    const same = pages.get(page);
    const others = same?.filter((one) => !isSamePage(one.request, request)) ?? [];
    if (pages.size >= mostTold && !same) pages.clear();
    pages.set(page, [...others.slice(-mostAliases), { shadow: this.#shadow(reads, way), request, result }]);
  }

  /**
   * A device used a translated address. Which of the pages it was told that address for it means is not known: one whose
   * tables still say so will do.
   */
  translatedServed(rid: number, hi: number, lo: number): void {
    if (this.#suspects.length > 0) this.review();
    const page = ((BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0)) >> 12n;
    const known = this.#told.get(rid)?.get(page);
    if (!known || known.some(({ shadow }) => shadow.isReported || shadow.holds(this.#words))) return;
    const now = known.map(({ request }) => this.#probe.translate(request).result);
    const holds = now.some((one, i) => {
      const { gpa, pa, t2gpa, read, write } = known[i]!.result;
      // Under T2GPA the second stage comes only when the address is used.
      return one.ok && (t2gpa ? one.gpa === gpa : one.pa === pa) && (one.read || !read) && (one.write || !write);
    });
    if (holds) return;
    const { shadow, request, result } = known[0]!;
    const last = now[0]!;
    this.#suspect({
      cache: 'device ATC',
      shadow,
      changes: shadow.changed(this.#view),
      request,
      served: told(result),
      now: last.ok ? told(last) : last.cause.name,
      isCached: () =>
        this.#told
          .get(rid)
          ?.get(page)
          ?.some((one) => one.shadow === shadow) ?? false,
      result,
    });
  }

  /** An ATS Invalidation Request went to a device: until it is completed the device may use what it has. */
  deviceInvalidated({ rid, processId, payload }: DeviceMessage): void {
    const pages = this.#told.get(rid);
    if (!pages) return;
    const { first, last } = atsRange(payload);
    const isGlobal = (payload & 1n) !== 0n;
    for (const [page, known] of pages) {
      const kept = known.filter(({ request: { iova, processIdValid, processId: pasid } }) => {
        const isOf = isGlobal || (processId === undefined ? !processIdValid : processIdValid && pasid === processId);
        return !isOf || iova < first || iova > last;
      });
      if (kept.length === 0) pages.delete(page);
      else pages.set(page, kept);
    }
  }

  // ── Who wrote ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A device was given these segments to write. */
  written(rid: number, { count, offsets, lengths }: DmaResult): void {
    for (let i = 0; i < count; i++) {
      const first = offsets[i]!;
      const end = first + lengths[i]!;
      for (let page = first >>> 12; page * pageBytes < end; page++) {
        if (!this.#watched.has(page)) continue;
        const last = Math.min(end, (page + 1) * pageBytes);
        for (let at = Math.max(first, page * pageBytes) & ~7; at < last; at += 8)
          this.stored(at, `DMA of ${bdf(rid)}`, undefined);
      }
    }
  }

  /** A store to a watched page. */
  stored(hpa: number, who: string, pc: bigint | undefined): void {
    const writers = this.#writers;
    const slot = hpa >>> 3;
    writers.delete(slot);
    writers.set(slot, { who, pc, time: this.#now() });
    if (writers.size > mostWrites)
      for (const oldest of writers.keys()) {
        writers.delete(oldest);
        break;
      }
  }

  // ── Findings ──────────────────────────────────────────────────────────────────────────────────────────────────────

  #suspect(of: Suspicion): void {
    const { cache, shadow, request, result } = of;
    // In the order of the walk: the first explains those behind it.
    const change = of.changes[0];
    if (!change) return;
    const { read, index, was, is } = change;
    const at = read.hpa + BigInt(8 * index);
    const writer = this.#writers.get(Number(at) / 8);
    const rule = ruleOf(cache, read.table, was);
    const isGuests = cache === 'vIOMMU context' || guestTables.has(read.table);
    const finding: StaleFinding = {
      cache,
      rule,
      rid: request.deviceId,
      pasid: request.processIdValid ? request.processId : noPasid,
      iova: request.iova,
      served: of.served,
      now: of.now,
      table: levelled.has(read.table) ? `${read.table} level ${read.level}` : read.table,
      at,
      was,
      is,
      writer,
      missing: missingCommand(rule, {
        gpa: read.gpa,
        request,
        result,
        guestRid: isGuests ? this.#options.guestRid?.(request.deviceId) : undefined,
      }),
    };
    shadow.isReported = true;
    const due = writer ? writer.time + (this.#options.graceNs ?? defaultGraceNs) : 0;
    if (due > this.#now()) this.#suspects.push({ finding, shadow, due, isCached: of.isCached });
    else this.#tell(finding);
  }

  /** Tells of what is still cached after its time; `atEnd` of the run: whatever its time. */
  review(atEnd = false): void {
    const now = this.#now();
    const waiting = this.#suspects;
    this.#suspects = [];
    for (const one of waiting) {
      if (!one.isCached() || one.shadow.holds(this.#words)) one.shadow.isReported = false;
      else if (one.due <= now || atEnd) this.#tell(one.finding);
      else this.#suspects.push(one);
    }
  }

  #tell(finding: StaleFinding): void {
    if (this.findings.length < mostFindings) this.findings.push(finding);
    const { trace } = this.#options;
    if (!trace.on) return;
    const { cache, rid, pasid, iova, served, now, table, at, was, is, writer, missing, rule } = finding;
    trace.emit('check.stale-translation', {
      cache,
      rid,
      pasid,
      iova,
      served,
      now,
      table,
      at,
      was,
      is,
      writer: writer ? writer.who : 'unknown',
      pc: writer?.pc === undefined ? '' : hex(writer.pc),
      written: writer ? writer.time : -1,
      missing,
      rule: rule.spec,
    });
  }
}

const anyRequest = (deviceId: number, pasid: number): TranslationRequest => ({
  deviceId,
  processIdValid: pasid !== noPasid,
  processId: pasid === noPasid ? 0 : pasid,
  supervisor: false,
  execute: false,
  write: false,
  type: 'untranslated',
  noWrite: false,
  iova: 0n,
});

/** A pointer to a table that became a pointer to another: whatever it leads to, caches of pointers must be told. */
const isPointerMoved = ({ read: { table }, was, is }: Change): boolean =>
  levelled.has(table) && isPointer(table, was) && isPointer(table, is) && was >> 10n !== is >> 10n;

const isSamePage = (a: TranslationRequest, b: TranslationRequest): boolean =>
  a.iova >> 12n === b.iova >> 12n && a.processIdValid === b.processIdValid && a.processId === b.processId;

/** Bytes that an invalidation's payload names: with S (bit 11) the first 0 above tells its size (PCI Express Base 6.0 §10.2.3.2). */
const atsRange = (payload: bigint): { readonly first: bigint; readonly last: bigint } => {
  const address = payload & ~0xfffn;
  const ones = payload & 0x800n ? address | 0xfffn : 0x7ffn;
  const size = BigInt.asUintN(64, ones ^ (ones + 1n));
  return { first: address & ~size, last: address | size };
};

const told = ({ pa, read, write, execute }: Translation): string =>
  `${hex(pa)} ${read ? 'r' : '-'}${write ? 'w' : '-'}${execute ? 'x' : '-'}`;
