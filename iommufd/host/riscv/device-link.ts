import type { Scheduled } from '#vmm/base/clock';
import { quiet, type Trace } from '#vmm/base/events';
import { type Data, field, listOf, parts, recordOf, restoreTimer, saveTimer } from '#vmm/base/saved';
import { type InvalidateRequest, noPasid, type PageResponseMessage, type TranslationEndpoint } from '#vmm/base/ports';
import { pageResponsePayload } from '#iommufd/arch/riscv/faults';
import type { DeviceMessage } from '#iommufd/arch/riscv/ports';
import type { RiscvIommu } from './iommu.ts';

/** A function's end of the link. */
interface LinkedFunction {
  readonly rid: number;
  readonly endpoint: TranslationEndpoint | undefined;
}

interface Outstanding {
  readonly rid: number;
  /** The function was taken away: nobody completes it, whoever comes to have its requester id. */
  isOrphan: boolean;
  timer: Scheduled | undefined;
}

interface DeviceLinkOptions {
  /** Runs work in virtual time, `ns` from now. */
  readonly after: (ns: number, run: () => void) => Scheduled;
  /** How long a device may take to complete an invalidation; default 10 ms. */
  readonly timeoutNs?: number;
  readonly trace?: Trace;
}

/**
 * Deviation: PCI Express Base 6.0 §10.3.1 gives a device a minute. A guest's driver waits for it in a loop, and a minute
 * of that is more instructions than anybody wants to simulate.
 */
const defaultTimeoutNs = 10_000_000;
const itags = 32;
const [groupOf, codeOf] = [pageResponsePayload.reader('PRGI'), pageResponsePayload.reader('code')];

/** The root complex between a RISC-V IOMMU and the functions behind it: messages, and the timer of invalidations. */
export class DeviceLink {
  /** The IOMMU of the link; set once, right after it was made. */
  silicon: RiscvIommu | undefined;
  /** ITag of the latest invalidation that left. */
  latest = 0;
  /**
   * Told of the end of every invalidation, after the IOMMU; may be in the middle of a command of it.
   * Deviation: a driver of real silicon learns it from an IOFENCE.C, behind which every other command of the host would
   * wait for one slow device; here the root complex tells it.
   */
  onEnd: ((itag: number, isDone: boolean) => void) | undefined;
  readonly #functions = new Map<number, LinkedFunction>();
  readonly #outstanding: (Outstanding | undefined)[] = Array.from({ length: itags });
  /** By ITag: the function whose request timed out, and whose completion may still come. */
  readonly #late: (number | undefined)[] = Array.from({ length: itags });
  readonly #after: DeviceLinkOptions['after'];
  readonly #timeoutNs: number;
  readonly #trace: Trace;
  readonly saved = parts({
    latest: field(
      () => this.latest,
      (value) => (this.latest = value),
    ),
    outstanding: {
      save: () =>
        this.#outstanding.map((one) => one && { rid: one.rid, isOrphan: one.isOrphan, timer: saveTimer(one.timer) }),
      restore: (data: Data) => {
        for (const [itag, item] of listOf(data).entries()) this.#outstanding[itag] = this.#takeUp(itag, item);
      },
    },
    late: {
      save: () => this.#late,
      restore: (data: Data) => {
        for (const [itag, rid] of listOf(data).entries()) this.#late[itag] = rid as number | undefined;
      },
    },
  });

  constructor({ after, timeoutNs = defaultTimeoutNs, trace = quiet }: DeviceLinkOptions) {
    this.#after = after;
    this.#timeoutNs = timeoutNs;
    this.#trace = trace;
  }

  #takeUp(itag: number, data: Data): Outstanding | undefined {
    if (data === undefined) return undefined;
    const { rid, isOrphan, timer } = recordOf(data);
    return {
      rid: Number(rid),
      isOrphan: isOrphan === true,
      timer: restoreTimer(timer, () => this.#after(0, () => this.#end(itag, false))),
    };
  }

  attach(fn: LinkedFunction): void {
    this.#functions.set(fn.rid, fn);
  }

  /** The function was taken away; what it has not completed times out. */
  detach(rid: number): void {
    this.#functions.delete(rid);
    for (const one of this.#outstanding) if (one?.rid === rid) one.isOrphan = true;
    for (const [itag, late] of this.#late.entries()) if (late === rid) this.#late[itag] = undefined;
  }

  /** Invalidations that devices have not completed. */
  get outstanding(): number {
    return this.#outstanding.filter((one) => one !== undefined).length;
  }

  #endpoint({ rid, segment }: DeviceMessage): TranslationEndpoint | undefined {
    return segment === undefined || segment === 0 ? this.#functions.get(rid)?.endpoint : undefined;
  }

  /** An ATS Invalidation Request. With nobody to answer it times out (§3.1.4). */
  invalidate(message: DeviceMessage, itag: number): void {
    const { rid, processId, payload } = message;
    this.latest = itag;
    const one: Outstanding = { rid, isOrphan: false, timer: undefined };
    this.#outstanding[itag] = one;
    const request: InvalidateRequest = {
      itag,
      pasid: processId ?? noPasid,
      hi: Number((payload >> 32n) & 0xffff_ffffn),
      lo: Number(payload & 0xffff_ffffn),
    };
    if (this.#trace.on)
      this.#trace.emit('ats.invalidate', { rid, pasid: request.pasid, itag, payload: payload & ~0xfffn });
    this.#endpoint(message)?.invalidate(request);
    if (this.#outstanding[itag] === one) one.timer = this.#after(this.#timeoutNs, () => this.#end(itag, false));
  }

  /**
   * An Invalidate Completion of a function; one that nobody waits for is an Unexpected Completion, and dropped. After a
   * timeout the first one is taken for the late one: a request must rather time out than be completed by another's.
   */
  completed(rid: number, itag: number): void {
    const one = this.#outstanding[itag];
    const isLate = this.#late[itag] === rid;
    if (isLate) this.#late[itag] = undefined;
    if (one?.rid === rid && !one.isOrphan && !isLate) this.#end(itag, true);
    else if (this.#trace.on) this.#trace.emit('ats.unexpected-completion', { rid, itag });
  }

  #end(itag: number, isDone: boolean): void {
    const one = this.#outstanding[itag]!;
    this.#outstanding[itag] = undefined;
    one.timer?.cancel();
    if (this.#trace.on)
      this.#trace.emit('ats.completion', { rid: one.rid, itag, outcome: isDone ? 'done' : 'timeout' });
    if (!isDone && !one.isOrphan && this.#functions.get(one.rid)?.endpoint) this.#late[itag] = one.rid;
    const vector = (1 << itag) >>> 0;
    if (isDone) this.silicon?.invalidationCompleted(one.rid, undefined, vector, 1);
    else this.silicon?.invalidationTimedOut(vector);
    this.onEnd?.(itag, isDone);
  }

  /** A Page Request Group Response. */
  respond(message: DeviceMessage): void {
    const high = Number(message.payload >> 32n);
    const response: PageResponseMessage = {
      pasid: message.processId ?? noPasid,
      group: groupOf(0, high),
      code: codeOf(0, high),
    };
    if (this.#trace.on)
      this.#trace.emit('pri.response', {
        rid: message.rid,
        pasid: response.pasid,
        group: response.group,
        code: response.code,
      });
    this.#endpoint(message)?.pageResponse(response);
  }
}
