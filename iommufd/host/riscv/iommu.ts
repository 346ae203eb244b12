import { quiet, type Trace } from '#vmm/base/events';
import type { MmioDevice } from '#vmm/base/ports';
import type { Command } from '#iommufd/arch/riscv/commands';
import { type Cause, causes, type FaultReport } from '#iommufd/arch/riscv/faults';
import { FrontEnd, type FrontEndOptions } from '#iommufd/arch/riscv/front-end';
import type {
  BackEnd,
  CommandOutcome,
  DebugRequest,
  DebugResponse,
  DeviceMessage,
  PageRequest,
  PageRequestContext,
} from '#iommufd/arch/riscv/ports';
import { fctl as fctlRegister } from '#iommufd/arch/riscv/registers';
import { type Translation, type TranslationFault, type TranslationRequest, ttypOf } from './translation.ts';
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

export interface RiscvIommuOptions extends Omit<FrontEndOptions, 'backEnd'> {
  readonly devices?: DeviceLink;
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
 */
export class RiscvIommu implements BackEnd {
  readonly translator: Translator;
  readonly #frontEnd: FrontEnd;
  readonly #devices: DeviceLink | undefined;
  protected readonly trace: Trace;
  #ready = false;

  constructor(options: RiscvIommuOptions) {
    this.trace = options.trace ?? quiet;
    this.#devices = options.devices;
    const frontEnd = new FrontEnd({ ...options, backEnd: this });
    this.#frontEnd = frontEnd;
    const { memory, qosMask } = options;
    this.translator = new Translator({ memory, features: frontEnd.features, ...(qosMask ? { qosMask } : {}) });
    if (frontEnd.features.HPM)
      this.translator.onEvent = (event, who) => {
        if (frontEnd.counting) frontEnd.count(event, who);
      };
    this.#ready = true;
    frontEnd.reset();
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
  }

  // ── Back end ──────────────────────────────────────────────────────────────────────────────────────────────────────

  execute(command: Command, itag: number): CommandOutcome {
    const { operands } = command;
    switch (command.name) {
      case 'IODIR.INVAL_DDT':
        if (operands.DV) {
          this.translator.deviceContexts.delete(Number(operands.DID));
          this.translator.processContexts.deleteDevice(Number(operands.DID));
        } else this.flush();
        break;
      case 'IODIR.INVAL_PDT':
        this.translator.processContexts.delete(Number(operands.DID) * 2 ** 20 + Number(operands.PID));
        break;
      case 'IOFENCE.C':
        if (operands.PR || operands.PW) this.#devices?.fence?.(operands.PR === 1n, operands.PW === 1n);
        break;
      case 'ATS.INVAL':
        this.#devices?.invalidate(message(command), itag);
        return this.#devices ? 'waiting' : 'timeout';
      case 'ATS.PRGR':
        this.#devices?.respond(message(command));
        break;
      default:
        break;
    }
    return 'done';
  }

  respond(answer: DeviceMessage): void {
    this.#devices?.respond(answer);
  }

  directoryChanged(mode: number, ppn: bigint): void {
    if (!this.#ready) return;
    this.translator.mode = mode;
    this.translator.rootPpn = ppn;
  }

  featuresChanged(value: number): void {
    if (!this.#ready) return;
    this.translator.bigEndian = (value & Number(fctlRegister.mask('BE'))) !== 0;
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
      this.#report(asked, result);
      return undefined;
    }
    return { pbmt: result.pbmt, ...encodeRange(result.pa, result.shift) };
  }

  // ── From devices ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** Translates one untranslated or translated request and reports its fault, if any. */
  request(request: TranslationRequest): Answer {
    const result = this.translator.translate(request);
    if (result.ok) return { status: 'success', translation: result };
    this.#report(request, result);
    return { status: 'unsupported-request', fault: result };
  }

  /** A PCIe ATS Translation Request (§2.6). */
  atsRequest(request: TranslationRequest): AtsAnswer {
    const result = this.translator.translate(request);
    if (!result.ok) {
      if (result.cause.ats !== 'none') {
        this.#report(request, result);
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

  #report(request: TranslationRequest, fault: TranslationFault): void {
    this.#frontEnd.reportFault(faultReport(request, fault.cause, fault.iotval2), fault.dtf);
  }
}

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
