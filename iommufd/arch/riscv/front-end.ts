import { quiet, type Trace } from '#vmm/base/events';
import type { AccessBytes, MmioDevice } from '#vmm/base/ports';
import { part, parts } from '#vmm/base/saved';
import { CommandQueue } from './command-queue.ts';
import {
  type FaultReport,
  causes,
  faultRecord,
  faultRecordBytes,
  messageCode,
  pageRequestPayload,
  pageRequestHead,
  pageRequestRecordBytes,
  pageResponseCode,
  pageResponsePayload,
  ttyp,
} from './faults.ts';
import { PerformanceMonitor } from './hpm.ts';
import { Interrupts } from './interrupts.ts';
import type { BackEnd, DebugRequest, MemoryPort, MessageSink, PageRequest, WireSink } from './ports.ts';
import { QueueMemory } from './queue-memory.ts';
import { csr, indexMask, type ProduceResult, RecordQueue } from './record-queue.ts';
import { RegisterFile, type WriteHook } from './register-file.ts';
import {
  capabilities,
  type Capabilities,
  cqcsr,
  ddtp,
  ddtpMode,
  decodeCapabilities,
  fctl,
  fqcsr,
  icvec,
  offsets,
  pqcsr,
  tr_req_ctl,
  tr_response,
} from './registers.ts';
import { deviceIdBits } from './tables.ts';

export interface FrontEndOptions {
  /** The capabilities register: everything optional follows from it. */
  readonly capabilities: bigint;
  readonly memory: MemoryPort;
  readonly backEnd: BackEnd;
  /** fctl after reset (BE, WSI, GXL); default 0. BE is writable where END is 1, WSI where IGS is BOTH; GXL never. */
  readonly fctl?: number;
  /** ddtp.iommu_mode after reset: Off (default) or Bare. */
  readonly resetMode?: number;
  /** Largest legal ddtp.iommu_mode; default 3LVL. */
  readonly maxMode?: number;
  /** Writable bits of each icvec field, 0 … 4; default 4. */
  readonly vectorBits?: number;
  /** Legal bits of iommu_qosid; default none. */
  readonly qosMask?: { readonly RCID: number; readonly MCID: number };
  /** Programmable event counters where capabilities.HPM is 1; default 7. */
  readonly counters?: number;
  /** Width of the counters; default 64. */
  readonly counterBits?: number;
  /** Free-running clock of iohpmcycles; default stands still. */
  readonly cycles?: () => number;
  /** Largest queue, log2 of entries, 1 … 32: larger sizes are clamped. Default 32. */
  readonly maxQueueLog2?: number;
  /** Where wired interrupts go. */
  readonly wire?: WireSink;
  /** Where messages go when the IOMMU is a PCI Express function; without it msi_cfg_tbl says where. */
  readonly messages?: MessageSink;
  readonly trace?: Trace;
  /** Who this is, in traces: default "iommu". */
  readonly unit?: string;
}

const queueSizeField = 31n;
const queues = ['c', 'f', 'p'] as const;
/** Bits that setting a queue's enable bit clears (§5.15–5.17). */
const errorBits = {
  c: Number(cqcsr.mask('cqmf') | cqcsr.mask('cmd_to') | cqcsr.mask('cmd_ill') | cqcsr.mask('fence_w_ip')),
  f: Number(fqcsr.mask('fqmf') | fqcsr.mask('fqof')),
  p: Number(pqcsr.mask('pqmf') | pqcsr.mask('pqof')),
} as const;
// prettier-ignore
const queueRegisters = {
  c: { base: 'cqb', csr: 'cqcsr', index: 'cqt', own: offsets.cqh },
  f: { base: 'fqb', csr: 'fqcsr', index: 'fqh', own: offsets.fqt },
  p: { base: 'pqb', csr: 'pqcsr', index: 'pqh', own: offsets.pqt },
} as const;

/**
 * What a driver sees of a RISC-V IOMMU: registers, command, fault and page-request queues, interrupts, counters and
 * the debug translation interface. What lies behind is the back end's: silicon that walks tables, or a vIOMMU.
 */
export class FrontEnd implements MmioDevice {
  readonly features: Capabilities;
  readonly #options: FrontEndOptions;
  readonly #registers: RegisterFile;
  readonly #memory: QueueMemory;
  readonly #interrupts: Interrupts;
  readonly #commands: CommandQueue;
  readonly #faults: RecordQueue;
  readonly #pageRequests: RecordQueue;
  /** Performance counters (§5.23): test `active` before building a Requester to count. */
  readonly monitor: PerformanceMonitor;
  readonly #trace: Trace;
  readonly #unit: string;
  /** What the back end made of the registers is the back end's. */
  readonly saved = parts(
    {
      registers: part(() => this.#registers),
      interrupts: part(() => this.#interrupts),
      commands: part(() => this.#commands),
      monitor: part(() => this.monitor),
    },
    () => (this.#memory.bigEndian = (this.fctl & 1) !== 0),
  );

  constructor(options: FrontEndOptions) {
    this.#options = options;
    this.features = decodeCapabilities(options.capabilities);
    this.#trace = options.trace ?? quiet;
    this.#unit = options.unit ?? 'iommu';
    const trace = this.#trace;
    const unit = this.#unit;
    this.#registers = new RegisterFile(this.features, this.#hooks(), trace, unit);
    this.#memory = new QueueMemory(options.memory, this.features.PAS);
    this.#interrupts = new Interrupts(this.#registers, this.#memory, options, trace, unit);
    this.#interrupts.onMessageFault = (address) => this.#reportMessageFault(address);
    const context = () => ({
      features: this.features,
      wired: (this.fctl & Number(fctl.mask('WSI'))) !== 0,
      deviceIdBits: this.deviceIdBits,
    });
    this.#commands = new CommandQueue(
      this.#registers,
      this.#memory,
      this.#interrupts,
      options.backEnd,
      context,
      trace,
      unit,
    );
    const { fqb, fqh, fqt, pqb, pqh, pqt } = offsets;
    const at = { base: fqb, head: fqh, tail: fqt, csr: offsets.fqcsr, entryBytes: faultRecordBytes };
    this.#faults = new RecordQueue(this.#registers, this.#memory, at);
    const pq = { base: pqb, head: pqh, tail: pqt, csr: offsets.pqcsr, entryBytes: pageRequestRecordBytes };
    this.#pageRequests = new RecordQueue(this.#registers, this.#memory, pq);
    const counters = this.features.HPM ? (options.counters ?? 7) : 0;
    const cycles = options.cycles ?? (() => 0);
    this.monitor = new PerformanceMonitor(
      this.#registers,
      this.#interrupts,
      counters,
      options.counterBits ?? 64,
      cycles,
    );
    if (this.features.HPM)
      this.#registers.beforeRead = (row) => {
        if (row.offset === offsets.iohpmcycles || row.offset === offsets.iocountovf) this.monitor.sample();
      };
    this.reset();
  }

  /** Power-on state (§5.2). */
  reset(): void {
    this.#registers.words.fill(0);
    this.#registers.set64(offsets.capabilities, this.#options.capabilities);
    this.#registers.words[offsets.fctl >>> 2] = this.#options.fctl ?? 0;
    this.#registers.set64(offsets.ddtp, BigInt(this.#options.resetMode ?? ddtpMode.Off));
    this.#memory.bigEndian = (this.fctl & 1) !== 0;
    this.#commands.reset();
    this.#interrupts.reset();
    this.monitor.reset();
    this.#options.backEnd.featuresChanged?.(this.fctl);
    this.#tellDirectory();
  }

  read(offset: number, bytes: AccessBytes): number | bigint {
    return this.#registers.read(offset, bytes);
  }

  write(offset: number, bytes: AccessBytes, value: number | bigint): void {
    this.#registers.write(offset, bytes, value);
  }

  /** A register as it stands: nothing is sampled, traced or acted upon. `offset` is one of the register table's. */
  peek(offset: number, width: number): bigint {
    return width === 64 ? this.#registers.get64(offset) : BigInt(this.#registers.words[offset >>> 2]!);
  }

  get fctl(): number {
    return this.#registers.words[offsets.fctl >>> 2]!;
  }

  get ddtp(): bigint {
    return this.#registers.get64(offsets.ddtp);
  }

  /** ddtp.iommu_mode. */
  get mode(): number {
    return Number(ddtp.get(this.ddtp, 'iommu_mode'));
  }

  /** Width of a device_id under the present ddtp.iommu_mode (24 where there is no directory). */
  get deviceIdBits(): number {
    const levels = this.mode - ddtpMode.Bare;
    return levels >= 1 ? deviceIdBits(levels as 1 | 2 | 3, this.features.MSI_FLAT === 1) : 24;
  }

  /** Reports a fault or event through the fault queue, unless `dtf` suppresses its cause (§3.2). */
  reportFault(report: FaultReport, dtf = false): void {
    const { cause } = report;
    let recorded = 0;
    if (!dtf || cause.despiteDtf) {
      const inbound = report.ttyp !== ttyp.none;
      const pv = inbound && report.processIdValid;
      const head = faultRecord.encode({
        CAUSE: BigInt(cause.cause),
        PID: pv ? BigInt(report.processId) : 0n,
        PV: pv ? 1n : 0n,
        PRIV: pv && report.supervisor ? 1n : 0n,
        TTYP: BigInt(report.ttyp),
        DID: inbound ? BigInt(report.deviceId) : 0n,
      });
      const result = this.#faults.produce([head, 0n, report.iotval, report.iotval2]);
      if (result === 'queued') {
        recorded = 1;
        this.#interrupts.pend('fip');
      } else if (result !== 'off') this.#interrupts.updateLevels();
    }
    if (this.#trace.on)
      this.#trace.emit('iommu.fault', {
        unit: this.#unit,
        cause: cause.cause,
        name: cause.name,
        rid: report.deviceId,
        pasid: report.processIdValid ? report.processId : -1,
        iova: report.iotval,
        iotval2: report.iotval2,
        recorded,
      });
  }

  /** Records were lost before they came here: the queue shows an overflow (§3.2, fqof). */
  faultsLost(): void {
    this.#faults.overflowed();
    this.#interrupts.updateLevels();
  }

  /** The same for page requests (§3.3, pqof). */
  pageRequestsLost(): void {
    this.#pageRequests.overflowed();
    this.#interrupts.updateLevels();
  }

  #reportMessageFault(address: bigint): void {
    this.reportFault({
      cause: causes.msiWriteAccessFault,
      ttyp: ttyp.none,
      deviceId: 0,
      processIdValid: false,
      processId: 0,
      supervisor: false,
      iotval: address,
      iotval2: 0n,
    });
  }

  /**
   * Puts a Page Request or Stop Marker into the page-request queue, without looking at a device context: for a back end
   * that knows the device is allowed to. Unless it was queued, the caller answers the device (§2.7).
   */
  queuePageRequest(deviceId: number, request: PageRequest): ProduceResult {
    const pv = request.processIdValid;
    const head = pageRequestHead(deviceId, pv ? request.processId : -1, request.supervisor, request.execute);
    const result = this.#pageRequests.produce([head, request.payload]);
    if (result === 'queued') this.#interrupts.pend('pip');
    else if (result !== 'off') this.#interrupts.updateLevels();
    if (this.#trace.on)
      this.#trace.emit('iommu.page-request', {
        unit: this.#unit,
        rid: deviceId,
        pasid: pv ? request.processId : -1,
        address: pageRequestPayload.get(request.payload, 'address') << 12n,
        group: Number(pageRequestPayload.get(request.payload, 'PRGI')),
        outcome: result,
      });
    return result;
  }

  /** A Page Request message of a device (§2.7): queued, or answered with the code the specification gives. */
  pageRequest(request: PageRequest): void {
    const deviceId = request.rid | ((request.segment ?? 0) << 16);
    const context = this.#pageRequestContext(deviceId);
    if (!context.found || !context.enPri) {
      const cause = context.found ? causes.transactionDisallowed : context.cause;
      this.reportFault(
        {
          cause,
          ttyp: ttyp.message,
          deviceId,
          processIdValid: request.processIdValid,
          processId: request.processId,
          supervisor: request.supervisor,
          iotval: BigInt(messageCode.pageRequest),
          iotval2: 0n,
        },
        context.found && context.dtf,
      );
      const { invalidRequest, responseFailure } = pageResponseCode;
      const code = cause === causes.transactionDisallowed ? invalidRequest : responseFailure;
      this.#answer(request, code, context.found && context.prpr);
      return;
    }
    const result = this.queuePageRequest(deviceId, request);
    if (result === 'queued') return;
    const { success, responseFailure } = pageResponseCode;
    this.#answer(request, result === 'overflow' ? success : responseFailure, context.prpr);
  }

  /** Steps 1 to 5 of §2.3. */
  #pageRequestContext(deviceId: number): ReturnType<NonNullable<BackEnd['pageRequestContext']>> {
    if (this.mode === ddtpMode.Off) return { found: false, cause: causes.allInboundDisallowed };
    if (this.mode === ddtpMode.Bare || deviceId >>> this.deviceIdBits !== 0)
      return { found: false, cause: causes.transactionDisallowed };
    return (
      this.#options.backEnd.pageRequestContext?.(deviceId) ?? { found: false, cause: causes.transactionDisallowed }
    );
  }

  /** Only the last request of a group is answered, and never a Stop Marker (§2.7). */
  #answer(request: PageRequest, code: number, prpr: boolean): void {
    const { R, W, L, PRGI } = pageRequestPayload.decode(request.payload);
    if (L === 0n || (R === 0n && W === 0n)) return;
    const withProcessId = request.processIdValid && (code === pageResponseCode.responseFailure || prpr);
    this.#options.backEnd.respond({
      rid: request.rid,
      segment: request.segment,
      processId: withProcessId ? request.processId : undefined,
      payload: pageResponsePayload.encode({ PRGI, code: BigInt(code), destination: BigInt(request.rid) }),
    });
  }

  /** An Invalidate Completion of a device; false when nothing outstanding matches it. */
  invalidationCompleted(rid: number, segment: number | undefined, itagVector: number, count: number): boolean {
    return this.#commands.completed(rid, segment, itagVector, count);
  }

  /** Outstanding invalidations that the device did not complete in time: the next fence sets cmd_to (§3.1.4). */
  invalidationTimedOut(itagVector: number): void {
    this.#commands.timedOut(itagVector);
  }

  #tellDirectory(): void {
    this.#options.backEnd.directoryChanged(this.mode, ddtp.get(this.ddtp, 'PPN'));
  }

  #hooks(): ReadonlyMap<string, WriteHook> {
    const hooks = new Map<string, WriteHook>();
    const { features } = this;
    const { maxMode = ddtpMode['3LVL'], vectorBits = 4, maxQueueLog2 = 32 } = this.#options;
    const ppnMask = (1n << BigInt(Math.max(0, features.PAS - 12))) - 1n;
    const csrOf = (queue: 'c' | 'f' | 'p'): number => this.#registers.words[offsets[queueRegisters[queue].csr] >>> 2]!;

    hooks.set('fctl', {
      // §5.4 leaves a change while the IOMMU or a queue is on UNSPECIFIED: it is ignored.
      legalise: (next, old) => {
        if (this.mode !== ddtpMode.Off || queues.some((q) => csrOf(q) & (csr.enable | csr.on))) return undefined;
        const writable = (features.END ? fctl.mask('BE') : 0n) | (features.IGS === 2 ? fctl.mask('WSI') : 0n);
        return (old & ~writable) | (next & writable);
      },
      afterWrite: (next) => {
        this.#memory.bigEndian = (next & 1n) !== 0n;
        this.#interrupts.updateWires();
        this.#options.backEnd.featuresChanged?.(Number(next));
      },
    });
    hooks.set('ddtp', {
      // §5.5: an illegal mode, and a change between directory depths, leaves the register as it is.
      legalise: (next, old) => {
        const mode = Number(ddtp.get(next, 'iommu_mode'));
        const was = Number(ddtp.get(old, 'iommu_mode'));
        if (mode > maxMode || mode > ddtpMode['3LVL']) return undefined;
        if (was > ddtpMode.Bare && mode > ddtpMode.Bare) return undefined;
        return ddtp.encode({ iommu_mode: BigInt(mode), PPN: ddtp.get(next, 'PPN') & ppnMask });
      },
      afterWrite: () => this.#tellDirectory(),
    });
    for (const queue of queues) {
      const row = queueRegisters[queue];
      hooks.set(row.base, {
        // §5.6: changing the base of a queue that is on is UNSPECIFIED: it is ignored.
        legalise: (next) => {
          if (csrOf(queue) & (csr.on | csr.busy)) return undefined;
          const size = next & queueSizeField;
          const largest = BigInt(maxQueueLog2 - 1);
          return (((next >> 10n) & ppnMask) << 10n) | (size > largest ? largest : size);
        },
        afterWrite: () => {
          this.#registers.words[offsets[row.index] >>> 2] = 0;
        },
      });
      hooks.set(row.index, {
        word: {
          legalise: (next) => next & indexMask(this.#registers.words[offsets[row.base] >>> 2]!),
          ...(queue === 'c' ? { afterWrite: () => this.#commands.run() } : {}),
        },
      });
      hooks.set(row.csr, this.#controlHook(queue));
    }
    hooks.set('ipsr', {
      word: { legalise: (_next, old) => old, afterWrite: (written) => this.#interrupts.acknowledge(written) },
    });
    hooks.set('icvec', {
      legalise: (next, _old, _row, written, part) => {
        const field = (1n << BigInt(vectorBits)) - 1n;
        // Deviation: the custom half aliases the fields, as in the reference model and what was recorded from it.
        let legal =
          (part === 'high' ? written >> 32n : next) & (field | (field << 4n) | (field << 8n) | (field << 12n));
        if (!features.HPM) legal &= ~icvec.mask('pmiv');
        if (!features.ATS) legal &= ~icvec.mask('piv');
        return legal;
      },
      afterWrite: () => this.#interrupts.updateWires(),
    });
    const physical = (1n << BigInt(features.PAS)) - 1n;
    for (let vector = 0; vector < 16; vector++) {
      const there = vector < 1 << vectorBits;
      const only: WriteHook = { legalise: (next) => (there ? next : 0n) };
      hooks.set(`msi_addr_${vector}`, { legalise: (next) => (there ? next & physical : 0n) });
      hooks.set(`msi_data_${vector}`, only);
      hooks.set(`msi_vec_ctl_${vector}`, {
        ...only,
        afterWrite: (next) => {
          if (next === 0n) this.#interrupts.unmasked(vector);
        },
      });
    }
    hooks.set('iommu_qosid', {
      legalise: (next) => {
        const { RCID, MCID } = this.#options.qosMask ?? { RCID: 0, MCID: 0 };
        return next & (BigInt(RCID) | (BigInt(MCID) << 16n));
      },
    });
    this.#monitorHooks(hooks);
    hooks.set('tr_req_ctl', {
      legalise: (next) => next & ~tr_req_ctl.mask('Go'),
      afterWrite: (_next, _old, _row, written) => {
        if (written & tr_req_ctl.mask('Go')) this.#debugTranslate(written);
      },
    });
    return hooks;
  }

  /** cqcsr, fqcsr, pqcsr. */
  #controlHook(queue: 'c' | 'f' | 'p'): WriteHook {
    return {
      legalise: (next, old) => {
        // §5.15: while busy (only the command queue can be, in a fence) a write is UNSPECIFIED: it is ignored.
        if (old & BigInt(csr.busy)) return undefined;
        let value = Number(next);
        if (value & csr.enable && !(Number(old) & csr.enable)) value = (value & ~errorBits[queue]) | csr.on;
        if (!(value & csr.enable) && Number(old) & csr.on)
          value = queue === 'c' && this.#commands.waiting ? value | csr.busy : value & ~csr.on;
        return BigInt(value >>> 0);
      },
      afterWrite: (next, old) => {
        if (next & BigInt(csr.enable) && !(old & BigInt(csr.enable)))
          this.#registers.words[queueRegisters[queue].own >>> 2] = 0;
        this.#interrupts.updateLevels();
        if (queue === 'c') this.#commands.run();
      },
    };
  }

  #monitorHooks(hooks: Map<string, WriteHook>): void {
    if (!this.features.HPM) return;
    hooks.set('iocountinh', {
      legalise: (next) => {
        this.monitor.sample();
        return next & this.monitor.inhibitMask;
      },
    });
    hooks.set('iohpmcycles', {
      legalise: (next) => {
        this.monitor.sample();
        return this.monitor.legalCycles(next);
      },
      afterWrite: () => this.monitor.refresh(),
    });
    for (let n = 1; n <= 31; n++) {
      hooks.set(`iohpmctr${n}`, { legalise: (next, _old, row) => this.monitor.legalCounter(next, row.index) });
      hooks.set(`iohpmevt${n}`, {
        legalise: (next, old, row) => this.monitor.legalSelector(next, old, row.index),
        afterWrite: () => this.monitor.refresh(),
      });
    }
  }

  /** §4: an untranslated request by software; it completes at once, so Go reads 0 again. */
  #debugTranslate(written: bigint): void {
    const f = tr_req_ctl.decode(written);
    const request: DebugRequest = {
      deviceId: Number(f.DID),
      processIdValid: f.PV === 1n,
      processId: Number(f.PID),
      supervisor: f.Priv === 1n && f.PV === 1n,
      execute: f.Exe === 1n,
      write: f.NW === 0n,
      iova: this.#registers.get64(offsets.tr_req_iova),
    };
    const answer = this.#options.backEnd.debugTranslate?.(request);
    const response = answer
      ? tr_response.encode({ PBMT: BigInt(answer.pbmt), S: BigInt(answer.s), PPN: answer.ppn & ((1n << 44n) - 1n) })
      : tr_response.encode({ fault: 1n });
    this.#registers.set64(offsets.tr_response, response);
  }
}

/** A capabilities value by field names. */
export const encodeCapabilities = (
  fields: Partial<Record<keyof ReturnType<typeof capabilities.decode>, number>>,
): bigint =>
  capabilities.encode(Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, BigInt(value)])));
