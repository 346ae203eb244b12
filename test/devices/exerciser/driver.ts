/** A fake way to memory with ATS, PRI and PASID over plain bytes, and a driver for the exerciser on it. */
import { Clock } from '#vmm/base/clock';
import { Trace } from '#vmm/base/events';
import {
  type DmaFault,
  type DmaPort,
  type DmaResult,
  type IrqLine,
  type MemoryRequest,
  type MmioDevice,
  type PageRequestMessage,
  type TransactionPort,
  type TranslationCompletion,
  type TranslationEnables,
  type TranslationEndpoint,
  type TranslationRequest,
  noPasid,
} from '#vmm/base/ports';
import { completion, descriptor, mode, statuses } from '#devices/exerciser/descriptors';
import { type ExerciserOptions, exerciser } from '#devices/exerciser/device';
import { type OperationName, operations } from '#devices/exerciser/operations';
import { type RegisterName, type RegisterRow, registers } from '#devices/exerciser/registers';

const pageBytes = 4096;
/** Log of every request: `pasid` -1 without. */
type Sent =
  | ({ readonly type: 'access' } & MemoryRequest)
  | ({ readonly type: 'translate' } & TranslationRequest)
  | ({ readonly type: 'page' } & PageRequestMessage)
  | { readonly type: 'invalidated'; readonly itag: number };

export interface Mapping {
  /** Page it leads to. */
  to: number;
  read: boolean;
  write: boolean;
  execute?: boolean;
  /** For supervisors only. */
  privileged?: boolean;
  global?: boolean;
  untranslatedOnly?: boolean;
  /** Part of a range of 2^shift bytes; default 12. */
  shift?: number;
}

/** Splits at pages, translates by a map a PASID; translated addresses are places in `memory`. */
export class FakePort implements TransactionPort {
  readonly memory: Uint8Array;
  readonly view: DataView;
  endpoint: TranslationEndpoint | undefined;
  readonly sent: Sent[] = [];
  /** By PASID, then by untranslated page; no map at all is the identity with all rights. */
  readonly maps = new Map<number, Map<number, Mapping>>();
  /** Untranslated pages that are answered with Completer Abort. */
  readonly aborting = new Set<number>();
  readonly #result: DmaResult & { faults: DmaFault[] } = {
    count: 0,
    offsets: new Float64Array(64),
    lengths: new Int32Array(64),
    faults: [],
  };

  constructor(bytes: number) {
    this.memory = new Uint8Array(bytes);
    this.view = new DataView(this.memory.buffer);
  }

  map(pasid: number, page: number, mapping: Mapping): void {
    if (!this.maps.has(pasid)) this.maps.set(pasid, new Map());
    this.maps.get(pasid)!.set(page, mapping);
  }

  read(hi: number, lo: number, length: number, pasid = noPasid): DmaResult {
    return this.access({ kind: 'read', isTranslated: false, hi, lo, length, pasid, privileged: false, execute: false });
  }

  write(hi: number, lo: number, length: number, pasid = noPasid): DmaResult {
    return this.access({ kind: 'write', isTranslated: false, hi, lo, length, pasid, privileged: false, execute: false }); // prettier-ignore
  }

  message(): boolean {
    return true;
  }

  access(request: MemoryRequest): DmaResult {
    this.sent.push({ type: 'access', ...request });
    const result = this.#result;
    result.count = 0;
    result.faults = [];
    const { hi, lo, length, kind } = request;
    if (length < 1 || (lo % pageBytes) + length > pageBytes) throw new Error('a request across a page');
    if (kind === 'atomic' && lo % length !== 0) throw new Error('a misaligned atomic');
    const address = hi * 2 ** 32 + lo;
    const page = Math.floor(address / pageBytes);
    const mapping = request.isTranslated ? identity(page) : this.#look(request.pasid, page);
    const status = this.aborting.has(page) ? 'completer-abort' : 'unsupported-request';
    const isAllowed =
      mapping !== undefined &&
      !this.aborting.has(page) &&
      (kind === 'write' || mapping.read) &&
      (kind === 'read' || mapping.write) &&
      (!request.execute || mapping.execute === true) &&
      (mapping.privileged !== true || request.privileged);
    const at = (mapping?.to ?? 0) * pageBytes + (address % pageBytes);
    if (isAllowed && at + length <= this.memory.length) {
      result.count = 1;
      result.offsets[0] = at;
      result.lengths[0] = length;
    } else result.faults.push({ first: 0, last: length - 1, status });
    return result;
  }

  translate(request: TranslationRequest): TranslationCompletion {
    this.sent.push({ type: 'translate', ...request });
    const page = Math.floor((request.hi * 2 ** 32 + request.lo) / pageBytes);
    const mapping = this.#look(request.pasid, page);
    const isVisible = mapping !== undefined && (mapping.privileged !== true || request.privileged);
    const shift = mapping?.shift ?? 12;
    const pages = 2 ** (shift - 12);
    const to = mapping ? (mapping.to - (page % pages)) * pageBytes : 0;
    return {
      status: this.aborting.has(page) ? 'completer-abort' : 'success',
      hi: Math.floor(to / 2 ** 32),
      lo: to >>> 0,
      shift,
      read: isVisible && mapping.read,
      write: isVisible && mapping.write && !request.noWrite,
      execute: isVisible && request.execute && mapping.execute === true,
      privileged: request.privileged,
      global: mapping?.global ?? false,
      untranslatedOnly: mapping?.untranslatedOnly ?? false,
    };
  }

  pageRequest(message: PageRequestMessage): void {
    this.sent.push({ type: 'page', ...message });
    this.onPageRequest?.(message);
  }
  onPageRequest: ((message: PageRequestMessage) => void) | undefined;

  invalidationCompleted(itag: number): void {
    this.sent.push({ type: 'invalidated', itag });
  }

  #look(pasid: number, page: number): Mapping | undefined {
    return this.maps.size === 0 ? identity(page) : this.maps.get(pasid)?.get(page);
  }

  of<T extends Sent['type']>(type: T): Extract<Sent, { type: T }>[] {
    return this.sent.filter((sent): sent is Extract<Sent, { type: T }> => sent.type === type);
  }
}
const identity = (page: number): Mapping => ({ to: page, read: true, write: true });

/** The same bytes without anything but reads and writes. */
const plainPort = (port: FakePort): DmaPort => ({
  get memory() {
    return port.memory;
  },
  read: (...request) => port.read(...request),
  write: (...request) => port.write(...request),
  message: () => true,
});

export const everything: TranslationEnables = {
  ats: true,
  smallestTranslationShift: 12,
  pri: true,
  pageRequestAllocation: 16,
  pasid: true,
  pasidExecute: true,
  pasidPrivileged: true,
};

export type Request = Omit<Partial<ReturnType<typeof descriptor.decode>>, 'opcode'> & {
  opcode: OperationName | number;
};

/** Where things are, in local memory or in memory. */
export const place = { ring: 0x8000, completions: 0xc000, data: 0x0, ringInMemory: 0x10_0000, completionsInMemory: 0x11_0000 }; // prettier-ignore
const entriesShift = 6;
const entries = 2 ** entriesShift;

export interface QueueSetup {
  readonly control?: number;
  readonly attributes?: number;
  readonly parallel?: number;
  readonly isLocal?: boolean;
}

export interface Line extends IrqLine {
  raised: number;
}

export class TestDriver {
  readonly clock = new Clock();
  readonly trace = new Trace(() => this.clock.now);
  readonly port = new FakePort(4 << 20);
  readonly device;
  readonly lines: Line[];
  readonly status = { failed: 0, unexpected: 0, pending: [] as boolean[] };
  readonly #registers: MmioDevice;
  readonly #local: MmioDevice;
  readonly #tails = new Map<number, number>();
  readonly #heads = new Map<number, number>();
  readonly #setups = new Map<number, QueueSetup>();

  constructor(options: Partial<ExerciserOptions> & { plain?: boolean } = {}) {
    this.device = exerciser({ name: 'ex0', clock: this.clock, trace: this.trace, ...options });
    this.#registers = this.device.bars[0]!.device!;
    this.#local = this.device.bars[1]!.device!;
    this.lines = Array.from({ length: 16 }, () => ({
      raised: 0,
      raise() {
        this.raised++;
      },
      lower() {},
    }));
    this.device.connect(options.plain ? plainPort(this.port) : this.port, this.lines, {
      pageResponseFailed: () => this.status.failed++,
      unexpectedPageGroup: () => this.status.unexpected++,
      transactionsPending: (pending) => this.status.pending.push(pending),
    });
    this.device.busMaster(true);
    if (!options.plain) this.device.translation(everything);
  }

  offset(name: RegisterName, queue = 0): number {
    const row: RegisterRow = registers[name];
    return row.offset + queue * (row.stride ?? 0);
  }
  get(name: RegisterName, queue = 0): number {
    return this.#registers.read(this.offset(name, queue), 4) as number;
  }
  set(name: RegisterName, value: number, queue = 0): void {
    this.#registers.write(this.offset(name, queue), 4, value);
  }
  get bar(): MmioDevice {
    return this.#registers;
  }
  get localBar(): MmioDevice {
    return this.#local;
  }

  local(offset: number, bytes: Uint8Array): void {
    bytes.forEach((byte, i) => this.#local.write(offset + i, 1, byte));
  }
  fromLocal(offset: number, length: number): Uint8Array {
    return Uint8Array.from({ length }, (_, i) => this.#local.read(offset + i, 1) as number);
  }

  /** Rings in local memory, one queue's beside another's, or in memory. */
  rings(queue: number, isLocal: boolean): { ring: number; completions: number } {
    if (!isLocal) return { ring: place.ringInMemory + queue * 0x1000, completions: place.completionsInMemory + queue * 0x1000 }; // prettier-ignore
    if (queue > 3) throw new Error('local rings are for the first queues');
    return { ring: place.ring + queue * 0x1000, completions: place.completions + queue * 0x1000 };
  }

  enable(queue = 0, setup: QueueSetup = {}): void {
    const { control = 0, attributes = 0, parallel = 8, isLocal = true } = setup;
    const { ring, completions } = this.rings(queue, isLocal);
    this.set('QCONTROL', 0, queue);
    this.set('QATTRIBUTES', attributes, queue);
    this.set('QBASE_LO', ring, queue);
    this.set('QCOMPLETION_LO', completions, queue);
    this.set('QVECTOR', queue, queue);
    this.set('QCONTROL', control | 1 | (isLocal ? 6 : 0) | (parallel << 8) | (entriesShift << 16) | (entriesShift << 20), queue); // prettier-ignore
    this.#tails.set(queue, 0);
    this.#heads.set(queue, 0);
    this.#setups.set(queue, setup);
    if (isLocal) this.local(completions, new Uint8Array(0x1000));
    else this.port.memory.fill(0, completions, completions + 0x1000);
  }

  /** Writes descriptors and, at the end, the doorbell. */
  submit(requests: readonly Request[], queue = 0): void {
    const isLocal = this.#setups.get(queue)?.isLocal ?? true;
    const { ring } = this.rings(queue, isLocal);
    let tail = this.#tails.get(queue)!;
    for (const { opcode, ...rest } of requests) {
      const number = typeof opcode === 'number' ? opcode : operations[opcode].opcode;
      const bytes = descriptor.encode({ ...rest, opcode: number });
      if (isLocal) this.local(ring + tail * 64, bytes);
      else this.port.memory.set(bytes, ring + tail * 64);
      tail = (tail + 1) % entries;
    }
    this.#tails.set(queue, tail);
    this.set('TAIL', tail, queue);
  }

  /** Completions that came since the last call, by their phase bits. */
  take(queue = 0): ReturnType<typeof completion.decode>[] {
    const isLocal = this.#setups.get(queue)?.isLocal ?? true;
    const { completions } = this.rings(queue, isLocal);
    const taken = [];
    let head = this.#heads.get(queue)!;
    for (;;) {
      const at = completions + (head % entries) * 64;
      const bytes = isLocal ? this.fromLocal(at, 64) : this.port.memory.slice(at, at + 64);
      const record = completion.decode(bytes);
      if (record.phase !== (Math.floor(head / entries) % 2 === 0 ? 1 : 0)) break;
      if (head % entries === this.get('COMPLETION_TAIL', queue)) break;
      taken.push(record);
      head++;
    }
    this.#heads.set(queue, head);
    this.set('COMPLETION_HEAD', head % entries, queue);
    return taken;
  }

  run(ns = 1_000_000): void {
    this.clock.advance(ns);
  }

  /** Submits, lets time pass, and returns the completions. */
  do(...requests: Request[]): ReturnType<typeof completion.decode>[] {
    this.submit(requests);
    this.run();
    return this.take();
  }

  respond(pasid: number, group: number, code = 0): void {
    this.device.pageResponse({ pasid, group, code });
  }

  /** Invalidate request; `shift` is log2 of its bytes. */
  invalidate(itag: number, pasid: number, address: number, shift = 12, isGlobal = false): void {
    let value = BigInt(address);
    if (shift > 12) value = (value & ~((1n << BigInt(shift)) - 1n)) | ((1n << BigInt(shift - 1)) - 1n);
    value = (value & ~0xfffn) | (shift > 12 ? 0x800n : 0n) | (isGlobal ? 1n : 0n);
    this.device.invalidate({ itag, pasid, hi: Number(value >> 32n), lo: Number(value & 0xffff_ffffn) });
  }
}

export const status = Object.fromEntries(Object.entries(statuses).map(([name, { value }]) => [name, value])) as {
  readonly [K in keyof typeof statuses]: number;
};
export const bits = Object.fromEntries(Object.entries(mode).map(([name, { value }]) => [name, value])) as {
  readonly [K in keyof typeof mode]: number;
};
