/** The PAGE_REQUEST operation: a group of page requests of the shape that a descriptor tells. */
import type { PageListener, PageOutcome } from '../ats/page-requests.ts';
import { field, parts, properties } from '#vmm/base/saved';
import { type Activity, pageStatus } from './access.ts';
import { flag, mode, pageFlag, statuses } from './descriptors.ts';
import type { Link } from './link.ts';

/** Messages sent in one event. */
const mostAtOnce = 32;
const pageBytes = 4096;

export interface GroupShape {
  readonly sourceHi: number;
  readonly sourceLo: number;
  readonly sourceMode: number;
  /** `noPasid` without. */
  readonly sourcePasid: number;
  readonly group: number;
  readonly pageFlags: number;
  readonly pages: number;
  readonly flags: number;
}

export class PageGroup implements Activity, PageListener {
  readyAt = Infinity;
  status = 0;
  faultOffset = 0;
  sent = 0;
  readonly #link: Link;
  #shape: GroupShape | undefined;
  #state: 'sending' | 'credits' | 'responding' | 'over' = 'over';
  readonly saved = parts({
    progress: properties(() => this, ['readyAt', 'status', 'faultOffset', 'sent']),
    state: field(
      () => this.#state,
      (state) => (this.#state = state),
    ),
  });

  constructor(link: Link) {
    this.#link = link;
  }

  /** After a snapshot: what it had been begun with. */
  takeUp(shape: GroupShape): void {
    this.#shape = shape;
  }

  begin(shape: GroupShape): void {
    this.#shape = shape;
    this.sent = 0;
    this.status = 0;
    this.#state = 'sending';
    this.readyAt = this.#link.clock.now;
  }

  step(): boolean {
    if (this.#state === 'sending' || this.#state === 'credits') this.#send();
    return this.#state === 'over';
  }

  cancel(): void {
    this.#link.pages.detach(this);
    this.#state = 'over';
    this.readyAt = Infinity;
  }

  creditsChanged(): void {
    if (this.#state === 'credits') this.readyAt = this.#link.clock.now;
  }

  pageAnswered(outcome: PageOutcome): void {
    if (this.#state === 'over') return;
    this.readyAt = this.#link.clock.now;
    this.#end(pageStatus[outcome]);
    this.#link.wake();
  }

  #send(): void {
    const shape = this.#shape!;
    const { pages, pageMessage: message, isUnchecked, counts } = this.#link;
    const refusal = this.#link.messageRefusal(shape.sourceMode, shape.sourcePasid);
    if (refusal !== statuses.SUCCESS.value) return this.#end(refusal);
    const isLastSet = (shape.pageFlags & pageFlag.LAST.value) !== 0;
    const waits = isLastSet && (shape.flags & flag.NO_WAIT.value) === 0;
    for (let n = 0; n < mostAtOnce && this.sent < shape.pages; n++) {
      const lo = ((shape.sourceLo & ~(pageBytes - 1)) >>> 0) + this.sent * pageBytes;
      const isLast = this.sent === shape.pages - 1;
      message.hi = (shape.sourceHi + (lo > 0xffff_ffff ? 1 : 0)) >>> 0;
      message.lo = lo >>> 0;
      message.read = (shape.pageFlags & pageFlag.READ.value) !== 0;
      message.write = (shape.pageFlags & pageFlag.WRITE.value) !== 0;
      message.last = isLast && isLastSet;
      message.group = shape.group;
      message.pasid = shape.sourcePasid;
      message.privileged = (shape.sourceMode & mode.PRIVILEGED.value) !== 0;
      message.execute = (shape.sourceMode & mode.EXECUTE.value) !== 0;
      if (isLast) {
        this.#state = 'responding';
        this.readyAt = Infinity;
      }
      this.sent++;
      const outcome = pages.send(message, waits ? this : undefined, isUnchecked);
      // The answer was there at once.
      if (this.#isOver) return;
      if (outcome === 'sent') {
        counts.pageRequests++;
        continue;
      }
      this.sent--;
      if (outcome === 'disabled') return this.#end(statuses.NOT_ENABLED.value);
      if ((shape.flags & flag.NO_WAIT.value) !== 0) return this.#end(statuses.NO_CREDITS.value);
      this.#state = 'credits';
      this.readyAt = Infinity;
      return;
    }
    if (this.sent === shape.pages && !waits) this.#end(statuses.SUCCESS.value);
    else if (this.sent < shape.pages) this.readyAt = this.#link.clock.now + this.#link.requestNs;
  }

  get #isOver(): boolean {
    return this.#state === 'over';
  }

  #end(status: number): void {
    this.status = status;
    this.#state = 'over';
  }
}
