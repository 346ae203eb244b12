import { Clock } from '#vmm/base/clock';
import { type TraceEvent, Trace } from '#vmm/base/events';
import {
  type DmaFault,
  type DmaPort,
  type DmaResult,
  type IrqLine,
  type StorageBackend,
  type TranslationEnables,
  noPasid,
} from '#vmm/base/ports';
import { type NvmeDevice, type NvmeOptions, nvme } from '#devices/nvme/device';
import { memoryStorage } from '#devices/backends/storage/memory';

/** Guest memory as a flat array in which only some pages are reachable; the host's view is shifted and cut at pages. */
export class FakePort implements DmaPort {
  readonly memory: Uint8Array;
  readonly view: DataView;
  readonly shift: number;
  readonly bytes: number;
  /** Pages that fault. */
  readonly denied = new Set<number>();
  /** Pages that fault when the device writes. */
  readonly readOnly = new Set<number>();
  /** Address spaces by PASID: what is added to their addresses. Others fault. */
  readonly spaces = new Map<number, number>();
  readonly messages: { lo: number; data: number }[] = [];
  reads = 0;
  writes = 0;
  readonly #result: DmaResult;

  /** @param shift where guest address 0 lies in `memory`; bytes before and after must never be touched */
  constructor(bytes: number, shift = 4096) {
    this.bytes = bytes;
    this.shift = shift;
    this.memory = new Uint8Array(bytes + 2 * shift);
    this.view = new DataView(this.memory.buffer, shift, bytes);
    this.#result = { count: 0, offsets: new Float64Array(4096), lengths: new Int32Array(4096), faults: [] };
  }

  #access(hi: number, lo: number, length: number, pasid: number, isWrite: boolean): DmaResult {
    if (!(length >= 1 && length <= 2 ** 30)) throw new RangeError(`DMA of ${length} bytes`);
    if (hi !== hi >>> 0 || lo !== lo >>> 0) throw new RangeError(`halves ${hi} ${lo}`);
    const result = this.#result;
    const faults: DmaFault[] = [];
    result.count = 0;
    const start = hi * 2 ** 32 + lo + (pasid === noPasid ? 0 : (this.spaces.get(pasid) ?? 2 ** 60));
    for (let at = 0; at < length;) {
      const address = start + at;
      const chunk = Math.min(4096 - (address % 4096), length - at);
      const page = Math.floor(address / 4096);
      if (address < 0 || address + chunk > this.bytes || this.denied.has(page) || (isWrite && this.readOnly.has(page)))
        faults.push({ first: at, last: at + chunk - 1, status: 'unsupported-request' });
      else if (result.count > 0 && faults.length === 0) result.lengths[result.count - 1]! += chunk;
      else {
        result.offsets[result.count] = this.shift + address;
        result.lengths[result.count++] = chunk;
      }
      at += chunk;
      if (faults.length > 8) break;
    }
    result.faults = faults;
    return result;
  }
  read(hi: number, lo: number, length: number, pasid = noPasid): DmaResult {
    this.reads++;
    return this.#access(hi, lo, length, pasid, false);
  }
  write(hi: number, lo: number, length: number, pasid = noPasid): DmaResult {
    this.writes++;
    return this.#access(hi, lo, length, pasid, true);
  }
  message(_hi: number, lo: number, data: number): boolean {
    this.messages.push({ lo, data });
    return true;
  }
}

export const translationOff: TranslationEnables = {
  ats: false,
  smallestTranslationShift: 12,
  pri: false,
  pageRequestAllocation: 0,
  pasid: false,
  pasidExecute: false,
  pasidPrivileged: false,
};

export interface Completion {
  readonly result: number;
  readonly sqHead: number;
  readonly sqid: number;
  readonly cid: number;
  /** SCT and SC. */
  readonly code: number;
  readonly dnr: boolean;
}

export interface Sqe {
  opcode: number;
  nsid?: number;
  cid?: number;
  prp1?: number;
  prp2?: number;
  /** Or-ed into dword 0: FUSE, PSDT. */
  flags?: number;
  cdw?: readonly number[];
}

class Pair {
  readonly id: number;
  readonly size: number;
  readonly sq: number;
  readonly cq: number;
  tail = 0;
  head = 0;
  phase = 1;
  constructor(id: number, size: number, sq: number, cq: number) {
    this.id = id;
    this.size = size;
    this.sq = sq;
    this.cq = cq;
  }
}

/** A small driver: it sets queues up in guest memory, submits, lets virtual time pass, reaps. */
export class Driver {
  readonly clock = new Clock();
  readonly trace = new Trace(() => this.clock.now);
  readonly events: TraceEvent[] = [];
  readonly port: FakePort;
  readonly backend: StorageBackend;
  readonly device: NvmeDevice;
  readonly interrupts: number[] = [];
  readonly pairs: Pair[] = [];
  #nextCid = 1;
  #nextPage = 16;

  constructor(options: Partial<NvmeOptions> = {}, bytes = 4 << 20, listen = true) {
    this.port = new FakePort(bytes);
    this.backend = options.backend ?? memoryStorage(1 << 20);
    if (listen) this.trace.listen((event) => this.events.push(event));
    this.device = nvme({
      name: 'nvme0',
      clock: this.clock,
      trace: this.trace,
      serial: 'TEST0001',
      ...(options.namespaces ? {} : { backend: this.backend }),
      ...options,
    });
    const vectors: IrqLine[] = Array.from({ length: this.device.msix.vectors }, (_, vector) => ({
      raise: () => this.interrupts.push(vector),
      lower: () => {},
    }));
    this.device.connect(this.port, vectors);
    this.device.translation({ ...translationOff, pasid: true });
    this.device.busMaster(true);
  }

  /** Fresh zeroed pages of guest memory. */
  pages(count = 1): number {
    const at = this.#nextPage * 4096;
    this.#nextPage += count;
    if (at + count * 4096 > this.port.bytes) throw new RangeError('out of test memory');
    return at;
  }
  /** Gives all pages out again, from the first. */
  rewind(): void {
    this.#nextPage = 16;
    this.pairs.length = 0;
  }
  reg(offset: number): number {
    return this.device.read(offset, 4) as number;
  }
  setReg(offset: number, value: number): void {
    this.device.write(offset, 4, value);
  }
  setAddress(offset: number, value: number): void {
    this.setReg(offset, value % 2 ** 32);
    this.setReg(offset + 4, Math.floor(value / 2 ** 32));
  }
  run(ns = 1_000_000): void {
    this.clock.advance(ns);
  }

  /** Brings the controller up with an admin queue pair. */
  enable(size = 16, cc = 0x0046_0001): void {
    const pair = new Pair(0, size, this.pages(), this.pages());
    this.pairs[0] = pair;
    this.setReg(0x24, ((size - 1) << 16) | (size - 1));
    this.setAddress(0x28, pair.sq);
    this.setAddress(0x30, pair.cq);
    this.setReg(0x14, cc);
    this.run();
  }

  createPair(id: number, size = 16, vector = id): void {
    const pair = new Pair(
      id,
      size,
      this.pages(Math.ceil((size * 64) / 4096)),
      this.pages(Math.ceil((size * 16) / 4096)),
    );
    const base = (id | ((size - 1) << 16)) >>> 0;
    this.expectOk({ opcode: 0x05, prp1: pair.cq, cdw: [base, ((vector << 16) | 3) >>> 0] });
    this.expectOk({ opcode: 0x01, prp1: pair.sq, cdw: [base, ((id << 16) | 1) >>> 0] });
    this.pairs[id] = pair;
  }

  /** Writes an entry without ringing; returns its command identifier. */
  queue(qid: number, sqe: Sqe): number {
    const pair = this.pairs[qid]!;
    const cid = sqe.cid ?? this.#nextCid++ & 0xffff;
    const at = pair.sq + pair.tail * 64;
    const { view } = this.port;
    for (let i = 0; i < 64; i += 4) view.setUint32(at + i, 0, true);
    view.setUint32(at, (sqe.opcode | (sqe.flags ?? 0) | (cid << 16)) >>> 0, true);
    view.setUint32(at + 4, sqe.nsid ?? 0, true);
    view.setBigUint64(at + 24, BigInt(sqe.prp1 ?? 0), true);
    view.setBigUint64(at + 32, BigInt(sqe.prp2 ?? 0), true);
    (sqe.cdw ?? []).forEach((value, i) => view.setUint32(at + 40 + i * 4, value >>> 0, true));
    pair.tail = (pair.tail + 1) % pair.size;
    return cid;
  }
  ring(qid: number): void {
    this.setReg(0x1000 + qid * 8, this.pairs[qid]!.tail);
  }
  submit(qid: number, sqe: Sqe): number {
    const cid = this.queue(qid, sqe);
    this.ring(qid);
    return cid;
  }

  /** New entries of a completion queue, by phase tag. */
  reap(qid: number, limit = Infinity, acknowledge = true): Completion[] {
    const pair = this.pairs[qid]!;
    const { view } = this.port;
    const out: Completion[] = [];
    while (out.length < limit) {
      const at = pair.cq + pair.head * 16;
      const dw3 = view.getUint32(at + 12, true);
      if (((dw3 >>> 16) & 1) !== pair.phase) break;
      const dw2 = view.getUint32(at + 8, true);
      out.push({
        result: view.getUint32(at, true),
        sqHead: dw2 & 0xffff,
        sqid: dw2 >>> 16,
        cid: dw3 & 0xffff,
        code: (dw3 >>> 17) & 0x7ff,
        dnr: dw3 >>> 31 === 1,
      });
      if (++pair.head === pair.size) {
        pair.head = 0;
        pair.phase ^= 1;
      }
    }
    if (acknowledge && out.length > 0) this.setReg(0x1004 + qid * 8, pair.head);
    return out;
  }

  /** Submits one command and waits for its completion. */
  command(qid: number, sqe: Sqe): Completion {
    const cid = this.submit(qid, sqe);
    for (let i = 0; i < 1000; i++) {
      const found = this.reap(qid).find((completion) => completion.cid === cid);
      if (found) return found;
      this.run(100_000);
    }
    throw new Error(`no completion for opcode ${sqe.opcode}`);
  }
  admin(sqe: Sqe): Completion {
    return this.command(0, sqe);
  }
  expectOk(sqe: Sqe, qid = 0): Completion {
    const completion = this.command(qid, sqe);
    if (completion.code !== 0) throw new Error(`opcode ${sqe.opcode}: status 0x${completion.code.toString(16)}`);
    return completion;
  }
  /** Guest memory, as a copy. */
  peek(at: number, length: number): Uint8Array {
    return this.port.memory.slice(this.port.shift + at, this.port.shift + at + length);
  }
  poke(at: number, data: Uint8Array): void {
    this.port.memory.set(data, this.port.shift + at);
  }
  setU64(at: number, value: number): void {
    this.port.view.setBigUint64(at, BigInt(value), true);
  }
}

/** A driver with the controller up and `count` I/O queue pairs. */
export const ready = (options: Partial<NvmeOptions> = {}, count = 1, queueSize = 16): Driver => {
  const driver = new Driver(options);
  driver.enable();
  for (let id = 1; id <= count; id++) driver.createPair(id, queueSize);
  return driver;
};

/** Bytes that differ at every place and with every seed. */
export const pattern = (length: number, seed: number): Uint8Array => {
  const out = new Uint8Array(length);
  let state = seed | 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    out[i] = state >>> 24;
  }
  return out;
};
