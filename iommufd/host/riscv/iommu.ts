import { hpa } from '#vmm/base/address';
import { quiet, type Trace } from '#vmm/base/events';
import { invariant } from '#vmm/base/invariant';
import type { HostMemory } from '#vmm/base/memory';
import type { MmioDevice } from '#vmm/base/ports';
import { field, part, parts } from '#vmm/base/saved';
import type { Command, CommandName } from '#iommufd/arch/riscv/commands';
import { type Cause, causes, type FaultReport } from '#iommufd/arch/riscv/faults';
import { FrontEnd, type FrontEndOptions } from '#iommufd/arch/riscv/front-end';
import type {
  BackEnd,
  CommandOutcome,
  DebugRequest,
  DebugResponse,
  DeviceMessage,
  MemoryPort,
  PageRequest,
  PageRequestContext,
} from '#iommufd/arch/riscv/ports';
import { fctl as fctlRegister } from '#iommufd/arch/riscv/registers';
import { Iotlb, invalidatedRange } from '../iotlb.ts';
import { HostMemoryPort } from '../memory-port.ts';
import { firstStageModes } from './contexts.ts';
import { explain, type Explanation } from './explain.ts';
import { FastWalk } from './fast-walk.ts';
import { RiscvPort } from './port.ts';
import { type Translation, type TranslationFault, type TranslationRequest, ttypOf } from './translation.ts';
import { StaleTranslations, type StaleTranslationsOptions } from './stale-translations.ts';
import { Translator } from './translator.ts';

/** Messages from the IOMMU to devices, through the root complex. */
export interface DeviceLink {
  /** An ATS Invalidation Request; the device answers through `RiscvIommu.invalidationCompleted`. */
  invalidate(message: DeviceMessage, itag: number): void;
  /** A Page Request Group Response. */
  respond(message: DeviceMessage): void;
  /** IOFENCE.C wants earlier reads and writes of devices globally visible. */
  fence?(reads: boolean, writes: boolean): void;
}

export interface RiscvIommuOptions extends Omit<FrontEndOptions, 'backEnd' | 'memory'> {
  /** Host memory: what `port` gives devices access to, and where tables and queues lie. */
  readonly host?: HostMemory;
  /** Memory for tables and queues instead of `host`'s. */
  readonly memory?: MemoryPort;
  readonly devices?: DeviceLink;
  /** Entries of the IOTLB, a power of two; default 4096. */
  readonly iotlbEntries?: number;
  readonly deviceContexts?: number;
  /** A power of two, at least 4; default 4096. */
  readonly processContexts?: number;
}

/** How a requester is answered (PCIe completion status). */
export type Answer =
  | { readonly status: 'success'; readonly translation: Translation }
  | { readonly status: 'unsupported-request' | 'completer-abort'; readonly fault: TranslationFault };

/** An ATS translation completion (PCIe), or why there is none. */
export type AtsAnswer =
  | {
      readonly status: 'success';
      readonly read: boolean;
      readonly write: boolean;
      readonly execute: boolean;
      readonly privileged: boolean;
      readonly global: boolean;
      /** Untranslated access only. */
      readonly untranslatedOnly: boolean;
      /** Undefined where nothing is granted. */
      readonly translation: Translation | undefined;
      /** The address for the device's translation cache: physical, or guest-physical under T2GPA. */
      readonly address: bigint;
    }
  | { readonly status: 'unsupported-request' | 'completer-abort'; readonly fault: TranslationFault };

/**
 * A RISC-V IOMMU as silicon: the register-and-queue front end over a back end that walks tables in memory, with
 * caches that only commands empty. Devices reach memory through `port`.
 *
 * Translations and contexts are cached (§2.8); pointers between tables are not. A nested walk costs less than three
 * look-ups of a cache would, and a pointer that changed without its invalidation is told of by
 * `checkStaleTranslations` all the same.
 */
export class RiscvIommu implements BackEnd {
  readonly translator: Translator;
  readonly #frontEnd: FrontEnd;
  /** Where messages to devices go. */
  readonly devices: DeviceLink | undefined;
  readonly iotlb: Iotlb;
  readonly #host: HostMemory | undefined;
  readonly trace: Trace;
  #ready = false;
  /** Grows whenever a cached context may no longer hold; ports look at it before they use what they remember. */
  epoch = 0;
  /** What ports did with pages: passed as they were, found in the IOTLB, not found; walked fast, walked plainly. */
  readonly statistics = { passed: 0, hits: 0, misses: 0, fastWalks: 0, plainWalks: 0 };
  readonly #ports: RiscvPort[] = [];
  /** Told of each failed request before it is reported. */
  onFault: ((request: TranslationRequest, fault: TranslationFault) => void) | undefined;
  /** Compares what caches serve with what tables hold; undefined unless `checkStaleTranslations` was called. */
  check: StaleTranslations | undefined;
  /** The walk for the common case; absent without host memory. */
  readonly fast: FastWalk | undefined;
  readonly saved = parts({
    frontEnd: part(() => this.#frontEnd),
    translator: part(() => this.translator),
    iotlb: part(() => this.iotlb),
    fast: part(() => this.fast ?? { saved: parts({}) }),
    epoch: field(
      () => this.epoch,
      (value) => (this.epoch = value),
    ),
    statistics: field(
      () => this.statistics,
      (value) => void Object.assign(this.statistics, value),
    ),
  });

  constructor(options: RiscvIommuOptions) {
    const { host, qosMask } = options;
    const memory = options.memory ?? (host && new HostMemoryPort(host));
    invariant(memory, 'an IOMMU needs memory');
    this.trace = options.trace ?? quiet;
    this.devices = options.devices;
    this.#host = host;
    this.iotlb = new Iotlb(options.iotlbEntries ?? 4096);
    const frontEnd = new FrontEnd({ ...options, memory, backEnd: this });
    this.#frontEnd = frontEnd;
    if (host && !options.memory) {
      const modes = firstStageModes(frontEnd.features).reduce((mask, mode) => mask | (1 << mode), 0);
      this.fast = new FastWalk(host.i32, host.poolBase, host.end, modes);
    }
    this.translator = new Translator({
      memory,
      features: frontEnd.features,
      ...(qosMask ? { qosMask } : {}),
      deviceContexts: options.deviceContexts ?? 64,
      processContexts: options.processContexts ?? 4096,
    });
    if (frontEnd.features.HPM)
      this.translator.onEvent = (event, who) => {
        if (frontEnd.monitor.active) frontEnd.monitor.count(event, who);
      };
    this.#ready = true;
    frontEnd.reset();
  }

  /** How this request would be translated now, entry by entry; `device`: what to call the requester. */
  explain(request: TranslationRequest, device: string): Explanation {
    invariant(this.#host, 'only tables in host memory can be explained');
    return explain(this.translator, this.iotlb, new HostMemoryPort(this.#host), request, device);
  }

  /** From now on stale translations are told of; what is cached already is forgotten, so that all of it is known. */
  checkStaleTranslations(options: Omit<StaleTranslationsOptions, 'host' | 'trace'> = {}): StaleTranslations {
    invariant(this.#host, 'only tables in host memory can be compared');
    this.flush();
    this.check = new StaleTranslations(
      { ...options, host: this.#host, trace: this.trace },
      this.translator,
      this.iotlb,
    );
    this.translator.contexts = this.check;
    return this.check;
  }

  /** Power-on: registers, and caches empty (§5.2). */
  reset(): void {
    this.flush();
    this.#frontEnd.reset();
  }

  /** True while each translation has to be told of or counted: nothing is hurried then. */
  get isWatched(): boolean {
    return this.trace.on || this.check !== undefined || this.#frontEnd.monitor.active;
  }

  /** A port that remembers contexts, and is to be told when one may no longer hold. */
  attach(port: RiscvPort): void {
    this.#ports.push(port);
  }

  /** A device's way to memory. */
  port(rid: number): RiscvPort {
    invariant(this.#host, 'ports need host memory');
    return new RiscvPort(this, this.#host, rid);
  }

  /** Memory references of walks since construction. */
  get memoryReferences(): number {
    return this.translator.memory.references + (this.fast?.references ?? 0);
  }

  /** The 4 KiB register page. */
  get registers(): MmioDevice {
    return this.#frontEnd;
  }

  get frontEnd(): FrontEnd {
    return this.#frontEnd;
  }

  /** Empties every cache, as power-on does. */
  flush(): void {
    this.translator.deviceContexts.clear();
    this.translator.processContexts.clear();
    this.iotlb.clear();
    this.check?.contextsDropped(undefined, undefined);
    this.epoch++;
  }

  // ── Back end ──────────────────────────────────────────────────────────────────────────────────────────────────────

  execute(command: Command, itag: number): CommandOutcome {
    const outcome = effects[command.name](this, command, itag);
    if (typeof outcome === 'string') return outcome;
    const { DV, DID, PID } = command.operands;
    if (command.name === 'IODIR.INVAL_DDT') {
      this.check?.contextsDropped(DV ? Number(DID) : undefined, undefined);
      this.epoch++;
    } else if (command.name === 'IODIR.INVAL_PDT') {
      this.check?.contextsDropped(Number(DID), Number(PID));
      for (const port of this.#ports) if (port.rid === Number(DID)) port.forget(Number(PID));
    }
    if (this.trace.on) this.trace.emit('iommu.invalidate', { command: command.name, entries: outcome });
    return 'done';
  }

  respond(answer: DeviceMessage): void {
    this.devices?.respond(answer);
  }

  directoryChanged(mode: number, ppn: bigint): void {
    if (!this.#ready) return;
    this.translator.mode = mode;
    this.translator.rootPpn = ppn;
    this.epoch++;
  }

  featuresChanged(value: number): void {
    if (!this.#ready) return;
    this.translator.bigEndian = (value & Number(fctlRegister.mask('BE'))) !== 0;
    this.epoch++;
  }

  pageRequestContext(deviceId: number): PageRequestContext {
    const dc = this.translator.locateDevice(deviceId);
    if (!('dtf' in dc)) return { found: false, cause: dc };
    return { found: true, enPri: dc.enPri, prpr: dc.prpr, dtf: dc.dtf };
  }

  debugTranslate(request: DebugRequest): DebugResponse {
    const asked: TranslationRequest = { ...request, type: 'untranslated', noWrite: false };
    let result = this.translator.translate(asked);
    if (result.ok && result.mrif)
      result = { ok: false, cause: causes.transactionDisallowed, iotval2: 0n, dtf: result.dtf };
    if (!result.ok) {
      this.report(asked, result);
      return undefined;
    }
    return { pbmt: result.pbmt, ...encodeRange(result.pa, result.shift) };
  }

  // ── From devices ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** Translates one untranslated or translated request and reports its fault, if any. */
  request(request: TranslationRequest): Answer {
    const result = this.translator.translate(request);
    if (result.ok) return { status: 'success', translation: result };
    this.report(request, result);
    return { status: 'unsupported-request', fault: result };
  }

  /** A PCIe ATS Translation Request (§2.6). */
  atsRequest(request: TranslationRequest): AtsAnswer {
    const result = this.translator.translate(request);
    if (!result.ok) {
      if (result.cause.ats !== 'none') {
        this.report(request, result);
        return { status: result.cause.ats === 'abort' ? 'completer-abort' : 'unsupported-request', fault: result };
      }
      const privileged = request.processIdValid && request.supervisor;
      return { status: 'success', ...nothing, privileged };
    }
    const { processIdValid, supervisor } = request;
    return {
      status: 'success',
      read: result.read,
      write: result.write,
      execute: result.execute && request.execute && processIdValid,
      privileged: processIdValid && supervisor,
      global: processIdValid && !result.isMsi && result.global,
      untranslatedOnly: result.mrif !== undefined,
      translation: result,
      address: result.t2gpa ? result.gpa : result.pa,
    };
  }

  /** A PCIe Page Request message. */
  pageRequest(request: PageRequest): void {
    this.#frontEnd.pageRequest(request);
  }

  /** An Invalidate Completion message; false when unexpected. */
  invalidationCompleted(rid: number, segment: number | undefined, itagVector: number, count: number): boolean {
    return this.#frontEnd.invalidationCompleted(rid, segment, itagVector, count);
  }

  invalidationTimedOut(itagVector: number): void {
    this.#frontEnd.invalidationTimedOut(itagVector);
  }

  /** A notice MSI of a memory-resident interrupt file; false where nothing takes it. */
  sendNotice(address: number, nid: number): boolean {
    return this.#host?.store(hpa(address), 4, nid) ?? false;
  }

  /** Puts a failed request into the fault queue. */
  report(request: TranslationRequest, fault: TranslationFault): void {
    this.onFault?.(request, fault);
    this.#frontEnd.reportFault(faultReport(request, fault.cause, fault.iotval2), fault.dtf);
  }
}

/** What silicon does for each command: its outcome, or how many cached entries it dropped. */
const effects: Record<CommandName, (iommu: RiscvIommu, command: Command, itag: number) => CommandOutcome | number> = {
  'IOTINVAL.VMA': ({ iotlb }, { operands: o }) =>
    iotlb.invalidateFirstStage(
      o.GV ? Number(o.GSCID) : -1,
      o.PSCV ? Number(o.PSCID) : -1,
      o.AV ? invalidatedRange(o.ADDR, o.S === 1n) : undefined,
    ),
  // AV and S mean nothing without GV (§3.1.1).
  'IOTINVAL.GVMA': ({ iotlb }, { operands: o }) =>
    iotlb.invalidateSecondStage(
      o.GV ? Number(o.GSCID) : -1,
      o.GV && o.AV ? invalidatedRange(o.ADDR, o.S === 1n) : undefined,
    ),
  'IODIR.INVAL_DDT': ({ translator }, { operands: o }) => {
    const { deviceContexts, processContexts } = translator;
    const before = deviceContexts.size + processContexts.size;
    if (o.DV) {
      deviceContexts.deleteDevice(Number(o.DID));
      processContexts.deleteDevice(Number(o.DID));
    } else {
      deviceContexts.clear();
      processContexts.clear();
    }
    return before - deviceContexts.size - processContexts.size;
  },
  'IODIR.INVAL_PDT': ({ translator: { processContexts } }, { operands: o }) => {
    const before = processContexts.size;
    processContexts.delete(Number(o.DID), Number(o.PID));
    return before - processContexts.size;
  },
  'IOFENCE.C': ({ devices }, { operands: o }) => {
    if (o.PR || o.PW) devices?.fence?.(o.PR === 1n, o.PW === 1n);
    return 'done';
  },
  'ATS.INVAL': ({ devices, check }, command, itag) => {
    // With nobody to answer, the request times out (§3.1.4).
    if (!devices) return 'timeout';
    check?.deviceInvalidated(message(command));
    devices.invalidate(message(command), itag);
    return 'waiting';
  },
  'ATS.PRGR': ({ devices }, command) => {
    devices?.respond(message(command));
    return 'done';
  },
};

const nothing = {
  read: false,
  write: false,
  execute: false,
  global: false,
  untranslatedOnly: false,
  translation: undefined,
  address: 0n,
} as const;

const faultReport = (request: TranslationRequest, cause: Cause, iotval2: bigint): FaultReport => ({
  cause,
  ttyp: ttypOf(request),
  deviceId: request.deviceId,
  processIdValid: request.processIdValid,
  processId: request.processId,
  supervisor: request.supervisor,
  iotval: request.iova,
  iotval2,
});

const message = (command: Command): DeviceMessage => ({
  rid: Number(command.operands.RID),
  segment: command.operands.DSV ? Number(command.operands.DSEG) : undefined,
  processId: command.operands.PV ? Number(command.operands.PID) : undefined,
  payload: command.operands.PAYLOAD,
});

/** A page number that carries its range's size, as ATS completions and tr_response have it (§5.26). */
export const encodeRange = (pa: bigint, shift: number): { s: number; ppn: bigint } => {
  const size = 1n << BigInt(shift);
  return { s: shift > 12 ? 1 : 0, ppn: ((pa & ~(size - 1n)) | (size / 2n - 1n)) >> 12n };
};
