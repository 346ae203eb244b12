import { access, type AccessResult, type MemoryPort } from '#iommufd/arch/riscv/ports';
import { field, parts } from '#vmm/base/saved';

/** Memory as the walkers use it: doublewords in either byte order, nothing beyond 2^PAS; counts its references. */
export class WalkMemory {
  readonly #port: MemoryPort;
  readonly #addressBits: bigint;
  readonly #buffer = new Uint8Array(64);
  readonly #view = new DataView(this.#buffer.buffer);
  /** Outcome of the last access. */
  result: AccessResult = access.ok;
  /** Accesses since construction. */
  references = 0;
  readonly saved = parts({
    references: field(
      () => this.references,
      (value) => (this.references = value),
    ),
  });

  constructor(port: MemoryPort, addressBits: number) {
    this.#port = port;
    this.#addressBits = BigInt(addressBits);
  }

  /** True where the physical address does not exist (§5.3 PAS). */
  isBeyond(address: bigint): boolean {
    return address >> this.#addressBits !== 0n;
  }

  /** `count` doublewords in one access, or undefined with `result` set. */
  load(address: bigint, count: number, bigEndian: boolean): bigint[] | undefined {
    this.references++;
    this.result = this.isBeyond(address) ? access.fault : this.#port.load(address, this.#buffer.subarray(0, count * 8));
    if (this.result !== access.ok) return undefined;
    const words: bigint[] = [];
    for (let i = 0; i < count; i++) words.push(this.#view.getBigUint64(i * 8, !bigEndian));
    return words;
  }

  load64(address: bigint, bigEndian: boolean): bigint | undefined {
    return this.load(address, 1, bigEndian)?.[0];
  }

  store64(address: bigint, value: bigint, bigEndian: boolean): AccessResult {
    this.references++;
    this.#view.setBigUint64(0, value, !bigEndian);
    this.result = this.isBeyond(address) ? access.fault : this.#port.store(address, this.#buffer.subarray(0, 8));
    return this.result;
  }
}
