import { hpa } from '#vmm/base/address';
import type { EventKind, EventParts, Trace } from '#vmm/base/events';
import type { HostMemory } from '#vmm/base/memory';
import { type DmaPort, type DmaResult, noPasid } from '#vmm/base/ports';
import { field, parts, type Saved, SavedError } from '#vmm/base/saved';
import type { PerformanceMonitor } from '#iommufd/arch/riscv/hpm';
import { hpmEvent } from '#iommufd/arch/riscv/registers';
import { iohgatpMode, iosatpMode } from '#iommufd/arch/riscv/tables';
import { Segments } from '../bypass-port.ts';
import { processTag, right, spaceTag } from '../iotlb.ts';
import type { DeviceContext } from './contexts.ts';
import { type FastWalk, processBits, type WalkRoots } from './fast-walk.ts';
import type { RiscvIommu } from './iommu.ts';
import { storeMrif } from './mrif.ts';
import { needOf, type TranslationRequest } from './translation.ts';

/**
 * PASIDs a port remembers, by their low bits; as many as the IOTLB has entries, since no more can have hits. It begins
 * with one, as most devices send none.
 */
const remembered = 4096;
/** Words of what is remembered of a PASID while the IOMMU's epoch stands still, and log2 of their number. */
const word = { epoch: 0, pasid: 1, space: 2, process: 3, levels: 4, root: 5 } as const;
const wordsShift = 3;
/** In the place of the first stage's levels: only the plain walk will do. */
const plain = -1;
/** Levels of a stage by its MODE; Bare has none. */
export const levelsOf = (mode: number): number => (mode === 0 ? 0 : mode - 5);

const accessFields = ({ value, a, b, c, d, e, f, g, h }: EventParts) => ({
  rid: value,
  pasid: a,
  iova: join(b, c),
  length: d,
  segments: e,
  hits: f,
  misses: g,
  faults: h,
});
const readEvent: EventKind = { name: 'dma.read', fields: accessFields };
const writeEvent: EventKind = { name: 'dma.write', fields: accessFields };
const messageEvent: EventKind = {
  name: 'dma.message',
  fields: ({ value, a, b, c, d, e }) => ({ rid: value, iova: join(a, b), data: c, hpa: d, faults: e }),
};
const walkEvent: EventKind = {
  name: 'iommu.walk',
  fields: ({ detail, value, a, b, c, d, e, f, g }) => ({
    rid: value,
    pasid: a,
    iova: join(b, c),
    gpa: d,
    hpa: e,
    shift: f,
    references: g,
    path: detail,
  }),
};

/** One device's way to memory through the IOMMU: pages are looked up, walked where needed, and neighbours merged. */
export class RiscvPort implements DmaPort {
  readonly rid: number;
  readonly #iommu: RiscvIommu;
  readonly #host: HostMemory;
  readonly #monitor: PerformanceMonitor;
  readonly #trace: Trace;
  readonly #result = new Segments();
  /** Where RAM that DMA may reach begins and ends. */
  readonly #first: number;
  readonly #end: number;
  #spaces = new Int32Array(1 << wordsShift).fill(-1);
  /** Of `#spaces`: entries less one. No PASID is -1, and lies at 0. */
  #last = 0;
  /** The device's own part, and the epoch for which it holds. */
  #roots: WalkRoots | undefined;
  #rootsEpoch = -1;
  /** Answer of #space where it returned -1: nothing is translated, addresses are physical. */
  #isPhysical = false;
  /** DMA of this device so far. */
  readonly counters = { reads: 0, writes: 0, messages: 0, bytesRead: 0, bytesWritten: 0, faults: 0 };
  readonly saved: Saved = parts({
    counters: field(
      () => this.counters,
      (value) => void Object.assign(this.counters, value),
    ),
    spaces: field(
      () => this.#spaces,
      (value) => this.#restoreSpaces(value),
    ),
    roots: field(
      () => this.#roots,
      (value) => (this.#roots = value),
    ),
    rootsEpoch: field(
      () => this.#rootsEpoch,
      (value) => (this.#rootsEpoch = value),
    ),
  });
  // Answer of #miss.
  #address = 0;
  #mask = 0;
  #mrif: { readonly address: bigint; readonly nid: number } | undefined;
  /** The page before this one in the same request faulted for this cause: one record stands for both (§3.2). */
  #lastCause = 0;

  constructor(iommu: RiscvIommu, host: HostMemory, rid: number) {
    this.#iommu = iommu;
    this.#host = host;
    this.#monitor = iommu.frontEnd.monitor;
    this.#trace = iommu.trace;
    this.#first = host.poolBase;
    this.#end = host.end;
    this.rid = rid;
    iommu.attach(this);
  }

  /** A context of this device and process may no longer hold. Process 0 serves requests without PASID too (DC.tc.DPE). */
  forget(processId: number): void {
    const spaces = this.#spaces;
    const at = ((processId + 1) & this.#last) << wordsShift;
    if (spaces[at + word.pasid] === processId) spaces[at] = -1;
    if (processId === 0) spaces[0] = -1;
  }

  #restoreSpaces(spaces: Int32Array): void {
    const entries = spaces.length >>> wordsShift;
    if (entries !== 1 && entries !== remembered)
      throw new SavedError(`expected what is remembered of 1 or ${remembered} PASIDs, found ${spaces.length} words`);
    this.#spaces = Int32Array.from(spaces);
    this.#last = entries - 1;
  }

  get memory(): Uint8Array {
    return this.#host.bytes;
  }

  read(hi: number, lo: number, length: number, pasid: number = noPasid): DmaResult {
    this.counters.reads++;
    this.counters.bytesRead += length;
    return this.#hit(hi, lo, length, pasid, 1) ? this.#result : this.#access(hi, lo, length, pasid, right.read);
  }

  write(hi: number, lo: number, length: number, pasid: number = noPasid): DmaResult {
    this.counters.writes++;
    this.counters.bytesWritten += length;
    return this.#hit(hi, lo, length, pasid, 2) ? this.#result : this.#access(hi, lo, length, pasid, right.write);
  }

  /** Where the cached translation of an address without PASID leads; looks, and changes nothing. */
  peek(iova: bigint): { readonly gpa: number; readonly hpa: number } | undefined {
    const spaces = this.#spaces;
    if (spaces[0] !== this.#iommu.epoch || spaces[word.pasid] !== noPasid) return undefined;
    const { iotlb } = this.#iommu;
    const lo = Number(iova & 0xffff_ffffn) | 0;
    const at = iotlb.lookup(spaces[word.space]!, spaces[word.process]!, Number(iova >> 32n) | 0, lo);
    if (at < 0) return undefined;
    return { gpa: iotlb.guestPage(at) * 4096 + (lo & iotlb.offsetMask(at)), hpa: iotlb.address(at, lo) };
  }

  message(hi: number, lo: number, data: number): boolean {
    const iommu = this.#iommu;
    this.counters.messages++;
    this.#mrif = undefined;
    this.#lastCause = 0;
    const found = this.#locate(hi, lo, noPasid, right.write);
    let done = false;
    if (found) {
      const mrif = this.#mrif as { readonly address: bigint; readonly nid: number } | undefined;
      if (mrif) done = storeMrif(iommu, this.#request(hi, lo, noPasid, right.write), mrif, this.#address, data);
      else done = this.#host.store(hpa(this.#address), 4, data >>> 0);
    }
    if (!done) this.counters.faults++;
    if (iommu.trace.on)
      iommu.trace.tell(messageEvent, '', '', this.rid, hi, lo, data >>> 0, found ? this.#address : 0, done ? 0 : 1);
    return done;
  }

  /** The common case: one page, which the IOTLB holds, and nobody counts. False: #access must look. */
  #hit(hi: number, lo: number, length: number, pasid: number, need: number): boolean {
    const iommu = this.#iommu;
    const spaces = this.#spaces;
    // Numbers, as in Iotlb.hit: of `word`, and of `right` where this is called.
    const at = ((pasid + 1) & this.#last) << 3;
    if (spaces[at] !== iommu.epoch || spaces[at + 1] !== pasid || this.#monitor.active) return false;
    if (iommu.check !== undefined) return false;
    const address = iommu.iotlb.hit(spaces[at + 2]!, spaces[at + 3]!, hi | 0, lo | 0, need, length);
    if (address < this.#first || address + length > this.#end) return false;
    iommu.statistics.hits++;
    this.#result.set(address, length);
    if (this.#trace.on)
      this.#trace.tell(need === right.read ? readEvent : writeEvent, '', '', this.rid, pasid, hi, lo, length, 1, 1); // prettier-ignore
    return true;
  }

  #access(hi: number, lo: number, length: number, pasid: number, need: number): DmaResult {
    const iommu = this.#iommu;
    const { iotlb, statistics } = iommu;
    const result = this.#result;
    result.clear();
    const space = this.#space(pasid);
    const tag = space < 0 ? 0 : this.#spaces[space + word.space]!;
    const process = space < 0 ? 0 : this.#spaces[space + word.process]!;
    const hitsBefore = statistics.hits;
    const missesBefore = statistics.misses;
    let high = hi | 0;
    let low = lo | 0;
    let done = 0;
    this.#lastCause = 0;
    do {
      let address: number;
      let mask: number;
      let found = true;
      const at = space < 0 ? -1 : iotlb.lookup(tag, process, high, low);
      if (at >= 0 && iotlb.rights(at) & need) {
        statistics.hits++;
        iommu.check?.served(at, high, low);
        this.#lastCause = 0;
        if (this.#monitor.active) this.#count(pasid);
        mask = iotlb.offsetMask(at);
        address = iotlb.address(at, low);
      } else {
        found = this.#miss(space, high, low, pasid, need);
        address = this.#address;
        mask = this.#mask;
      }
      const room = mask + 1 - (low & mask);
      const chunk = room < length - done ? room : length - done;
      if (!found) result.fault(done, done + chunk - 1, 'unsupported-request');
      else if (address >= this.#first && address + chunk <= this.#end) result.add(address, chunk);
      else result.fault(done, done + chunk - 1, 'completer-abort');
      done += chunk;
      const next = (low >>> 0) + chunk;
      if (next >= 2 ** 32) high = (high + 1) | 0;
      low = next | 0;
    } while (done < length);
    if (result.faults.length > 0) this.counters.faults++;
    if (need === right.write) iommu.check?.written(this.rid, result);
    if (iommu.trace.on)
      iommu.trace.tell(
        need === right.read ? readEvent : writeEvent, '', '', this.rid, pasid, hi, lo, length, result.count,
        statistics.hits - hitsBefore, statistics.misses - missesBefore, result.faults.length,
      ); // prettier-ignore
    return result;
  }

  /** HPM event 1 of a page that the IOTLB held; the plain walk, which alone runs while anybody counts, tells the rest. */
  #count(pasid: number): void {
    this.#monitor.count(hpmEvent.untranslated, { deviceId: this.rid, processId: pasid, gscid: -1, pscid: -1 });
  }

  #locate(hi: number, lo: number, pasid: number, need: number): boolean {
    const { iotlb, statistics, check } = this.#iommu;
    const space = this.#space(pasid);
    const spaces = this.#spaces;
    const at =
      space < 0 ? -1 : iotlb.lookup(spaces[space + word.space]!, spaces[space + word.process]!, hi | 0, lo | 0);
    if (at >= 0 && iotlb.rights(at) & need) {
      statistics.hits++;
      check?.served(at, hi | 0, lo | 0);
      this.#mask = iotlb.offsetMask(at);
      this.#address = iotlb.address(at, lo);
      return true;
    }
    return this.#miss(space, hi | 0, lo | 0, pasid, need);
  }

  /**
   * A translation request for user's rights, where it is simple (§2.6): the answer is in `fast`, which says `isAbsent`
   * where there is nothing. Undefined: not so simple.
   */
  protected fastTranslation(hi: number, lo: number, pasid: number, write: boolean): FastWalk | undefined {
    const iommu = this.#iommu;
    const { fast } = iommu;
    if (!fast || iommu.trace.on || this.#monitor.active) return undefined;
    const space = this.#space(pasid);
    const roots = this.#roots;
    if (space < 0 || !roots?.enAts || roots.msi) return undefined;
    const levels = this.#spaces[space + word.levels]!;
    // Where a stage is Bare the plain answer is larger than any page.
    if (levels <= 0) return undefined;
    const found = fast.walk(roots, levels, this.#spaces[space + word.root]!, hi, lo, write);
    return found || fast.isAbsent ? fast : undefined;
  }

  /** True where the device is given guest-physical addresses. Behind `fastTranslation`. */
  protected get isTranslatedToGuest(): boolean {
    return this.#roots?.t2gpa === true;
  }

  /** Where in #spaces it stands how a PASID's requests are translated; -1 where they pass untranslated, or fault. */
  #space(pasid: number): number {
    const iommu = this.#iommu;
    const { check } = iommu;
    if (pasid !== noPasid && this.#last === 0) {
      const had = this.#spaces;
      this.#last = remembered - 1;
      this.#spaces = new Int32Array(remembered << wordsShift).fill(-1);
      this.#spaces.set(had);
    }
    const spaces = this.#spaces;
    const at = ((pasid + 1) & this.#last) << wordsShift;
    check?.deviceUsed(this.rid);
    if (spaces[at] === iommu.epoch && spaces[at + word.pasid] === pasid) {
      check?.contextsServed(this.rid, pasid);
      return at;
    }
    spaces[at] = -1;
    spaces[at + word.pasid] = pasid;
    if (this.#process(at, pasid)) return at;
    const request = this.#request(0, 0, pasid, right.read);
    const entered = iommu.translator.enter(request, needOf(request));
    this.#isPhysical = 'ok' in entered && entered.ok;
    if ('ok' in entered) return -1;
    this.#roots = iommu.fast && !iommu.translator.bigEndian ? rootsOf(entered.dc) : undefined;
    this.#rootsEpoch = iommu.epoch;
    this.#remember(at, entered.gscid, entered.pscid, entered.mode, Number(entered.ppn));
    return at;
  }

  /** A process of a device that is known already: its context is read from the cache, or fast. False: not so simple. */
  #process(at: number, pasid: number): boolean {
    const iommu = this.#iommu;
    const { fast, translator } = iommu;
    const roots = this.#roots;
    if (pasid === noPasid || !roots || !fast || this.#rootsEpoch !== iommu.epoch || iommu.isWatched) return false;
    const { processContexts } = translator;
    let entry = processContexts.lookup(this.rid, pasid);
    if (entry < 0) {
      if (!fast.process(roots, pasid)) return false;
      entry = processContexts.put(this.rid, pasid, fast.pscid, fast.mode, fast.root, fast.ens, fast.sum);
    } else if (roots.directoryLevels === 0 || pasid >>> processBits[roots.directoryLevels]! !== 0) return false;
    const mode = processContexts.mode(entry);
    const pscid = mode === iosatpMode.Bare ? -1 : processContexts.pscid(entry);
    this.#remember(at, roots.gscid, pscid, mode, processContexts.ppn(entry));
    return true;
  }

  #remember(at: number, gscid: number, pscid: number, mode: number, ppn: number): void {
    const spaces = this.#spaces;
    spaces[at + word.space] = spaceTag(gscid, false, false);
    spaces[at + word.process] = processTag(pscid);
    spaces[at + word.levels] = this.#roots === undefined || ppn >= 2 ** 31 ? plain : levelsOf(mode);
    spaces[at + word.root] = ppn | 0;
    spaces[at] = this.#iommu.epoch;
  }

  #request(hi: number, lo: number, pasid: number, need: number): TranslationRequest {
    return {
      deviceId: this.rid,
      processIdValid: pasid !== noPasid,
      processId: pasid === noPasid ? 0 : pasid,
      supervisor: false,
      execute: false,
      write: need === right.write,
      type: 'untranslated',
      noWrite: false,
      iova: join(hi, lo),
    };
  }

  /** A page the IOTLB does not have: walks, keeps the result, and sets #address and #mask. False when it faulted. */
  #miss(space: number, hi: number, lo: number, pasid: number, need: number): boolean {
    const iommu = this.#iommu;
    const { statistics, iotlb, fast, translator } = iommu;
    this.#mask = 4095;
    const write = need === right.write;
    const spaces = this.#spaces;
    const isCurrent = space >= 0;
    if (!isCurrent && this.#isPhysical) {
      statistics.passed++;
      this.#address = (hi >>> 0) * 2 ** 32 + (lo >>> 0);
      return true;
    }
    statistics.misses++;
    const before = iommu.trace.on ? iommu.memoryReferences : 0;
    let shift: number;
    let guest: number;
    const tag = isCurrent ? spaces[space + word.space]! : 0;
    const process = isCurrent ? spaces[space + word.process]! : 0;
    const levels = isCurrent ? spaces[space + word.levels]! : plain;
    const roots = this.#roots;
    if (
      levels !== plain &&
      roots !== undefined &&
      !this.#monitor.active &&
      fast!.walk(roots, levels, spaces[space + word.root]!, hi, lo, write)
    ) {
      statistics.fastWalks++;
      ({ shift, guestPpn: guest } = fast!);
      const at = iotlb.insert(tag, process, hi, lo, shift, fast!.ppn, guest, fast!.rights, fast!.global);
      iommu.check?.filled(at, this.#request(hi, lo, pasid, need));
      this.#address = fast!.ppn * 4096 + (lo & 4095);
    } else {
      statistics.plainWalks++;
      const request = this.#request(hi, lo, pasid, need);
      const found = translator.translate(request);
      if (!found.ok) {
        if (found.cause.cause !== this.#lastCause) iommu.report(request, found);
        this.#lastCause = found.cause.cause;
        return false;
      }
      ({ shift } = found);
      guest = Number(found.gpa >> 12n);
      this.#mrif = found.mrif;
      this.#address = Number(found.pa);
      if (isCurrent && !found.mrif) {
        const rights = (found.read ? right.read : 0) | (found.write ? right.write : 0) | (found.execute ? right.execute : 0); // prettier-ignore
        const ppn = Number(found.pa >> 12n);
        const at = iotlb.insert(tag, process, hi, lo, shift, ppn, guest, rights, found.global);
        iommu.check?.filled(at, request);
      }
    }
    this.#lastCause = 0;
    if (iommu.trace.on)
      iommu.trace.tell(
        walkEvent, '', levels !== plain ? 'two-stage' : 'plain', this.rid, pasid, hi, lo, guest * 4096, this.#address,
        shift, iommu.memoryReferences - before,
      ); // prettier-ignore
    return true;
  }
}

const join = (hi: number, lo: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);

/** What the fast walk needs of a device context, or undefined where only the plain walk will do. */
export const rootsOf = (dc: DeviceContext): WalkRoots | undefined => {
  const largest = 1n << 31n;
  if (dc.sbe || dc.iohgatpPpn >= largest) return undefined;
  const msi = dc.msiptpMode !== 0;
  const low = largest - 1n;
  return {
    directoryLevels: dc.pdtv && dc.fscPpn < largest ? dc.fscMode : 0,
    directoryRoot: Number(dc.fscPpn & low),
    enAts: dc.enAts,
    t2gpa: dc.t2gpa,
    gscid: dc.iohgatpMode === iohgatpMode.Bare ? -1 : dc.gscid,
    secondLevels: levelsOf(dc.iohgatpMode),
    secondRoot: dc.iohgatpMode === iohgatpMode.Bare ? 0 : Number(dc.iohgatpPpn),
    msi,
    msiMaskLo: Number(dc.msiMask & low),
    msiPatternLo: Number(dc.msiPattern & low),
    msiLow: (dc.msiPattern & ~dc.msiMask & ~low) === 0n,
  };
};
