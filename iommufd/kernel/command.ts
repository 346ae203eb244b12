import { errno } from '#vmm/base/errno';
import type { Struct } from '#vmm/base/wire';
import type { ProcessMemory } from './memory/process-memory.ts';

/** Largest ioctl structure (struct iommu_test_cmd is 72). */
const bufferBytes = 128;
const page = new Uint8Array(4096);

type NamesOf<L> = L extends Struct<infer S> ? keyof S & string : never;

/** Byte offset of each member: `const f = offsets(iommu_ioas_map)`, then `command.u32(f.flags)`. */
export const offsets = <L extends { readonly members: readonly { name: string; offset: number }[] }>(
  layout: L,
): { readonly [K in NamesOf<L>]: number } =>
  Object.fromEntries(layout.members.map((m) => [m.name, m.offset])) as { readonly [K in NamesOf<L>]: number };

/**
 * copy_struct_from_user: a user structure of `userBytes` into the `bytes` first bytes of `target`. Missing bytes read
 * as zero; bytes that the kernel does not know must be zero (E2BIG); EFAULT.
 */
export function copyStruct(
  memory: ProcessMemory,
  address: number,
  userBytes: number,
  target: Uint8Array,
  bytes: number,
): number {
  const common = Math.min(userBytes, bytes);
  for (let at = bytes; at < userBytes;) {
    const count = Math.min(page.length, userBytes - at);
    const missing = memory.read(address + at, page, count);
    for (let i = 0; i < count - missing; i++) if (page[i] !== 0) return errno.E2BIG;
    if (missing > 0) return errno.EFAULT;
    at += count;
  }
  if (memory.read(address, target, common) > 0) return errno.EFAULT;
  if (common < bytes) target.fill(0, common, bytes);
  return 0;
}

/** `struct iommufd_ucmd`: one ioctl under way, its structure copied in. */
export class Command {
  readonly bytes = new Uint8Array(bufferBytes);
  readonly #view = new DataView(this.bytes.buffer);
  /** Process memory and where in it the argument lies. */
  readonly memory: ProcessMemory;
  address = 0;
  /** Size of the structure as user space sees it. */
  userSize = 0;
  /** Size as the kernel sees it. */
  size = 0;

  constructor(memory: ProcessMemory) {
    this.memory = memory;
  }

  u16(offset: number): number {
    return this.#view.getUint16(offset, true);
  }
  u32(offset: number): number {
    return this.#view.getUint32(offset, true);
  }
  s32(offset: number): number {
    return this.#view.getInt32(offset, true);
  }
  u64(offset: number): bigint {
    return this.#view.getBigUint64(offset, true);
  }
  /** A user pointer; values that no mapping can have lose precision, not meaning. */
  pointer(offset: number): number {
    return this.#view.getUint32(offset + 4, true) * 0x1_0000_0000 + this.#view.getUint32(offset, true);
  }
  setU8(offset: number, value: number): void {
    this.#view.setUint8(offset, value);
  }
  setU32(offset: number, value: number): void {
    this.#view.setUint32(offset, value, true);
  }
  setU64(offset: number, value: bigint): void {
    this.#view.setBigUint64(offset, value, true);
  }

  /** Copies the structure back, as much of it as user space knows; EFAULT. */
  respond(): number {
    return this.memory.write(this.address, this.bytes, Math.min(this.userSize, this.size)) > 0 ? errno.EFAULT : 0;
  }
}
