/** One descriptor under way. */
import { noPasid } from '#vmm/base/ports';
import { array, field as variable, part, parts, properties, sparseBytes } from '#vmm/base/saved';
import { Access, type AccessKind, type Activity } from './access.ts';
import { completion, descriptor, flag, mode, statusName, statuses } from './descriptors.ts';
import type { Link } from './link.ts';
import { type Operation, atomicOf, faultOf, operationOf } from './operations.ts';
import { type GroupShape, PageGroup } from './page-group.ts';

const pageBytes = 4096;
const field = {
  source: descriptor.offset('source'),
  destination: descriptor.offset('destination'),
  length: descriptor.offset('length'),
  sourcePasid: descriptor.offset('source_pasid'),
  destinationPasid: descriptor.offset('destination_pasid'),
  group: descriptor.offset('group'),
  pageFlags: descriptor.offset('page_flags'),
  operandBytes: descriptor.offset('operand_bytes'),
  operand: descriptor.offset('operand'),
  compare: descriptor.offset('compare'),
  pages: descriptor.offset('pages'),
  delay: descriptor.offset('delay_ns'),
} as const;

/** What an OWNED queue's descriptors are held to. */
// A type, not an interface: a snapshot holds it as it is.
export type Owner = {
  readonly mode: number;
  readonly pasid: number;
  /** The page of local memory that is the queue's. */
  readonly localFirst: number;
  readonly localBytes: number;
};

export class Transaction implements GroupShape {
  readyAt = Infinity;
  state: 'waiting' | 'running' | 'finished' = 'finished';
  // The descriptor.
  opcode = 0;
  flags = 0;
  tag = 0;
  index = 0;
  sourceMode = 0;
  sourceHi = 0;
  sourceLo = 0;
  sourcePasid = noPasid;
  destinationMode = 0;
  destinationHi = 0;
  destinationLo = 0;
  destinationPasid = noPasid;
  length = 0;
  group = 0;
  pageFlags = 0;
  operandBytes = 0;
  pages = 0;
  delayNs = 0;
  /** operand and compare, 8 bytes each, as they stand in memory. */
  readonly operands = new Uint8Array(16);
  owner: Owner | undefined;
  // How far it is.
  progress = 0;
  /** Bytes of the chunk under way. */
  chunk = 0;
  /** Which half of a chunk is under way; the operation's own. */
  stage = 0;
  status = 0;
  faultOffset = 0;
  valueHi = 0;
  valueLo = 0;
  usedHi = 0;
  usedLo = 0;
  rights = 0;
  rangeShift = 0;
  translations = 0;
  pageRequests = 0;
  stale = 0;
  startedAt = 0;
  finishedAt = 0;
  readonly link: Link;
  readonly first = new Uint8Array(pageBytes);
  readonly second = new Uint8Array(pageBytes);
  readonly access: Access;
  readonly pageGroup: PageGroup;
  #operation: Operation | undefined;
  #activity: Activity | undefined;
  /** Of the record that it reported into last. */
  #reportView: DataView | undefined;
  readonly saved = parts(
    {
      descriptor: properties(() => this, ['opcode', 'flags', 'tag', 'index', 'sourceMode', 'sourceHi', 'sourceLo', 'sourcePasid', 'destinationMode', 'destinationHi', 'destinationLo', 'destinationPasid', 'length', 'group', 'pageFlags', 'operandBytes', 'pages', 'delayNs', 'owner']), // prettier-ignore
      operands: array(() => this.operands),
      progress: properties(() => this, ['readyAt', 'state', 'progress', 'chunk', 'stage', 'status', 'faultOffset', 'valueHi', 'valueLo', 'usedHi', 'usedLo', 'rights', 'rangeShift', 'translations', 'pageRequests', 'stale', 'startedAt', 'finishedAt']), // prettier-ignore
      first: sparseBytes(() => this.first),
      second: sparseBytes(() => this.second),
      access: part(() => this.access),
      pageGroup: part(() => this.pageGroup),
      activity: variable(
        () => (this.#activity === this.access ? 'access' : this.#activity === this.pageGroup ? 'pages' : 'none'),
        (name) => (this.#activity = name === 'access' ? this.access : name === 'pages' ? this.pageGroup : undefined),
      ),
    },
    () => {
      this.#operation = operationOf(this.opcode);
      if (this.#operation?.change) this.access.atomic = atomicOf(this, this.#operation.change);
      this.pageGroup.takeUp(this);
    },
  );

  constructor(link: Link) {
    this.link = link;
    this.access = new Access(link, [link.local.bytes, this.first, this.second]);
    this.pageGroup = new PageGroup(link);
  }

  /** Takes a descriptor out of `bytes`. `index` is its place in the ring. */
  load(bytes: Uint8Array, at: number, index: number, owner: Owner | undefined): void {
    const u32 = (offset: number): number =>
      (bytes[at + offset]! | (bytes[at + offset + 1]! << 8) | (bytes[at + offset + 2]! << 16) | (bytes[at + offset + 3]! << 24)) >>> 0; // prettier-ignore
    this.opcode = bytes[at]!;
    this.sourceMode = bytes[at + 1]!;
    this.destinationMode = bytes[at + 2]!;
    this.flags = bytes[at + 3]!;
    this.tag = u32(4);
    this.sourceLo = u32(field.source);
    this.sourceHi = u32(field.source + 4);
    this.destinationLo = u32(field.destination);
    this.destinationHi = u32(field.destination + 4);
    this.length = u32(field.length);
    this.sourcePasid = u32(field.sourcePasid);
    this.destinationPasid = u32(field.destinationPasid);
    this.group = bytes[at + field.group]! | (bytes[at + field.group + 1]! << 8);
    this.pageFlags = bytes[at + field.pageFlags]!;
    this.operandBytes = bytes[at + field.operandBytes]!;
    this.pages = u32(field.pages);
    this.delayNs = u32(field.delay);
    this.operands.set(bytes.subarray(at + field.operand, at + field.operand + 16));
    this.owner = owner;
    this.index = index;
    this.progress = this.chunk = this.stage = 0;
    this.status = this.faultOffset = 0;
    this.valueHi = this.valueLo = this.usedHi = this.usedLo = 0;
    this.rights = this.rangeShift = this.translations = this.pageRequests = this.stale = 0;
    // A request that is refused uses no address, and not that of the descriptor before.
    this.access.usedHi = this.access.usedLo = 0;
    this.#activity = undefined;
    this.#operation = operationOf(this.opcode);
    this.state = 'waiting';
    this.startedAt = this.link.clock.now;
    this.readyAt = this.hasFence ? Infinity : this.startedAt + this.delayNs;
  }

  get hasFence(): boolean {
    return (this.flags & flag.FENCE.value) !== 0;
  }

  /** Everything before it in the ring is complete. */
  becameOldest(): void {
    if (this.state === 'waiting' && this.hasFence && this.readyAt === Infinity)
      this.readyAt = this.link.clock.now + this.delayNs;
  }

  /** Goes on; true when it has finished. At most one memory request takes effect in one call. */
  step(): boolean {
    if (this.state === 'waiting') this.#start();
    while (this.state === 'running') {
      const activity = this.#activity;
      if (activity) {
        if (!activity.step()) {
          this.readyAt = activity.readyAt;
          return false;
        }
        this.#collect(activity);
        if (this.status !== statuses.SUCCESS.value) break;
      }
      this.#activity = undefined;
      if (!this.#operation!.advance(this)) break;
    }
    this.#finish();
    return true;
  }

  #start(): void {
    this.state = 'running';
    this.startedAt = this.link.clock.now;
    this.#applyOwner();
    this.status = this.#operation ? faultOf(this.#operation, this) : statuses.INVALID_DESCRIPTOR.value;
    if (this.status !== statuses.SUCCESS.value) this.state = 'finished';
  }

  /** An OWNED queue's PASID and rights are not its descriptors' to choose. */
  #applyOwner(): void {
    const { owner } = this;
    const imposed = mode.PASID.value | mode.PRIVILEGED.value;
    if (owner) {
      this.sourceMode = (this.sourceMode & ~imposed) | (owner.mode & imposed);
      this.destinationMode = (this.destinationMode & ~imposed) | (owner.mode & imposed);
      this.sourcePasid = this.destinationPasid = owner.pasid;
    }
    if ((this.sourceMode & mode.PASID.value) === 0) this.sourcePasid = noPasid;
    if ((this.destinationMode & mode.PASID.value) === 0) this.destinationPasid = noPasid;
  }

  /** Nothing of it reaches memory any more. */
  cancel(): void {
    this.#activity?.cancel();
    this.#activity = undefined;
    this.state = 'finished';
    this.readyAt = Infinity;
  }

  /** Requests that had no effect yet are taken back; they start again when the function may send. */
  retract(): void {
    if (this.#activity !== this.access) return;
    this.access.retract();
    if (this.state === 'running') this.readyAt = this.access.readyAt;
  }

  /** An activity may have become ready while somebody else was running. */
  refresh(): void {
    if (this.state === 'running' && this.#activity) this.readyAt = this.#activity.readyAt;
  }

  creditsChanged(): void {
    if (this.#activity === this.access) this.access.creditsChanged();
    else if (this.#activity === this.pageGroup) this.pageGroup.creditsChanged();
    this.refresh();
  }

  // ── For operations ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Length of the next chunk at an address: it ends with the transaction, its page or the largest request. */
  chunkAt(lo: number): number {
    return Math.min(this.length - this.progress, this.link.chunkBytes, pageBytes - ((lo + this.progress) % pageBytes));
  }

  /** Begins a memory request at source (or destination) + progress. */
  request(kind: AccessKind, side: 'source' | 'destination', length: number, buffer: Uint8Array, at = 0): void {
    const isSource = side === 'source';
    const lo = (isSource ? this.sourceLo : this.destinationLo) + this.progress;
    const hi = (isSource ? this.sourceHi : this.destinationHi) + (lo > 0xffff_ffff ? 1 : 0);
    const modeBits = isSource ? this.sourceMode : this.destinationMode;
    const pasid = isSource ? this.sourcePasid : this.destinationPasid;
    this.chunk = length;
    this.access.begin(kind, modeBits, pasid, hi >>> 0, lo >>> 0, length, buffer, at);
    this.#activity = this.access;
  }

  requestPages(): void {
    this.pageGroup.begin(this);
    this.#activity = this.pageGroup;
  }

  #collect(activity: Activity): void {
    this.status = activity.status;
    if (activity === this.pageGroup) {
      this.pageRequests += this.pageGroup.sent;
      return;
    }
    const { access } = this;
    if (access.status !== statuses.SUCCESS.value) this.faultOffset = this.progress + access.faultOffset;
    this.usedHi = access.usedHi;
    this.usedLo = access.usedLo;
    this.translations += access.translations;
    this.pageRequests += access.pageRequests;
    this.stale += access.stale;
    if (access.translations > 0) {
      this.rights = access.rights;
      this.rangeShift = access.rangeShift;
    }
    if (access.pageRequests > 0) this.group = access.group;
  }

  #finish(): void {
    this.state = 'finished';
    this.readyAt = Infinity;
    this.finishedAt = this.link.clock.now;
    const { counts, trace, name } = this.link;
    counts.transactions++;
    if (this.status !== statuses.SUCCESS.value) counts.errors++;
    if (trace.on)
      trace.emit('exerciser.transaction', {
        device: name,
        operation: this.#operation?.name ?? `opcode ${this.opcode}`,
        tag: this.tag,
        status: statusName(this.status),
        bytes: this.progress,
        fault_offset: this.faultOffset,
        latency_ns: this.finishedAt - this.startedAt,
      });
  }

  /** Its completion record, with this phase bit, into `target`. */
  report(target: Uint8Array, phase: number): void {
    target.fill(0, 0, completion.size);
    const { buffer, byteOffset } = target;
    if (this.#reportView?.buffer !== buffer || this.#reportView.byteOffset !== byteOffset)
      this.#reportView = new DataView(buffer, byteOffset, completion.size);
    const view = this.#reportView;
    view.setUint32(record.tag, this.tag, true);
    target[record.status] = this.status;
    target[record.phase] = phase;
    target[record.rights] = this.rights;
    target[record.opcode] = this.opcode;
    view.setUint32(record.value, this.valueLo, true);
    view.setUint32(record.value + 4, this.valueHi, true);
    view.setUint32(record.translated, this.usedLo, true);
    view.setUint32(record.translated + 4, this.usedHi, true);
    view.setUint32(record.fault, this.faultOffset, true);
    view.setUint32(record.done, this.progress, true);
    setTime(view, record.latency, this.finishedAt - this.startedAt);
    setTime(view, record.started, this.startedAt);
    view.setUint16(record.translations, Math.min(this.translations, 0xffff), true);
    view.setUint16(record.pageRequests, Math.min(this.pageRequests, 0xffff), true);
    view.setUint16(record.stale, Math.min(this.stale, 0xffff), true);
    view.setUint16(record.group, this.group, true);
    view.setUint16(record.index, this.index, true);
    target[record.rangeShift] = this.rangeShift;
  }
}

/** Virtual time in 8 bytes. */
const setTime = (view: DataView, offset: number, ns: number): void => {
  view.setUint32(offset, ns % 2 ** 32, true);
  view.setUint32(offset + 4, Math.floor(ns / 2 ** 32), true);
};

const record = {
  tag: completion.offset('tag'),
  status: completion.offset('status'),
  phase: completion.offset('phase'),
  rights: completion.offset('rights'),
  opcode: completion.offset('opcode'),
  value: completion.offset('value'),
  translated: completion.offset('translated'),
  fault: completion.offset('fault_offset'),
  done: completion.offset('bytes_done'),
  latency: completion.offset('latency_ns'),
  started: completion.offset('started_ns'),
  translations: completion.offset('translations'),
  pageRequests: completion.offset('page_requests'),
  stale: completion.offset('stale'),
  group: completion.offset('group'),
  index: completion.offset('index'),
  rangeShift: completion.offset('range_shift'),
} as const;
