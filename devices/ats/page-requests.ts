/**
 * The page request state machine of a function (PCI Express Base 6.0 §10.4, §10.5.2): which groups are outstanding, and
 * the credits that the guest gave (Outstanding Page Request Allocation). Every request of a group holds one credit until
 * the group's response.
 */
import {
  type FunctionStatus,
  type PageRequestMessage,
  type PageResponseMessage,
  type TransactionPort,
  noPasid,
} from '#vmm/base/ports';
import { type Data, field, list, parts, recordOf } from '#vmm/base/saved';

/** Response codes (§10.4.2.1). */
export const responseCode = { success: 0, invalid: 1, failure: 15 } as const;
export type PageOutcome = 'success' | 'invalid' | 'failure' | 'disabled';

/** Who waits for the response of a group; told once. */
export interface PageListener {
  pageAnswered(outcome: PageOutcome): void;
}
type SendOutcome = 'sent' | 'no-credits' | 'disabled';

interface Group {
  readonly pasid: number;
  readonly index: number;
  requests: number;
  /** Its last request was sent. */
  isClosed: boolean;
  listener: PageListener | undefined;
}

/** Group indices are 9 bits wide. */
export const groupIndices = 512;

export class PageRequests {
  port: TransactionPort | undefined;
  status: FunctionStatus | undefined;
  /** Called when credits came back, or none will: whoever waits tries again. */
  onCredits: (() => void) | undefined;
  /** Most requests that can be outstanding, whatever the allocation. */
  readonly capacity: number;
  /** Everybody who may wait for a response now, in an order that a snapshot can rely on. */
  listeners: () => readonly PageListener[] = () => [];
  /** Requests that were sent and are not answered. */
  outstanding = 0;
  #enabled = false;
  /** A Response Failure came: nothing is sent until the interface was disabled and enabled again (§10.4.2.1). */
  #failed = false;
  #allocation = 0;
  readonly #groups: Group[] = [];
  #nextIndex = 0;
  /** To be restored behind those that listen. */
  readonly saved = parts({
    outstanding: field(
      () => this.outstanding,
      (value) => (this.outstanding = value),
    ),
    enabled: field(
      () => this.#enabled,
      (value) => (this.#enabled = value),
    ),
    failed: field(
      () => this.#failed,
      (value) => (this.#failed = value),
    ),
    allocation: field(
      () => this.#allocation,
      (value) => (this.#allocation = value),
    ),
    nextIndex: field(
      () => this.#nextIndex,
      (value) => (this.#nextIndex = value),
    ),
    groups: list(
      () => this.#groups,
      ({ listener, ...group }) => ({ ...group, listener: listener ? this.listeners().indexOf(listener) : -1 }),
      (data: Data): Group => {
        const { listener, ...group } = recordOf(data);
        return { ...(group as unknown as Group), listener: this.listeners()[Number(listener)] };
      },
    ),
  });
  readonly #marker: PageRequestMessage = {
    pasid: 0,
    privileged: false,
    execute: false,
    hi: 0,
    lo: 0,
    read: false,
    write: false,
    last: true,
    group: 0,
  };

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  /** Requests that may be sent now. */
  get credits(): number {
    return this.#enabled && !this.#failed ? Math.max(0, this.#allocation - this.outstanding) : 0;
  }

  /** The guest's enable bit and allocation. Enabling forgets what was outstanding before (§10.5.2.2). */
  configure(enabled: boolean, allocation: number): void {
    const more = allocation > this.#allocation;
    this.#allocation = Math.min(allocation, this.capacity);
    if (enabled && !this.#enabled) {
      this.#forget();
      this.#failed = false;
    }
    this.#enabled = enabled;
    if (!enabled) this.#giveUp();
    // Who waits for credits gets them, or learns that there will be none.
    if (more || !enabled) this.onCredits?.();
  }

  /**
   * Sends one request; `listener` is told of its group's response. With `force` neither the enable bit nor the
   * allocation counts, only the capacity.
   */
  send(message: PageRequestMessage, listener?: PageListener, force = false): SendOutcome {
    if (!this.port || (!force && (!this.#enabled || this.#failed))) return 'disabled';
    if (force ? this.outstanding >= this.capacity : this.credits === 0) return 'no-credits';
    let group = this.#groups.find((g) => !g.isClosed && g.index === message.group && g.pasid === message.pasid);
    if (!group) {
      group = { pasid: message.pasid, index: message.group, requests: 0, isClosed: false, listener: undefined };
      this.#groups.push(group);
    }
    group.requests++;
    group.listener = listener ?? group.listener;
    group.isClosed = message.last;
    this.outstanding++;
    // Last, since the answer may come before it returns.
    this.port.pageRequest(message);
    return 'sent';
  }

  /** §10.4.1.2.1. Needs no credit, being never answered. False when the interface is off. */
  stopMarker(pasid: number, force = false): boolean {
    if (!this.port || (!force && (!this.#enabled || this.#failed))) return false;
    this.#marker.pasid = pasid;
    this.port.pageRequest(this.#marker);
    return true;
  }

  /** A group index that no outstanding group has, or -1. */
  freeIndex(): number {
    for (let tried = 0; tried < groupIndices; tried++) {
      const index = this.#nextIndex;
      this.#nextIndex = (index + 1) % groupIndices;
      if (!this.#groups.some((group) => group.index === index)) return index;
    }
    return -1;
  }

  /** A response arrived (§10.4.2). */
  respond({ pasid, group: index, code }: PageResponseMessage): void {
    // Without a PASID in the response the index alone names the group (PRG Response PASID Required is clear).
    const matches = (g: Group): boolean => g.index === index && (pasid === noPasid || g.pasid === pasid);
    const closed = this.#groups.findIndex((g) => g.isClosed && matches(g));
    const at = closed >= 0 ? closed : this.#groups.findIndex(matches);
    if (at < 0) {
      this.status?.unexpectedPageGroup();
      return;
    }
    const [group] = this.#groups.splice(at, 1);
    this.outstanding -= group!.requests;
    const outcome = outcomes[code] ?? 'failure';
    if (outcome === 'failure') {
      this.#failed = true;
      this.status?.pageResponseFailed();
    }
    group!.listener?.pageAnswered(outcome);
    this.onCredits?.();
  }

  /** The listener is gone; its groups stay outstanding until they are answered. */
  detach(listener: PageListener): void {
    for (const group of this.#groups) if (group.listener === listener) group.listener = undefined;
  }

  /** Power-on state: nothing is outstanding, a response that still comes is unexpected. Listeners are not told. */
  reset(): void {
    this.#forget();
    this.#enabled = false;
    this.#failed = false;
    this.#allocation = 0;
    this.#nextIndex = 0;
  }

  #forget(): void {
    this.#groups.length = 0;
    this.outstanding = 0;
  }

  #giveUp(): void {
    for (const group of this.#groups) {
      const { listener } = group;
      group.listener = undefined;
      listener?.pageAnswered('disabled');
    }
  }
}

const outcomes: Readonly<Record<number, PageOutcome>> = {
  [responseCode.success]: 'success',
  [responseCode.invalid]: 'invalid',
  [responseCode.failure]: 'failure',
};
