import { access, type AccessResult, type MemoryPort } from './ports.ts';

/** Memory as queues, MSIs and fences use it: doublewords in fctl.BE order, nothing beyond 2^PAS. */
export class QueueMemory {
  readonly #port: MemoryPort;
  readonly #addressBits: bigint;
  /** fctl.BE. */
  bigEndian = false;
  readonly #buffer = new Uint8Array(64);
  readonly #view = new DataView(this.#buffer.buffer);
  /** Its first so many doublewords. */
  readonly #parts = Array.from({ length: 9 }, (_, count) => this.#buffer.subarray(0, count * 8));
  readonly #word = this.#buffer.subarray(0, 4);

  constructor(port: MemoryPort, addressBits: number) {
    this.#port = port;
    this.#addressBits = BigInt(addressBits);
  }

  /** Loads doublewords into `words`, all or nothing. */
  load(address: bigint, words: bigint[]): AccessResult {
    if (address >> this.#addressBits) return access.fault;
    const result = this.#port.load(address, this.#parts[words.length]!);
    if (result === access.ok)
      for (let i = 0; i < words.length; i++) words[i] = this.#view.getBigUint64(i * 8, !this.bigEndian);
    return result;
  }

  store(address: bigint, words: readonly bigint[]): AccessResult {
    if (address >> this.#addressBits) return access.fault;
    for (let i = 0; i < words.length; i++) this.#view.setBigUint64(i * 8, words[i]!, !this.bigEndian);
    return this.#port.store(address, this.#parts[words.length]!);
  }

  store32(address: bigint, value: number): AccessResult {
    if (address >> this.#addressBits) return access.fault;
    this.#view.setUint32(0, value, !this.bigEndian);
    return this.#port.store(address, this.#word);
  }
}
