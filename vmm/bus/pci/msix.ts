import { invariant } from '#vmm/base/invariant';
import type { AccessBytes, MmioDevice } from '#vmm/base/ports';
import { array, field, parts } from '#vmm/base/saved';

/** Sends vector `vector`'s message; false when it faulted (the message is then lost, as on the wire). */
export type SendMessage = (vector: number, hi: number, lo: number, data: number) => boolean;

const entryBytes = 16;
/** Vector Control bit 0 (PCI Express Base 6.0 §6.1.4.1): the only one implemented. */
const vectorMask = 1;

/**
 * A function's MSI-X table and pending bits (PCI Express Base 6.0 §6.1.4). An edge on a masked vector is remembered
 * in its pending bit and goes out when nothing holds it back any more.
 */
export class Msix {
  readonly vectors: number;
  /** Address low, address high, data, vector control. */
  readonly #table: Uint32Array;
  readonly #pending: Uint32Array;
  readonly #send: SendMessage;
  #enabled = false;
  #functionMask = false;
  #mayRequest = false;
  readonly saved = parts({
    table: array(() => this.#table),
    pending: array(() => this.#pending),
    enabled: field(
      () => this.#enabled,
      (value) => (this.#enabled = value),
    ),
    functionMask: field(
      () => this.#functionMask,
      (value) => (this.#functionMask = value),
    ),
    mayRequest: field(
      () => this.#mayRequest,
      (value) => (this.#mayRequest = value),
    ),
  });

  constructor(vectors: number, send: SendMessage) {
    invariant(vectors >= 1 && vectors <= 2048, `${vectors} MSI-X vectors`);
    this.vectors = vectors;
    this.#send = send;
    this.#table = new Uint32Array(4 * vectors);
    // Whole quad words: the pending bit array is read 64 bits at a time.
    this.#pending = new Uint32Array(2 * Math.ceil(vectors / 64));
    this.reset();
  }

  get isEnabled(): boolean {
    return this.#enabled;
  }

  get tableBytes(): number {
    return entryBytes * this.vectors;
  }

  get pendingBytes(): number {
    return 4 * this.#pending.length;
  }

  reset(): void {
    this.#table.fill(0);
    for (let vector = 0; vector < this.vectors; vector++) this.#table[4 * vector + 3] = vectorMask;
    this.#pending.fill(0);
    this.#enabled = false;
    this.#functionMask = false;
    this.#mayRequest = false;
  }

  /**
   * What the configuration space says: MSI-X Enable, Function Mask, and whether the function may issue requests at
   * all (Bus Master Enable, D0). Messages that were held back go out, lowest vector first.
   */
  control(enabled: boolean, functionMask: boolean, mayRequest: boolean): void {
    this.#enabled = enabled;
    this.#functionMask = functionMask;
    this.#mayRequest = mayRequest;
    if (!this.#open) return;
    for (let word = 0; word < this.#pending.length; word++) {
      if (this.#pending[word] === 0) continue;
      for (let bit = 0; bit < 32; bit++) if (this.#isPending(32 * word + bit)) this.#release(32 * word + bit);
    }
  }

  readTable(offset: number, bytes: AccessBytes): number | bigint {
    return readWords(this.#table, offset, bytes);
  }

  writeTable(offset: number, bytes: AccessBytes, value: number | bigint): void {
    // §6.1.4.2: anything but an aligned double or quad word is undefined; it changes nothing here.
    if (offset % bytes !== 0 || bytes < 4) return;
    if (bytes === 8) {
      this.#storeWord(offset / 4, Number(BigInt.asUintN(32, BigInt(value))));
      this.#storeWord(offset / 4 + 1, Number(BigInt.asUintN(64, BigInt(value)) >> 32n));
    } else this.#storeWord(offset / 4, Number(value));
  }

  readPending(offset: number, bytes: AccessBytes): number | bigint {
    return readWords(this.#pending, offset, bytes);
  }

  get #open(): boolean {
    return this.#enabled && !this.#functionMask && this.#mayRequest;
  }

  #isPending(vector: number): boolean {
    return (this.#pending[vector >>> 5]! & (1 << (vector & 31))) !== 0;
  }

  #storeWord(index: number, value: number): void {
    if ((index & 3) === 3) {
      this.#table[index] = value & vectorMask;
      const vector = index >>> 2;
      if (this.#open && this.#isPending(vector)) this.#release(vector);
    } else this.#table[index] = (index & 3) === 0 ? value & ~3 : value;
  }

  raise(vector: number): void {
    if (!this.#enabled || vector >= this.vectors) return;
    this.#pending[vector >>> 5]! |= 1 << (vector & 31);
    if (this.#open) this.#release(vector);
  }

  #release(vector: number): void {
    const at = 4 * vector;
    if ((this.#table[at + 3]! & vectorMask) !== 0) return;
    this.#pending[vector >>> 5]! &= ~(1 << (vector & 31));
    this.#send(vector, this.#table[at + 1]!, this.#table[at]!, this.#table[at + 2]!);
  }
}

function readWords(words: Uint32Array, offset: number, bytes: AccessBytes): number | bigint {
  const index = offset >>> 2;
  if (bytes === 4) return offset % 4 === 0 ? words[index]! : 0;
  if (bytes === 8) return offset % 8 === 0 ? (BigInt(words[index + 1]!) << 32n) | BigInt(words[index]!) : 0n;
  return 0;
}

export interface MsixPlaces {
  /** Byte offset of the table in this BAR; absent when it lies in another. */
  readonly table?: number;
  readonly pending?: number;
}

/** A BAR that holds the MSI-X table, the pending bits, or both; the rest of it is the function's own. */
export class MsixBar implements MmioDevice {
  readonly #inner: MmioDevice | undefined;
  readonly #msix: Msix;
  readonly #table: number;
  readonly #tableEnd: number;
  readonly #pending: number;
  readonly #pendingEnd: number;

  constructor(inner: MmioDevice | undefined, msix: Msix, places: MsixPlaces) {
    this.#inner = inner;
    this.#msix = msix;
    this.#table = places.table ?? Infinity;
    this.#tableEnd = this.#table + msix.tableBytes;
    this.#pending = places.pending ?? Infinity;
    this.#pendingEnd = this.#pending + msix.pendingBytes;
  }

  read(offset: number, bytes: AccessBytes): number | bigint {
    if (offset >= this.#table && offset + bytes <= this.#tableEnd)
      return this.#msix.readTable(offset - this.#table, bytes);
    if (offset >= this.#pending && offset + bytes <= this.#pendingEnd)
      return this.#msix.readPending(offset - this.#pending, bytes);
    if (this.#inner) return this.#inner.read(offset, bytes);
    return bytes === 8 ? 0n : 0;
  }

  write(offset: number, bytes: AccessBytes, value: number | bigint): void {
    if (offset >= this.#table && offset + bytes <= this.#tableEnd)
      this.#msix.writeTable(offset - this.#table, bytes, value);
    else if (offset >= this.#pending && offset + bytes <= this.#pendingEnd) return;
    else this.#inner?.write(offset, bytes, value);
  }

  reset(): void {
    // The function's reset covers the registers, the configuration space's the table.
  }
}
