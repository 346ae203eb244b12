import { access } from './ports.ts';
import type { QueueMemory } from './queue-memory.ts';
import type { RegisterFile } from './register-file.ts';

/** Bits that the three queues' control registers have in common (§5.15–5.17). */
export const csr = { enable: 1, interruptEnable: 1 << 1, memoryFault: 1 << 8, overflow: 1 << 9, on: 1 << 16, busy: 1 << 17 }; // prettier-ignore

/** Number of entries, less one, of a queue whose base register's lower half is `baseLow` (LOG2SZ-1: bits 4:0). */
export const indexMask = (baseLow: number): number => 0xffff_ffff >>> (31 - (baseLow & 31));

/** Address of entry `index`. A misaligned base is UNSPECIFIED (§5.6): index bits are merged in, as wires would. */
export const entryAddress = (base: bigint, index: number, entryBytes: number): bigint =>
  (((base >> 10n) & 0xfff_ffff_ffffn) << 12n) | (BigInt(index) * BigInt(entryBytes));

export interface QueueOffsets {
  readonly base: number;
  readonly head: number;
  readonly tail: number;
  readonly csr: number;
  readonly entryBytes: number;
}

/** off: not enabled. memory-fault and overflow: the error bit was set before, or by this very record. */
export type ProduceResult = 'queued' | 'off' | 'memory-fault' | 'overflow';

/** A queue the IOMMU fills: fault queue, page-request queue (§3.2, §3.3). */
export class RecordQueue {
  readonly #registers: RegisterFile;
  readonly #memory: QueueMemory;
  readonly #at: QueueOffsets;

  constructor(registers: RegisterFile, memory: QueueMemory, at: QueueOffsets) {
    this.#registers = registers;
    this.#memory = memory;
    this.#at = at;
  }

  /** A record was lost on its way here. */
  overflowed(): void {
    const { words } = this.#registers;
    if (words[this.#at.csr >>> 2]! & csr.on) words[this.#at.csr >>> 2]! |= csr.overflow;
  }

  /** Stores one record and moves the tail; while an error bit is set everything is discarded. */
  produce(record: readonly bigint[]): ProduceResult {
    const { words } = this.#registers;
    const at = this.#at;
    const status = words[at.csr >>> 2]!;
    if (!(status & csr.on) || !(status & csr.enable)) return 'off';
    if (status & csr.memoryFault) return 'memory-fault';
    if (status & csr.overflow) return 'overflow';
    const base = this.#registers.get64(at.base);
    const mask = indexMask(words[at.base >>> 2]!);
    const tail = words[at.tail >>> 2]!;
    const next = ((tail + 1) & mask) >>> 0;
    if (next === words[at.head >>> 2]!) {
      words[at.csr >>> 2]! |= csr.overflow;
      return 'overflow';
    }
    if (this.#memory.store(entryAddress(base, tail, at.entryBytes), record) !== access.ok) {
      words[at.csr >>> 2]! |= csr.memoryFault;
      return 'memory-fault';
    }
    words[at.tail >>> 2] = next;
    return 'queued';
  }
}
