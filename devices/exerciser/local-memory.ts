import { loHalf, hiHalf, wide } from '#vmm/base/address';
import type { AccessBytes, MmioDevice } from '#vmm/base/ports';
import { parts, sparseBytes } from '#vmm/base/saved';

/** Memory on the device (BAR 2): where reads go to and writes come from, and where rings can be without any mapping. */
export const localBytes = 0x10000;

export class LocalMemory implements MmioDevice {
  readonly bytes = new Uint8Array(localBytes);
  readonly saved = parts({ bytes: sparseBytes(() => this.bytes) });
  readonly #view = new DataView(this.bytes.buffer);

  /** Any width, aligned or not; what would leave the region reads 0 and is not written. */
  read(offset: number, bytes: AccessBytes): number | bigint {
    if (offset + bytes > localBytes) return bytes === 8 ? 0n : 0;
    if (bytes === 8) return wide(this.#view.getUint32(offset + 4, true), this.#view.getUint32(offset, true));
    if (bytes === 4) return this.#view.getUint32(offset, true);
    return bytes === 2 ? this.#view.getUint16(offset, true) : this.#view.getUint8(offset);
  }

  write(offset: number, bytes: AccessBytes, value: number | bigint): void {
    if (offset + bytes > localBytes) return;
    if (bytes === 8) {
      const both = BigInt(value);
      this.#view.setUint32(offset, loHalf(both), true);
      this.#view.setUint32(offset + 4, hiHalf(both), true);
    } else if (bytes === 4) this.#view.setUint32(offset, Number(value), true);
    else if (bytes === 2) this.#view.setUint16(offset, Number(value), true);
    else this.#view.setUint8(offset, Number(value));
  }

  reset(): void {
    this.bytes.fill(0);
  }
}
