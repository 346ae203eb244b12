import { iommu_hwpt_get_dirty_bitmap, iommu_hwpt_set_dirty_tracking, iommufdUapi as uapi } from '#iommufd/uapi/iommufd';
import { hiHalf, loHalf, pageBytes, wide } from '#vmm/base/address';
import { errno } from '#vmm/base/errno';
import { type Command, offsets } from '../command.ts';
import type { Context } from '../context.ts';
import type { DirtySink } from '../iommu-ops.ts';
import { ulongMax } from '../iova/hole.ts';
import type { IoPageTable } from '../iova/io-pagetable.ts';
import type { ProcessMemory } from '../memory/process-memory.ts';
import { HwptPaging } from './hwpt.ts';

const set = offsets(iommu_hwpt_set_dirty_tracking);
export function setDirtyTracking(context: Context, command: Command): number {
  const flags = command.u32(set.flags);
  if (flags & ~uapi.IOMMU_HWPT_DIRTY_TRACKING_ENABLE) return errno.EOPNOTSUPP;
  const hwpt = context.objects.find(command.u32(set.hwpt_id), HwptPaging);
  if (!hwpt) return errno.ENOENT;
  const { domain } = hwpt;
  if (!domain.dirtyTracking || !domain.setDirtyTracking) return errno.EOPNOTSUPP;
  const enable = (flags & uapi.IOMMU_HWPT_DIRTY_TRACKING_ENABLE) !== 0;
  // What was dirty before is of no interest to whoever starts to look.
  const rc = enable ? hwpt.ioas.table.clearDirty(domain) : 0;
  return rc || domain.setDirtyTracking(enable);
}

/** `iommufd_check_iova_range`. */
function checkRange(table: IoPageTable, iova: bigint, length: bigint, pageSize: bigint): number {
  const last = iova + BigInt.asUintN(64, length - 1n);
  if (last > ulongMax) return errno.EOVERFLOW;
  const end = last + 1n;
  const mask = BigInt(table.alignment - 1);
  if ((iova & mask) !== 0n || (end & mask) !== 0n) return errno.EINVAL;
  if (pageSize === 0n) return errno.EINVAL;
  return (iova & (pageSize - 1n)) !== 0n || (end & (pageSize - 1n)) !== 0n ? errno.EINVAL : 0;
}

/** `struct iova_bitmap`: sets bits of a bitmap in user memory; where that cannot be written, bits are dropped. */
class IovaBitmap implements DirtySink {
  readonly #memory: ProcessMemory;
  readonly #address: number;
  readonly #iova: bigint;
  readonly #shift: bigint;
  /**
   * Bytes that can be written: to the end of the bitmap's last page, since a large dirty leaf at the end of the range is
   * recorded as a whole.
   */
  readonly #bytes: number;
  readonly #byte = new Uint8Array(1);

  constructor(memory: ProcessMemory, address: number, iova: bigint, length: bigint, pageSize: bigint) {
    this.#memory = memory;
    this.#address = address;
    this.#iova = iova;
    let shift = 0n;
    while (((pageSize >> shift) & 1n) === 0n) shift++;
    this.#shift = shift;
    const bytes = Number(BigInt.asUintN(64, length - 1n) >> (shift + 3n)) + 1;
    this.#bytes = Math.ceil((address + bytes) / pageBytes) * pageBytes - address;
  }

  record(iovaHi: number, iovaLo: number, bytes: number): void {
    const start = wide(iovaHi, iovaLo) - this.#iova;
    let bit = Number(start >> this.#shift);
    const last = Number((start + BigInt(bytes) - 1n) >> this.#shift);
    while (bit <= last) {
      const at = Math.floor(bit / 8);
      if (at >= this.#bytes) return;
      const from = bit % 8;
      const to = Math.min(7, from + last - bit);
      const address = this.#address + at;
      if (this.#memory.read(address, this.#byte) > 0) return;
      this.#byte[0]! |= ((1 << (to - from + 1)) - 1) << from;
      if (this.#memory.write(address, this.#byte) > 0) return;
      bit += to - from + 1;
    }
  }
}

const get = offsets(iommu_hwpt_get_dirty_bitmap);
export function getDirtyBitmap(context: Context, command: Command): number {
  const flags = command.u32(get.flags);
  if (flags & ~uapi.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR || command.u32(get.__reserved) !== 0) return errno.EOPNOTSUPP;
  const hwpt = context.objects.find(command.u32(get.hwpt_id), HwptPaging);
  if (!hwpt) return errno.ENOENT;
  const { table } = hwpt.ioas;
  const iova = command.u64(get.iova);
  const length = command.u64(get.length);
  const pageSize = command.u64(get.page_size);
  const rc = checkRange(table, iova, length, pageSize);
  if (rc !== 0) return rc;
  const { domain } = hwpt;
  if (!domain.dirtyTracking || !domain.readAndClearDirty) return errno.EOPNOTSUPP;
  if (context.kernel.allocator.fails()) return errno.ENOMEM;
  const bitmap = new IovaBitmap(command.memory, command.pointer(get.data), iova, length, pageSize);
  const keep = (flags & uapi.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR) !== 0;
  const last = BigInt.asUintN(64, iova + length - 1n);
  // Errors on the way (a hole, no memory behind the bitmap) end the walk, and are not reported.
  let next = iova;
  for (let area = table.areas.firstFrom(iova); area && area.start <= next; area = table.areas.next(area)) {
    const end = area.last < last ? area.last : last;
    const hi = hiHalf(next);
    const lo = loHalf(next);
    const bytes = Number(end - next + 1n);
    const failed = domain.readAndClearDirty(hi, lo, bytes, keep, bitmap);
    if (!keep) domain.sync(hi, lo, bytes);
    if (failed || area.last >= last) break;
    next = area.last + 1n;
  }
  return 0;
}
