import { field, part, parts, properties } from '#vmm/base/saved';
import { type Cause, causes } from '#iommufd/arch/riscv/faults';
import { access, type MemoryPort } from '#iommufd/arch/riscv/ports';
import { type Capabilities, ddtpMode, hpmEvent } from '#iommufd/arch/riscv/registers';
import {
  ddi,
  deviceContextBytes,
  deviceIdBits,
  iohgatpMode,
  iosatpMode,
  msipteBasic,
  msipteMode,
  msipteMrif,
  msipteNotice,
  pdi,
  pdtpMode,
  processContextBytes,
} from '#iommufd/arch/riscv/tables';
import type { Requester } from '#iommufd/arch/riscv/hpm';
import { attribute, type PageTableFormat } from '../../pagetable/format.ts';
import { sv39, sv39x4, sv48, sv48x4, sv57, sv57x4 } from '../../pagetable/formats/riscv.ts';
import { walk, type WalkResult } from '../../pagetable/walk.ts';
import {
  type ContextRules,
  decodeDeviceContext,
  decodeProcessContext,
  type DeviceContext,
  guestAddressBits,
  isEntryMisconfigured,
  type ProcessContext,
} from './contexts.ts';
import { ContextCache } from './context-cache.ts';
import { ProcessContextCache } from './process-context-cache.ts';
import {
  accessFault,
  guestPageFault,
  type Need,
  needOf,
  pageFault,
  type Translation,
  type TranslationFault,
  type TranslationRequest,
} from './translation.ts';
import type { WalkObserver } from './walk-observer.ts';
import { WalkMemory } from './walk-memory.ts';

/** Where one stage leads. */
interface Mapped {
  readonly address: bigint;
  readonly shift: number;
  readonly attributes: number;
  readonly memoryType: number;
  readonly global: boolean;
}
/** Which tables translate for a requester (§2.3 step 17). */
export interface AddressSpace {
  readonly dc: DeviceContext;
  /** -1 where the stage is Bare. */
  readonly gscid: number;
  readonly pscid: number;
  /** iosatp.MODE and root page of the first stage. */
  readonly mode: number;
  readonly ppn: bigint;
  readonly sum: boolean;
  readonly supervisor: boolean;
}
/** Who watches the context caches; a process is `deviceId * 2^20 + processId`. */
export interface ContextWatch {
  deviceFilled(deviceId: number): void;
  deviceServed(deviceId: number): void;
  processFilled(key: number): void;
  processServed(key: number): void;
}
/** Why the second stage gave nothing; the caller knows which cause that is. */
type Missed = 'page' | 'access' | 'corrupt';

const pageOffset = 0xfffn;
/** A NAPOT page is translated 4 KiB at a time, as a smaller range than the tables' is always allowed (§5.26 note). */
const napotShift = 16;
const reportedShift = (shift: number): number => (shift === napotShift ? 12 : shift);
const everything = 0xff;
/** A Bare stage translates any address to itself. */
const bareShift = 57;
const bare = (address: bigint): Mapped => ({
  address,
  shift: bareShift,
  attributes: everything & ~attribute.global,
  memoryType: 0,
  global: false,
});
const V = 1n;
const A = 1n << 6n;
const D = 1n << 7n;
/** Re-walks after an entry changed under an update; A and D only ever get set, so a few always suffice. */
const updateTries = 8;

export interface TranslatorOptions {
  readonly memory: MemoryPort;
  readonly features: Capabilities;
  readonly qosMask?: { readonly RCID: number; readonly MCID: number };
  /** Entries of the device- and process-context caches, the latter a power of two. */
  readonly deviceContexts?: number;
  readonly processContexts?: number;
}

/**
 * The process to translate an IOVA, step by step as the specification has it (RISC-V IOMMU v1.0.1 §2.3): complete and
 * plain. The fast path (fast-walk.ts) is fenced against it by a property test.
 */
export class Translator {
  readonly memory: WalkMemory;
  readonly features: Capabilities;
  readonly qosMask: { readonly RCID: number; readonly MCID: number };
  readonly #firstStage: ReadonlyMap<number, PageTableFormat>;
  readonly #secondStage: ReadonlyMap<number, PageTableFormat>;
  /** ddtp.iommu_mode and root page, fctl.BE; the owner keeps them current. */
  mode: number = ddtpMode.Off;
  rootPpn = 0n;
  bigEndian = false;
  readonly deviceContexts: ContextCache<DeviceContext>;
  readonly processContexts: ProcessContextCache;
  /** Page-table walks of either stage. */
  walks = 0;
  /** Performance events (§5.23), when somebody counts. */
  onEvent: ((event: number, who: Requester) => void) | undefined;
  /** Sees every table entry that is read, and why a walk ended; undefined while nobody asks. */
  observer: WalkObserver | undefined;
  /** Told when a context was cached, and when one was served from a cache. */
  contexts: ContextWatch | undefined;
  #who: Requester = { deviceId: 0, processId: -1, gscid: -1, pscid: -1 };
  readonly saved = parts({
    directory: properties(() => this as Translator, ['mode', 'rootPpn', 'bigEndian', 'walks']),
    // A page request's look-up of its context counts for whoever was looked up last.
    who: field(
      () => ({ ...this.#who }),
      (who) => (this.#who = who),
    ),
    memory: part(() => this.memory),
    deviceContexts: part(() => this.deviceContexts),
    processContexts: part(() => this.processContexts),
  });

  constructor(options: TranslatorOptions) {
    this.features = options.features;
    this.memory = new WalkMemory(options.memory, options.features.PAS);
    this.qosMask = options.qosMask ?? { RCID: 0, MCID: 0 };
    const paging = { svpbmt: this.features.Svpbmt === 1, svrsw60t59b: this.features.Svrsw60t59b === 1 };
    this.#firstStage = new Map([
      [iosatpMode.Sv39, sv39(paging)],
      [iosatpMode.Sv48, sv48(paging)],
      [iosatpMode.Sv57, sv57(paging)],
    ]);
    this.#secondStage = new Map([
      [iohgatpMode.Sv39x4, sv39x4(paging)],
      [iohgatpMode.Sv48x4, sv48x4(paging)],
      [iohgatpMode.Sv57x4, sv57x4(paging)],
    ]);
    this.deviceContexts = new ContextCache(options.deviceContexts ?? 64);
    this.processContexts = new ProcessContextCache(options.processContexts ?? 256);
  }

  #event(event: number): void {
    this.onEvent?.(event, this.#who);
  }

  get #extended(): boolean {
    return this.features.MSI_FLAT === 1;
  }

  /**
   * Steps 1 to 16: which tables translate a request of this requester. A translation where there are none to walk, a
   * fault where the request may not be.
   */
  enter(request: TranslationRequest, need: Need): AddressSpace | Translation | TranslationFault {
    const { deviceId, iova, type, processIdValid } = request;
    this.#who = { deviceId, processId: processIdValid ? request.processId : -1, gscid: -1, pscid: -1 };
    const fail = (cause: Cause, dtf = false): TranslationFault => ({ ok: false, cause, iotval2: 0n, dtf });
    // Step 1.
    if (this.mode === ddtpMode.Off) return fail(causes.allInboundDisallowed);
    // Step 2.
    if (this.mode === ddtpMode.Bare)
      return type === 'untranslated' ? through(iova) : fail(causes.transactionDisallowed);
    // Steps 3 to 6.
    const dc = this.locateDevice(deviceId);
    if (!('dtf' in dc)) return fail(dc);
    const { dtf } = dc;
    // Step 7.
    if (type !== 'untranslated' && !dc.enAts) return fail(causes.transactionDisallowed, dtf);
    if (processIdValid && !dc.pdtv) return fail(causes.transactionDisallowed, dtf);
    if (processIdValid && isTooWide(request.processId, dc.fscMode)) return fail(causes.transactionDisallowed, dtf);
    // Step 8.
    if (type === 'translated' && !dc.t2gpa) return through(iova);
    // Steps 9 to 16: which first stage.
    const gscid = dc.iohgatpMode === iohgatpMode.Bare ? -1 : dc.gscid;
    const none = { dc, gscid, pscid: -1, mode: iosatpMode.Bare, ppn: 0n, sum: false, supervisor: false } as const;
    if (type === 'translated') return none;
    const supervisor = processIdValid && request.supervisor;
    if (!dc.pdtv) {
      const pscid = dc.fscMode === iosatpMode.Bare ? -1 : dc.pscid;
      return { ...none, mode: dc.fscMode, ppn: dc.fscPpn, pscid };
    }
    if ((!processIdValid && !dc.dpe) || dc.fscMode === pdtpMode.Bare) return { ...none, supervisor };
    // Steps 11, 14 and 15: the default process is 0, and it is no supervisor.
    const pc = this.#locateProcess(dc, deviceId, processIdValid ? request.processId : 0, need);
    if (!('ens' in pc)) return { ...pc, dtf };
    if (supervisor && !pc.ens) return fail(causes.transactionDisallowed, dtf);
    const pscid = pc.mode === iosatpMode.Bare ? -1 : pc.pscid;
    return { dc, gscid, pscid, mode: pc.mode, ppn: pc.ppn, sum: pc.sum, supervisor };
  }

  translate(request: TranslationRequest): Translation | TranslationFault {
    const { deviceId, iova, type } = request;
    const need = needOf(request);
    this.#who = { deviceId, processId: request.processIdValid ? request.processId : -1, gscid: -1, pscid: -1 };
    this.#event(hpmEvent[type === 'ats' ? 'atsTranslation' : type]);
    const entered = this.enter(request, need);
    if ('ok' in entered) return entered;
    const { dc, gscid, pscid, mode, ppn, sum, supervisor } = entered;
    const { dtf } = dc;
    const fail = (cause: Cause): TranslationFault => ({ ok: false, cause, iotval2: 0n, dtf });
    this.#who = { ...this.#who, gscid, pscid };
    this.#event(hpmEvent.tlbMiss);
    // Step 17.
    const first = this.#translateFirst(dc, mode, ppn, iova, need, supervisor, sum);
    if ('cause' in first) return { ...first, dtf };
    // Steps 18 and 19.
    const gpa = first.address;
    const msi = this.#translateMsi(dc, gpa, need);
    if (msi && 'cause' in msi) return fail(msi.cause);
    let second: Mapped;
    if (msi) second = msi.mapped;
    else {
      const translated = this.#translateSecond(dc, gpa, need);
      if (typeof translated === 'string') {
        const { cause, iotval2 } = this.#secondStageFault(translated, need, gpa & ~3n);
        return { ok: false, cause, iotval2, dtf };
      }
      second = { ...translated, shift: this.#beforeInterruptFiles(dc, gpa, translated.shift) };
    }
    // Step 20.
    const rights = first.attributes & second.attributes;
    return {
      ok: true,
      pa: second.address,
      shift: Math.min(first.shift, second.shift),
      pbmt: first.memoryType !== 0 ? first.memoryType : second.memoryType,
      read: (rights & attribute.read) !== 0,
      write: (rights & attribute.write) !== 0 && (rights & attribute.dirty) !== 0,
      execute: (rights & attribute.execute) !== 0 && (rights & attribute.read) !== 0,
      global: first.global,
      isMsi: msi !== undefined,
      mrif: msi?.mrif,
      gpa,
      gscid,
      pscid,
      t2gpa: dc.t2gpa,
      dtf,
    };
  }

  /** §2.3.1, with the width check of step 5. A cause instead of a context is why there is none. */
  locateDevice(deviceId: number): DeviceContext | Cause {
    const levels = (this.mode - ddtpMode.Bare) as 1 | 2 | 3;
    const extended = this.#extended;
    if (deviceId >>> deviceIdBits(levels, extended) !== 0) return causes.transactionDisallowed;
    const cached = this.deviceContexts.get(deviceId);
    if (cached) {
      this.contexts?.deviceServed(deviceId);
      return cached;
    }
    let a = this.rootPpn << 12n;
    for (let i = levels - 1; i > 0; i--) {
      this.#event(hpmEvent.ddtWalk);
      a += BigInt(ddi(deviceId, i as 1 | 2, extended)) * 8n;
      const ddte = this.memory.load64(a, this.bigEndian);
      this.observer?.read('DDT', i, undefined, a, ddte === undefined ? undefined : [ddte]);
      if (ddte === undefined) return this.#directoryFault(causes.ddtAccessFault, causes.ddtCorruption);
      if (!(ddte & V)) return causes.ddtInvalid;
      if (isEntryMisconfigured(ddte)) return causes.ddtMisconfigured;
      a = (ddte >> 10n) << 12n;
    }
    this.#event(hpmEvent.ddtWalk);
    const bytes = deviceContextBytes(extended);
    a += BigInt(ddi(deviceId, 0, extended) * bytes);
    const words = this.memory.load(a, bytes / 8, this.bigEndian);
    this.observer?.read('DC', 0, undefined, a, words);
    if (!words) return this.#directoryFault(causes.ddtAccessFault, causes.ddtCorruption);
    if (!(words[0]! & V)) return causes.ddtInvalid;
    const dc = this.#decodeDevice(words);
    if (!dc) return causes.ddtMisconfigured;
    this.deviceContexts.put(deviceId, deviceId, dc);
    this.contexts?.deviceFilled(deviceId);
    return dc;
  }

  /** What was decoded last: whoever caches nothing reads the same context again and again. */
  #decoded: { readonly words: readonly bigint[]; readonly bigEndian: boolean; readonly dc: DeviceContext } | undefined;

  #decodeDevice(words: readonly bigint[]): DeviceContext | undefined {
    const last = this.#decoded;
    if (last && last.bigEndian === this.bigEndian && words.every((word, i) => word === last.words[i])) return last.dc;
    const dc = decodeDeviceContext(words, this.#rules);
    if (dc) this.#decoded = { words, bigEndian: this.bigEndian, dc };
    return dc;
  }

  get #rules(): ContextRules {
    const { features, bigEndian } = this;
    return { features, bigEndian, sbeFree: features.END === 1, qosMask: this.qosMask };
  }

  #directoryFault(fault: Cause, corrupt: Cause): Cause {
    return this.memory.result === access.corrupt ? corrupt : fault;
  }

  /** §2.3.2. */
  #locateProcess(
    dc: DeviceContext,
    deviceId: number,
    processId: number,
    need: Need,
  ): ProcessContext | { ok: false; cause: Cause; iotval2: bigint } {
    const key = deviceId * 2 ** 20 + processId;
    const cached = this.processContexts.get(deviceId, processId);
    if (cached) {
      this.contexts?.processServed(key);
      return cached;
    }
    const fail = (cause: Cause): { ok: false; cause: Cause; iotval2: bigint } => ({ ok: false, cause, iotval2: 0n });
    let a = dc.fscPpn << 12n;
    for (let i = dc.fscMode - 1; ; i--) {
      a += BigInt(pdi(processId, i as 0 | 1 | 2) * (i === 0 ? processContextBytes : 8));
      const gpa = a;
      // An implicit read by the second stage; its page faults carry the original access type.
      const spa = this.#translateSecond(dc, gpa, implicitRead);
      if (spa === 'page') return { ok: false, cause: guestPageFault(need), iotval2: (gpa & ~3n) | 1n };
      if (typeof spa === 'string') return fail(spa === 'corrupt' ? causes.pdtCorruption : causes.pdtAccessFault);
      a = spa.address;
      this.#event(hpmEvent.pdtWalk);
      const words = this.memory.load(a, i === 0 ? 2 : 1, dc.sbe);
      this.observer?.read(i === 0 ? 'PC' : 'PDT', i, gpa, a, words);
      if (!words) return fail(this.#directoryFault(causes.pdtAccessFault, causes.pdtCorruption));
      if (!(words[0]! & V)) return fail(causes.pdtInvalid);
      if (i === 0) {
        const pc = decodeProcessContext(words, this.features);
        if (!pc) return fail(causes.pdtMisconfigured);
        this.processContexts.put(deviceId, processId, pc.pscid, pc.mode, Number(pc.ppn), pc.ens, pc.sum);
        this.contexts?.processFilled(key);
        return pc;
      }
      if (isEntryMisconfigured(words[0]!)) return fail(causes.pdtMisconfigured);
      a = (words[0]! >> 10n) << 12n;
    }
  }

  #secondStageFault(why: Missed, need: Need, iotval2: bigint): { cause: Cause; iotval2: bigint } {
    if (why === 'page') return { cause: guestPageFault(need), iotval2 };
    return { cause: why === 'corrupt' ? causes.ptCorruption : accessFault(need), iotval2: 0n };
  }

  /** First stage of "Two-Stage Address Translation" (privileged specification); its entries are guest addresses. */
  #translateFirst(
    dc: DeviceContext,
    mode: number,
    ppn: bigint,
    iova: bigint,
    need: Need,
    supervisor: boolean,
    sum: boolean,
  ): Mapped | { ok: false; cause: Cause; iotval2: bigint } {
    const format = this.#firstStage.get(mode);
    if (!format) return bare(iova);
    const fault = { ok: false, cause: pageFault(need), iotval2: 0n } as const;
    for (let tries = 0; tries < updateTries; tries++) {
      let stopped: { cause: Cause; iotval2: bigint } = fault;
      let entryPa = 0n;
      this.walks++;
      const leaf = walk(format, ppn << 12n, iova, (at, level) => {
        const spa = this.#translateSecond(dc, at, implicitRead);
        if (typeof spa === 'string') {
          stopped = this.#secondStageFault(spa, need, (at & ~3n) | 1n);
          return undefined;
        }
        this.#event(hpmEvent.firstStageWalk);
        entryPa = spa.address;
        const raw = this.memory.load64(entryPa, dc.sbe);
        this.observer?.read('stage 1', level, at, entryPa, raw === undefined ? undefined : [raw]);
        if (raw === undefined) stopped = this.#memoryFault(need);
        return raw;
      });
      if (leaf.kind === 'stopped') return { ok: false, ...stopped };
      if (leaf.kind !== 'leaf') {
        this.observer?.note(whyNoLeaf(leaf));
        return fault;
      }
      let { attributes } = leaf;
      if (need.strict && isDenied(attributes, need)) {
        this.observer?.note('the page does not grant the access');
        return fault;
      }
      const user = (attributes & attribute.user) !== 0;
      if (user !== !supervisor) {
        // A supervisor may reach user pages where SUM is 1, but never execute there.
        if (!supervisor || !sum || (need.execute && need.strict)) {
          this.observer?.note(user ? 'a supervisor may not reach a U page' : 'a user may not reach a page without U');
          return fault;
        }
        attributes &= ~attribute.execute;
      }
      const set = missing(attributes, need);
      if (set !== 0) {
        if (!dc.sade) {
          this.observer?.note('A or D is clear, and the device context has no SADE');
          return fault;
        }
        this.observer?.note('A or D is set in the first-stage entry');
        // The store is an implicit write by the second stage.
        const spa = this.#translateSecond(dc, leaf.at, implicitWrite);
        if (typeof spa === 'string') return { ok: false, ...this.#secondStageFault(spa, need, (leaf.at & ~3n) | 3n) };
        this.#event(hpmEvent.firstStageWalk);
        const updated = this.#update(spa.address, leaf.raw, set, dc.sbe);
        if (updated === 'changed') continue;
        if (updated !== 'done') return { ok: false, ...this.#memoryFault(need) };
        attributes |= set;
      }
      return { ...leaf, attributes, shift: reportedShift(leaf.shift) };
    }
    return fault;
  }

  #memoryFault(need: Need): { cause: Cause; iotval2: bigint } {
    return { cause: this.memory.result === access.corrupt ? causes.ptCorruption : accessFault(need), iotval2: 0n };
  }

  /** Second stage; always checks as User. */
  #translateSecond(dc: DeviceContext, gpa: bigint, need: Need): Mapped | Missed {
    const format = this.#secondStage.get(dc.iohgatpMode);
    if (!format) return bare(gpa);
    for (let tries = 0; tries < updateTries; tries++) {
      this.walks++;
      const leaf = walk(format, dc.iohgatpPpn << 12n, gpa, (at, level) => {
        this.#event(hpmEvent.secondStageWalk);
        const raw = this.memory.load64(at, this.bigEndian);
        this.observer?.read('stage 2', level, gpa, at, raw === undefined ? undefined : [raw]);
        return raw;
      });
      if (leaf.kind === 'stopped') return this.memory.result === access.corrupt ? 'corrupt' : 'access';
      if (leaf.kind !== 'leaf') {
        this.observer?.note(whyNoLeaf(leaf));
        return 'page';
      }
      let { attributes } = leaf;
      if ((need.strict && isDenied(attributes, need)) || !(attributes & attribute.user)) {
        this.observer?.note('the second stage does not grant the access');
        return 'page';
      }
      const set = missing(attributes, need);
      if (set !== 0) {
        if (!dc.gade) {
          this.observer?.note('A or D is clear in the second stage, and the device context has no GADE');
          return 'page';
        }
        this.#event(hpmEvent.secondStageWalk);
        const updated = this.#update(leaf.at, leaf.raw, set, this.bigEndian);
        if (updated === 'changed') continue;
        if (updated !== 'done') return updated;
        attributes |= set;
      }
      // Global means nothing in the second stage.
      return { ...leaf, attributes: attributes & ~attribute.global, shift: reportedShift(leaf.shift) };
    }
    return 'page';
  }

  /** Atomically sets A and D in an entry (§2.4): reads it again, and stores only over what the walk saw. */
  #update(at: bigint, raw: bigint, set: number, bigEndian: boolean): 'done' | 'changed' | 'access' | 'corrupt' {
    const now = this.memory.load64(at, bigEndian);
    if (now === undefined) return this.memory.result === access.corrupt ? 'corrupt' : 'access';
    if (now !== raw) return 'changed';
    const bits = (set & attribute.accessed ? A : 0n) | (set & attribute.dirty ? D : 0n);
    if (this.memory.store64(at, raw | bits, bigEndian) === access.ok) return 'done';
    return this.memory.result === access.corrupt ? 'corrupt' : 'access';
  }

  #isInterruptFile(dc: DeviceContext, page: bigint, ignored: bigint): boolean {
    const width = (1n << BigInt(guestAddressBits(this.features) - 12)) - 1n;
    return ((page ^ dc.msiPattern) & ~dc.msiMask & ~ignored & width) === 0n;
  }

  /** A range must not reach into the pages of interrupt files, which the MSI page table translates (§2.3.3). */
  #beforeInterruptFiles(dc: DeviceContext, gpa: bigint, shift: number): number {
    let size = shift;
    if (dc.msiptpMode === 0) return size;
    while (size > 12 && this.#isInterruptFile(dc, gpa >> 12n, (1n << BigInt(size - 12)) - 1n)) size--;
    return size;
  }

  /** §2.3.3. Undefined: not the address of an interrupt file. */
  #translateMsi(
    dc: DeviceContext,
    gpa: bigint,
    need: Need,
  ): { mapped: Mapped; mrif: Translation['mrif'] } | { cause: Cause } | undefined {
    if (dc.msiptpMode === 0 || !this.#isInterruptFile(dc, gpa >> 12n, 0n)) return undefined;
    const file = extract(gpa >> 12n, dc.msiMask & ((1n << BigInt(guestAddressBits(this.features) - 12)) - 1n));
    const at = (dc.msiptpPpn << 12n) | (file * 16n);
    const words = this.memory.load(at, 2, this.bigEndian);
    this.observer?.read('MSI', 0, gpa, at, words);
    if (!words) return { cause: this.#directoryFault(causes.msiPteAccessFault, causes.msiPtCorruption) };
    const [low, high] = words as [bigint, bigint];
    if (!(low & V)) return { cause: causes.msiPteInvalid };
    const misconfigured = { cause: causes.msiPteMisconfigured };
    // No custom format is defined here.
    if (msipteBasic.get(low, 'C')) return misconfigured;
    const mode = Number(msipteBasic.get(low, 'M'));
    let address: bigint;
    let mrif: Translation['mrif'];
    if (mode === msipteMode.basic) {
      // The second doubleword is software's in this mode.
      if (low & msipteBasic.reserved) return misconfigured;
      address = (msipteBasic.get(low, 'PPN') << 12n) | (gpa & pageOffset);
    } else if (mode === msipteMode.MRIF) {
      if (!this.features.MSI_MRIF || low & msipteMrif.reserved || high & msipteNotice.reserved) return misconfigured;
      address = msipteNotice.get(high, 'NPPN') << 12n;
      const nid = (msipteNotice.get(high, 'N10') << 10n) | msipteNotice.get(high, 'N');
      mrif = { address: msipteMrif.get(low, 'MRIF_Address') << 9n, nid: Number(nid) };
    } else return misconfigured;
    if (need.execute && need.strict) return { cause: causes.instructionAccessFault };
    const attributes = everything & ~(attribute.execute | attribute.global);
    return { mapped: { address, shift: 12, attributes, memoryType: 0, global: false }, mrif };
  }
}

const whyNoLeaf = (result: Exclude<WalkResult, { readonly kind: 'leaf' }>): string =>
  result.kind === 'malformed'
    ? `the entry is malformed: ${result.why}`
    : result.kind === 'non-canonical'
      ? 'the address is outside what the mode translates'
      : 'the entry is not valid';

const implicitRead: Need = { read: true, write: false, execute: false, strict: true };
const implicitWrite: Need = { read: true, write: true, execute: false, strict: true };

const isDenied = (attributes: number, need: Need): boolean =>
  (need.execute && !(attributes & attribute.execute)) ||
  (need.read && !(attributes & attribute.read)) ||
  (need.write && !(attributes & attribute.write));

/** A and D bits that must be set before the access, as attributes. */
const missing = (attributes: number, need: Need): number => {
  const dirty = need.write && attributes & attribute.write ? attribute.dirty : 0;
  return (attribute.accessed | dirty) & ~attributes;
};

/** Step 7: a process_id wider than the process directory. */
const isTooWide = (processId: number, mode: number): boolean =>
  (mode === pdtpMode.PD8 && processId >>> 8 !== 0) || (mode === pdtpMode.PD17 && processId >>> 17 !== 0);

/** Packs the bits of `value` that `mask` selects (§2.3.3 step 5). */
const extract = (value: bigint, mask: bigint): bigint => {
  let result = 0n;
  let to = 0n;
  for (let from = 0n; mask >> from; from++) if ((mask >> from) & 1n) result |= ((value >> from) & 1n) << to++;
  return result;
};

/** No translation: the address is physical. */
const through = (iova: bigint): Translation => ({
  ok: true,
  pa: iova,
  shift: 12,
  pbmt: 0,
  read: true,
  write: true,
  execute: true,
  global: false,
  isMsi: false,
  mrif: undefined,
  gpa: iova,
  gscid: -1,
  pscid: -1,
  t2gpa: false,
  dtf: false,
});
