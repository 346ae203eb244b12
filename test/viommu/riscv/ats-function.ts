import type {
  DmaPort,
  InvalidateRequest,
  MemoryRequest,
  PageRequestMessage,
  PageResponseMessage,
  PciFunction,
  TransactionPort,
  TranslationCompletion,
  TranslationEndpoint,
} from '#vmm/base/ports';

/** A function with ATS, PRI and PASID that does nothing by itself: the test plays it. */
export class AtsFunction implements PciFunction, TranslationEndpoint {
  readonly name: string;
  readonly vendorId = 0x1234;
  readonly deviceId = 1;
  readonly classCode = 0xff0000;
  readonly revision = 0;
  readonly subsystemVendorId = 0;
  readonly subsystemId = 0;
  readonly bars = [];
  readonly flr = true;
  readonly ats = { invalidateQueueDepth: 32 };
  readonly pri = { capacity: 4096 };
  readonly pasid = { bits: 20, execute: true, privileged: true };
  readonly invalidations: InvalidateRequest[] = [];
  readonly responses: PageResponseMessage[] = [];
  /** Completes invalidations at once. */
  answers = true;
  port!: TransactionPort;

  constructor(name: string) {
    this.name = name;
  }
  connect(port: DmaPort): void {
    this.port = port as TransactionPort;
    this.port.endpoint = this;
  }
  reset(): void {}
  busMaster(): void {}
  invalidate(request: InvalidateRequest): void {
    this.invalidations.push({ ...request });
    if (this.answers) this.port.invalidationCompleted(request.itag);
  }
  pageResponse(response: PageResponseMessage): void {
    this.responses.push({ ...response });
  }

  /** Completes what was left open. */
  completeInvalidations(): void {
    for (const { itag } of this.invalidations.splice(0)) this.port.invalidationCompleted(itag);
  }
  /** Responses since the last time, as [pasid, group, code]. */
  takeResponses(): [number, number, number][] {
    return this.responses.splice(0).map(({ pasid, group, code }) => [pasid, group, code]);
  }

  translate(
    iova: bigint,
    pasid = -1,
    more: { privileged?: boolean; execute?: boolean; noWrite?: boolean } = {},
  ): TranslationCompletion {
    const { privileged = false, execute = false, noWrite = false } = more;
    return { ...this.port.translate({ ...halves(iova), pasid, privileged, execute, noWrite }) };
  }
  access(
    kind: MemoryRequest['kind'],
    iova: bigint,
    length: number,
    pasid = -1,
    isTranslated = false,
    privileged = false,
  ) {
    const request = { kind, ...halves(iova), length, pasid, isTranslated, privileged, execute: false };
    const { count, offsets, lengths, faults } = this.port.access(request);
    return { segments: Array.from({ length: count }, (_, i) => [offsets[i]!, lengths[i]!]), faults };
  }
  ask(iova: bigint, group: number, more: Partial<PageRequestMessage> = {}): void {
    this.port.pageRequest({
      ...halves(iova),
      pasid: 1,
      privileged: false,
      execute: false,
      read: true,
      write: true,
      last: true,
      group,
      ...more,
    });
  }
}

const halves = (iova: bigint): { hi: number; lo: number } => ({
  hi: Number(iova >> 32n),
  lo: Number(iova & 0xffff_ffffn),
});
