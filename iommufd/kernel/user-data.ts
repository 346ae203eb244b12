import { errno } from '#vmm/base/errno';
import { copyStruct } from './command.ts';
import type { Errno, UserData, UserDataArray } from './iommu-ops.ts';
import type { ProcessMemory } from './memory/process-memory.ts';

/** `struct iommu_user_data` over process memory. */
export class UserStruct implements UserData {
  readonly type: number;
  readonly length: number;
  readonly #memory: ProcessMemory;
  readonly #address: number;

  constructor(memory: ProcessMemory, address: number, type: number, length: number) {
    this.#memory = memory;
    this.#address = address;
    this.type = type;
    this.length = length;
  }

  copyStruct(type: number, bytes: number, minBytes: number): Uint8Array | Errno {
    if (this.type !== type || this.length < minBytes || this.length > bytes) return errno.EINVAL;
    const out = new Uint8Array(bytes);
    return copyStruct(this.#memory, this.#address, this.length, out, bytes) || out;
  }

  copyBack(type: number, source: Uint8Array, minBytes: number): Errno {
    if (this.type !== type || this.length < minBytes || source.length < this.length) return errno.EINVAL;
    return this.#memory.write(this.#address, source, this.length) > 0 ? errno.EFAULT : 0;
  }
}

/** `struct iommu_user_data_array` over process memory. */
export class UserArray implements UserDataArray {
  type = 0;
  entryLength = 0;
  count = 0;
  handled = 0;
  readonly #memory: ProcessMemory;
  #address = 0;

  constructor(memory: ProcessMemory) {
    this.#memory = memory;
  }

  begin(address: number, type: number, entryLength: number, count: number): this {
    this.#address = address;
    this.type = type;
    this.entryLength = entryLength;
    this.count = count;
    // A driver that never sets it has, like the kernel's, handled what it was given.
    this.handled = count;
    return this;
  }

  copyEntry(index: number, target: Uint8Array, type: number, minBytes: number): Errno {
    const { entryLength } = this;
    if (this.type !== type || index >= this.count) return errno.EINVAL;
    if (entryLength < minBytes || entryLength > target.length) return errno.EINVAL;
    const missing = this.#memory.read(this.#address + index * entryLength, target, entryLength);
    if (missing > 0) return errno.EFAULT;
    if (entryLength < target.length) target.fill(0, entryLength);
    return 0;
  }

  copyAll(target: Uint8Array, entryBytes: number, type: number): Errno {
    const { count, entryLength } = this;
    if (this.type !== type || count === 0) return errno.EINVAL;
    if (entryLength === entryBytes)
      return this.#memory.read(this.#address, target, count * entryBytes) > 0 ? errno.EFAULT : 0;
    for (let i = 0; i < count; i++) {
      const entry = target.subarray(i * entryBytes, (i + 1) * entryBytes);
      const rc = copyStruct(this.#memory, this.#address + i * entryLength, entryLength, entry, entryBytes);
      if (rc !== 0) return rc;
    }
    return 0;
  }
}
