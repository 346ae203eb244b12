import type { HostMemory } from '#vmm/base/memory';
import {
  type DmaResult,
  type MemoryRequest,
  type PageRequestMessage,
  type RequestAttributes,
  type TransactionPort,
  type TranslationCompletion,
  type TranslationEndpoint,
  type TranslationRequest,
  noPasid,
} from '#vmm/base/ports';
import { field as variable, parts } from '#vmm/base/saved';
import { pageRequestPayload } from '#iommufd/arch/riscv/faults';
import { hpmEvent } from '#iommufd/arch/riscv/registers';
import { Segments } from '../bypass-port.ts';
import { processTag, right, spaceTag } from '../iotlb.ts';
import type { DeviceLink } from './device-link.ts';
import type { FastWalk } from './fast-walk.ts';
import type { RiscvIommu } from './iommu.ts';
import { RiscvPort } from './port.ts';
import { type TranslationRequest as SiliconRequest, needOf } from './translation.ts';

const pageMask = 4095;
const mask = (name: 'R' | 'W' | 'L'): number => Number(pageRequestPayload.mask(name));
const field = { R: mask('R'), W: mask('W'), L: mask('L') };
const groupShift = Math.log2(Number(pageRequestPayload.encode({ PRGI: 1n })));

/**
 * A function's whole way to memory through the IOMMU: what RiscvPort does, and requests with rights, translated requests,
 * ATS and PRI. Under T2GPA translated addresses are guest-physical and pass the second stage (§2.1.3.1), so that a forged
 * one reaches no more than the VM's own memory; without ATS enabled they fault with cause 260 (§2.3 step 7).
 */
export class RiscvTransactionPort extends RiscvPort implements TransactionPort {
  endpoint: TranslationEndpoint | undefined;
  readonly #iommu: RiscvIommu;
  readonly #host: HostMemory;
  readonly #link: DeviceLink;
  readonly #segments = new Segments();
  readonly #completion: TranslationCompletion = {
    status: 'success',
    hi: 0,
    lo: 0,
    shift: 12,
    read: false,
    write: false,
    execute: false,
    privileged: false,
    global: false,
    untranslatedOnly: false,
  };
  /** Where translated requests look in the IOTLB while the epoch stands still; -1 epoch: nowhere. */
  readonly #second = { epoch: -1, space: 0, process: 0 };
  // Answer of #locateTranslated and #locateUntranslated.
  #address = 0;
  #mask = pageMask;
  /** Besides what is saved of every port. */
  readonly savedTransactions = parts({
    second: variable(
      () => this.#second,
      (value) => void Object.assign(this.#second, value),
    ),
  });
  /** The page before this one in the same request faulted for this cause: one record stands for both (§3.2). */
  #lastCause = 0;

  constructor(iommu: RiscvIommu, host: HostMemory, rid: number, link: DeviceLink) {
    super(iommu, host, rid);
    this.#iommu = iommu;
    this.#host = host;
    this.#link = link;
    link.attach(this);
  }

  access(request: MemoryRequest): DmaResult {
    const { kind, hi, lo, length, pasid } = request;
    if (!request.isTranslated && !request.privileged && !request.execute)
      return kind === 'read' ? this.read(hi, lo, length, pasid) : this.write(hi, lo, length, pasid);
    return this.#walk(request);
  }

  #walk(request: MemoryRequest): DmaResult {
    const { counters } = this;
    const { length } = request;
    const isWrite = request.kind !== 'read';
    if (isWrite) {
      counters.writes++;
      counters.bytesWritten += length;
    } else {
      counters.reads++;
      counters.bytesRead += length;
    }
    const { statistics, trace, check } = this.#iommu;
    check?.deviceUsed(this.rid);
    const { poolBase, end } = this.#host;
    const { hits, misses } = statistics;
    const result = this.#segments;
    result.clear();
    this.#lastCause = 0;
    let hi = request.hi >>> 0;
    let lo = request.lo >>> 0;
    for (let done = 0; done < length;) {
      const found = this.#locate(request, hi, lo, isWrite);
      const room = this.#mask + 1 - (lo & this.#mask);
      const chunk = Math.min(room, length - done);
      const address = this.#address;
      if (!found) result.fault(done, done + chunk - 1, 'unsupported-request');
      else if (address >= poolBase && address + chunk <= end) result.add(address, chunk);
      else result.fault(done, done + chunk - 1, 'completer-abort');
      done += chunk;
      lo += chunk;
      if (lo >= 2 ** 32) {
        lo -= 2 ** 32;
        hi = (hi + 1) >>> 0;
      }
    }
    if (result.faults.length > 0) counters.faults++;
    if (isWrite) check?.written(this.rid, result);
    if (trace.on)
      trace.emit(isWrite ? 'dma.write' : 'dma.read', {
        rid: this.rid,
        pasid: request.pasid,
        iova: join(request.hi, request.lo),
        length,
        segments: result.count,
        hits: statistics.hits - hits,
        misses: statistics.misses - misses,
        faults: result.faults.length,
      });
    return result;
  }

  /** One page: sets #address and #mask. False when it faulted. */
  #locate(request: MemoryRequest, hi: number, lo: number, isWrite: boolean): boolean {
    const iommu = this.#iommu;
    const { iotlb, statistics } = iommu;
    const need = isWrite ? right.write : right.read;
    if (request.isTranslated) iommu.check?.translatedServed(this.rid, hi, lo);
    const second = request.isTranslated && !request.execute ? this.#secondStage(request) : undefined;
    if (second?.epoch === iommu.epoch) {
      const at = iotlb.lookup(second.space, second.process, hi | 0, lo | 0);
      if (at >= 0 && iotlb.rights(at) & need) {
        statistics.hits++;
        iommu.check?.served(at, hi | 0, lo | 0);
        // The plain walk counts it itself where it runs (§5.23).
        const { monitor } = iommu.frontEnd;
        if (monitor.active) monitor.count(hpmEvent.translated, { deviceId: this.rid, processId: noPasid, gscid: -1, pscid: -1 }); // prettier-ignore
        this.#mask = iotlb.offsetMask(at);
        this.#address = iotlb.address(at, lo);
        return true;
      }
    }
    statistics.misses++;
    statistics.plainWalks++;
    this.#mask = pageMask;
    const asked = this.#ask(request, request.isTranslated ? 'translated' : 'untranslated', hi, lo, isWrite, false);
    const found = iommu.translator.translate(asked);
    if (!found.ok || found.mrif) {
      // An interrupt file in memory takes MSIs, which are messages (DmaPort.message), and nothing else.
      if (!found.ok && found.cause.cause !== this.#lastCause) iommu.report(asked, found);
      this.#lastCause = found.ok ? 0 : found.cause.cause;
      return false;
    }
    this.#lastCause = 0;
    this.#address = Number(found.pa);
    if (second?.epoch === iommu.epoch) {
      const rights = (found.read ? right.read : 0) | (found.write ? right.write : 0) | (found.execute ? right.execute : 0); // prettier-ignore
      const [ppn, gppn] = [Number(found.pa >> 12n), Number(found.gpa >> 12n)];
      const at = iotlb.insert(second.space, second.process, hi | 0, lo | 0, found.shift, ppn, gppn, rights, false);
      iommu.check?.filled(at, asked);
    }
    return true;
  }

  /** Translated addresses of this function are those that a Bare first stage of the same VM would have. */
  #secondStage(request: MemoryRequest): { readonly epoch: number; readonly space: number; readonly process: number } {
    const second = this.#second;
    const iommu = this.#iommu;
    // A PASID may be one that the context forbids: the plain walk judges it each time.
    if (request.pasid !== noPasid) return none;
    if (second.epoch === iommu.epoch) return second;
    second.epoch = -1;
    const asked = this.#ask(request, 'translated', 0, 0, false, false);
    const entered = iommu.translator.enter(asked, needOf(asked));
    if ('ok' in entered) return second;
    second.space = spaceTag(entered.gscid, false, false);
    second.process = processTag(entered.pscid);
    second.epoch = iommu.epoch;
    return second;
  }

  #ask(
    who: RequestAttributes,
    type: SiliconRequest['type'],
    hi: number,
    lo: number,
    write: boolean,
    noWrite: boolean,
  ): SiliconRequest {
    const processIdValid = who.pasid !== noPasid;
    return {
      deviceId: this.rid,
      processIdValid,
      processId: processIdValid ? who.pasid : 0,
      supervisor: processIdValid && who.privileged,
      execute: who.execute,
      write,
      type,
      noWrite,
      iova: join(hi, lo),
    };
  }

  translate(request: TranslationRequest): TranslationCompletion {
    const iommu = this.#iommu;
    iommu.check?.deviceUsed(this.rid);
    const completion = this.#completion;
    completion.status = 'success';
    completion.hi = 0;
    completion.lo = 0;
    completion.shift = 12;
    completion.read = false;
    completion.write = false;
    completion.execute = false;
    if (!request.privileged && !request.execute) {
      const found = this.fastTranslation(request.hi | 0, request.lo | 0, request.pasid, !request.noWrite);
      if (found) {
        this.#complete(found, request.pasid);
        if (iommu.check && completion.read) {
          const page = this.isTranslatedToGuest ? found.guestPpn : found.ppn;
          iommu.check.translated(
            this.#ask(request, 'ats', request.hi, request.lo, false, request.noWrite),
            BigInt(page) << 12n,
          );
        }
        return completion;
      }
    }
    const asked = this.#ask(request, 'ats', request.hi, request.lo, false, request.noWrite);
    const answer = iommu.atsRequest(asked);
    completion.status = answer.status;
    if (answer.status === 'success') {
      completion.read = answer.read;
      completion.write = answer.write;
      completion.execute = answer.execute;
      completion.privileged = answer.privileged;
      completion.global = answer.global;
      completion.untranslatedOnly = answer.untranslatedOnly;
      if (answer.translation) {
        const { shift } = answer.translation;
        iommu.check?.translated(asked, answer.address);
        const first = (answer.address >> BigInt(shift)) << BigInt(shift);
        completion.shift = shift;
        completion.hi = Number(first >> 32n);
        completion.lo = Number(first & 0xffff_ffffn);
      }
    }
    if (iommu.trace.on)
      iommu.trace.emit('ats.translation', {
        rid: this.rid,
        pasid: request.pasid,
        iova: join(request.hi, request.lo),
        status: completion.status,
        address: join(completion.hi, completion.lo),
        shift: completion.shift,
        rights: `${completion.read ? 'r' : ''}${completion.write ? 'w' : ''}${completion.execute ? 'x' : ''}`,
      });
    return completion;
  }

  #complete({ isAbsent, shift, guestPpn, ppn, rights, global }: FastWalk, pasid: number): TranslationCompletion {
    const completion = this.#completion;
    completion.privileged = false;
    completion.global = !isAbsent && global && pasid !== noPasid;
    completion.untranslatedOnly = false;
    if (isAbsent) return completion;
    const page = this.isTranslatedToGuest ? guestPpn : ppn;
    const first = page - (page % 2 ** (shift - 12));
    completion.shift = shift;
    completion.hi = Math.floor(first / 2 ** 20);
    completion.lo = (first % 2 ** 20) * 4096;
    completion.read = true;
    completion.write = (rights & right.write) !== 0;
    return completion;
  }

  pageRequest(message: PageRequestMessage): void {
    const processIdValid = message.pasid !== noPasid;
    const { trace } = this.#iommu;
    if (trace.on)
      trace.emit('pri.request', {
        rid: this.rid,
        pasid: message.pasid,
        address: join(message.hi, message.lo & ~pageMask),
        group: message.group,
        read: message.read ? 1 : 0,
        write: message.write ? 1 : 0,
        last: message.last ? 1 : 0,
      });
    const flags =
      (message.read ? field.R : 0) |
      (message.write ? field.W : 0) |
      (message.last ? field.L : 0) |
      ((message.group & 511) << groupShift);
    this.#iommu.pageRequest({
      rid: this.rid,
      segment: undefined,
      processIdValid,
      processId: processIdValid ? message.pasid : 0,
      supervisor: processIdValid && message.privileged,
      execute: processIdValid && message.execute,
      payload: join(message.hi, (message.lo & ~pageMask) | flags),
    });
  }

  invalidationCompleted(itag: number): void {
    this.#link.completed(this.rid, itag);
  }
}

const none = { epoch: -1, space: 0, process: 0 } as const;
const join = (hi: number, lo: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
