/**
 * A driver for the adapter written for the tests, and the machine under it: plain memory behind a DmaPort that splits
 * every transaction at pages and refuses what lies outside or in `refused`.
 */
import type { Clock } from '#vmm/base/clock';
import { Trace } from '#vmm/base/events';
import {
  type DmaFault,
  type DmaPort,
  type DmaResult,
  type IrqLine,
  type MmioDevice,
  type PacketBackend,
  noPasid,
} from '#vmm/base/ports';
import { descriptorBytes, txContext, txData } from '#devices/nic/descriptors';
import { type Nic, nic } from '#devices/nic/device';

const pageBytes = 4096;
const mostSegments = 1 << 12;

export class TestMemory implements DmaPort {
  readonly memory: Uint8Array;
  readonly view: DataView;
  /** Pages that the port refuses. */
  readonly refused = new Set<number>();
  readonly calls = { read: 0, write: 0 };
  /** PASIDs seen since the test cleared it. */
  readonly pasids = new Set<number>();
  readonly #result: DmaResult & { faults: DmaFault[] } = {
    count: 0,
    offsets: new Float64Array(mostSegments),
    lengths: new Int32Array(mostSegments),
    faults: [],
  };

  constructor(bytes: number) {
    this.memory = new Uint8Array(bytes);
    this.view = new DataView(this.memory.buffer);
  }

  read(hi: number, lo: number, length: number, pasid = noPasid): DmaResult {
    this.calls.read++;
    this.pasids.add(pasid);
    return this.#reach(hi, lo, length);
  }

  write(hi: number, lo: number, length: number, pasid = noPasid): DmaResult {
    this.calls.write++;
    this.pasids.add(pasid);
    return this.#reach(hi, lo, length);
  }

  message(): boolean {
    return true;
  }

  #reach(hi: number, lo: number, length: number): DmaResult {
    if (length < 1 || length > 2 ** 30) throw new Error(`a transaction of ${length} bytes`);
    const result = this.#result;
    result.count = 0;
    result.faults = [];
    let done = 0;
    while (done < length) {
      const address = hi * 2 ** 32 + lo + done;
      const bytes = Math.min(length - done, pageBytes - (address % pageBytes));
      const page = Math.floor(address / pageBytes);
      if (address + bytes > this.memory.length || this.refused.has(page)) {
        result.faults.push({ first: done, last: done + bytes - 1, status: 'unsupported-request' });
        if (result.faults.length > 8) return result;
      } else {
        const last = result.count - 1;
        if (last >= 0 && address === result.offsets[last]! + result.lengths[last]!) result.lengths[last]! += bytes;
        else {
          result.offsets[result.count] = address;
          result.lengths[result.count] = bytes;
          result.count++;
        }
      }
      done += bytes;
    }
    return result;
  }
}

export interface Line extends IrqLine {
  raised: number;
  level: boolean;
}
const line = (): Line => ({
  raised: 0,
  level: false,
  raise() {
    this.raised++;
    this.level = true;
  },
  lower() {
    this.level = false;
  },
});

export const macOf = (n: number): Uint8Array => Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, n);

export interface Adapter {
  readonly device: Nic;
  readonly memory: TestMemory;
  readonly vectors: readonly Line[];
  readonly mac: Uint8Array;
  read(offset: number): number;
  write(offset: number, value: number): void;
}

export const adapter = (
  n: number,
  clock: Clock,
  backend: PacketBackend,
  bitsPerSecond?: number,
  trace?: Trace,
): Adapter => {
  const mac = macOf(n);
  const device = nic({
    name: `nic${n}`,
    clock,
    trace: trace ?? new Trace(() => clock.now),
    backend,
    mac,
    ...(bitsPerSecond === undefined ? {} : { bitsPerSecond }),
  });
  const memory = new TestMemory(8 << 20);
  const vectors = Array.from({ length: 5 }, line);
  device.connect(memory, vectors);
  device.busMaster(true);
  const bar = device.bars[0]!.device as MmioDevice;
  return {
    device,
    memory,
    vectors,
    mac,
    read: (offset) => bar.read(offset, 4) as number,
    write: (offset, value) => bar.write(offset, 4, value),
  };
};

export const ringSize = 64;
export interface RingPlace {
  readonly ring: number;
  readonly buffers: number;
  readonly bufferBytes: number;
}
/** Rings at fixed places, buffers of 2 KiB that lie across pages. */
export const rxPlace = (q: number): RingPlace => ({ ring: 0x1_0000 + q * 0x1000, buffers: 0x10_0000 + q * 0x8_0000, bufferBytes: 2048 }); // prettier-ignore
export const txPlace = (q: number): RingPlace => ({ ring: 0x2_0000 + q * 0x1000, buffers: 0x30_0700 + q * 0x8_0000, bufferBytes: 2048 }); // prettier-ignore

export interface Received {
  readonly bytes: Uint8Array;
  readonly status: number;
  readonly vlan: number;
  readonly mrq: number;
  readonly rss: number;
}

export const rctlBase = (1 << 1) | (1 << 15) | (1 << 26);

/** Drives one adapter: extended receive descriptors, data transmit descriptors, MSI-X. */
export class TestDriver {
  readonly on: Adapter;
  readonly #txTail = [0, 0];
  readonly #txClean = [0, 0];
  readonly #rxClean = [0, 0];

  constructor(on: Adapter) {
    this.on = on;
  }

  /** Everything that Linux's driver does between probe and up, as far as it shows in behaviour. */
  start(options: { extended?: boolean; rctl?: number; rfctl?: number; queues?: number } = {}): void {
    const { write, memory } = this.on;
    const extended = options.extended ?? true;
    write(0xd8, 0xffff_ffff);
    write(0x0000, this.on.read(0) | (1 << 26));
    write(0xd8, 0xffff_ffff);
    this.on.read(0xc0);
    write(0x5008, (extended ? 1 << 15 : 0) | (1 << 12) | (options.rfctl ?? 0));
    for (let q = 0; q < 2; q++) {
      const rx = rxPlace(q);
      const tx = txPlace(q);
      this.#txTail[q] = this.#txClean[q] = this.#rxClean[q] = 0;
      for (let i = 0; i < ringSize; i++) {
        memory.view.setBigUint64(rx.ring + i * 16, BigInt(rx.buffers + i * rx.bufferBytes), true);
        memory.view.setBigUint64(rx.ring + i * 16 + 8, 0n, true);
      }
      const o = q * 0x100;
      write(0x2800 + o, rx.ring);
      write(0x2804 + o, 0);
      write(0x2808 + o, ringSize * 16);
      write(0x2810 + o, 0);
      write(0x3800 + o, tx.ring);
      write(0x3804 + o, 0);
      write(0x3808 + o, ringSize * 16);
      write(0x3810 + o, 0);
      write(0x3818 + o, 0);
    }
    write(0x100, rctlBase | (options.rctl ?? 0));
    for (let q = 0; q < 2; q++) write(0x2818 + q * 0x100, ringSize - 1);
    write(0x400, 0x1003_f0fa);
    // RXQ0 → 0, TXQ0 → 1, OTHER → 2, RXQ1 → 3, TXQ1 → 4.
    write(0xe4, 0x8 | (0xb << 4) | (0x9 << 8) | (0xc << 12) | (0xa << 16));
    write(0xdc, 0x00f0_0000);
    write(0xd0, 0x01f0_0004);
  }

  /** Puts a frame into the transmit ring, in pieces when `cuts` says where. */
  queue(
    frame: Uint8Array,
    q = 0,
    options: { cuts?: number[]; legacy?: boolean; popts?: number; tse?: boolean; vlan?: number } = {},
  ): void {
    const { memory } = this.on;
    const place = txPlace(q);
    const edges = [0, ...(options.cuts ?? []), frame.length];
    const start = this.#txTail[q]!;
    const buffer = place.buffers + start * place.bufferBytes;
    memory.memory.set(frame, buffer);
    for (let i = 0; i + 1 < edges.length; i++) {
      const last = i + 2 === edges.length;
      let lower = (edges[i + 1]! - edges[i]!) | (last ? (1 << 24) | (1 << 27) : 0) | (1 << 25);
      if (!options.legacy) lower |= (1 << 29) | (1 << 20) | (options.tse ? 1 << 26 : 0);
      if (options.vlan !== undefined) lower |= 1 << 30;
      this.descriptor(q, BigInt(buffer + edges[i]!), lower, ((options.popts ?? 0) << 8) | ((options.vlan ?? 0) << 16));
    }
  }

  descriptor(q: number, buffer: bigint, lower: number, upper: number): void {
    this.#put(q, txData.encode({ buffer, lower: lower >>> 0, upper: upper >>> 0 }));
  }

  #put(q: number, bytes: Uint8Array): void {
    this.on.memory.memory.set(bytes, txPlace(q).ring + this.#txTail[q]! * descriptorBytes);
    this.#txTail[q] = (this.#txTail[q]! + 1) % ringSize;
  }

  /** A context descriptor as e1000e writes it. */
  context(
    q: number,
    c: {
      ipcss: number;
      ipcso: number;
      ipcse: number;
      tucss: number;
      tucso: number;
      tucse: number;
      tucmd: number;
      paylen?: number;
      hdrlen?: number;
      mss?: number;
    },
  ): void {
    const { tucmd, paylen = 0, ...rest } = c;
    this.#put(q, txContext.encode({ ...rest, command: (paylen | (1 << 29) | (tucmd << 24)) >>> 0 }));
  }

  doorbell(q = 0): void {
    this.on.write(0x3818 + q * 0x100, this.#txTail[q]!);
  }

  /** Descriptors that came back done since the last call. */
  reap(q = 0): number {
    let count = 0;
    while (this.#txClean[q] !== this.#txTail[q]) {
      const at = txPlace(q).ring + this.#txClean[q]! * 16;
      const lower = this.on.memory.view.getUint32(at + 8, true);
      if ((lower & (1 << 27)) !== 0 && (this.on.memory.memory[at + 12]! & 1) === 0) break;
      this.#txClean[q] = (this.#txClean[q]! + 1) % ringSize;
      count++;
    }
    return count;
  }

  get rxHead(): number {
    return this.#rxClean[0]!;
  }

  /** Takes what arrived (extended descriptors) and gives the descriptors back. */
  take(q = 0): Received[] {
    const { memory, write } = this.on;
    const place = rxPlace(q);
    const out: Received[] = [];
    let parts: Uint8Array[] = [];
    for (;;) {
      const i = this.#rxClean[q]!;
      const at = place.ring + i * 16;
      const status = memory.view.getUint32(at + 8, true);
      if ((status & 1) === 0) break;
      const length = memory.view.getUint16(at + 12, true);
      const from = place.buffers + i * place.bufferBytes;
      parts.push(memory.memory.slice(from, from + length));
      if (status & 2) {
        out.push({
          bytes: concat(parts),
          status,
          vlan: memory.view.getUint16(at + 14, true),
          mrq: memory.view.getUint32(at, true),
          rss: memory.view.getUint32(at + 4, true),
        });
        parts = [];
      }
      memory.view.setBigUint64(at, BigInt(from), true);
      memory.view.setBigUint64(at + 8, 0n, true);
      write(0x2818 + q * 0x100, i);
      this.#rxClean[q] = (i + 1) % ringSize;
    }
    return out;
  }
}

const concat = (parts: readonly Uint8Array[]): Uint8Array => {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
};

/** A frame of `length` bytes whose payload is a function of `seed`. */
export const frame = (to: Uint8Array, from: Uint8Array, length: number, seed: number): Uint8Array => {
  const out = new Uint8Array(length);
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    out[i] = state >>> 24;
  }
  out.set(to);
  out.set(from, 6);
  out[12] = 0x88;
  out[13] = 0xb5;
  return out;
};
