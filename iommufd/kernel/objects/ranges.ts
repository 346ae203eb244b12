import {
  iommu_ioas_allow_iovas,
  iommu_ioas_iova_ranges,
  iommu_iova_range,
  iommu_option,
  iommu_vfio_ioas,
  iommufdUapi as uapi,
} from '#iommufd/uapi/iommufd';
import { errno } from '#vmm/base/errno';
import { type Command, offsets } from '../command.ts';
import type { Context } from '../context.ts';
import type { IovaRange } from '../iova/hole.ts';
import { Ioas } from './ioas.ts';

const range = new Uint8Array(iommu_iova_range.size);
const rangeView = new DataView(range.buffer);
const rangeFields = offsets(iommu_iova_range);

const ranges = offsets(iommu_ioas_iova_ranges);
export function iovaRanges(context: Context, command: Command): number {
  if (command.u32(ranges.__reserved) !== 0) return errno.EOPNOTSUPP;
  const ioas = context.objects.find(command.u32(ranges.ioas_id), Ioas);
  if (!ioas) return errno.ENOENT;
  const room = command.u32(ranges.num_iovas);
  const address = command.pointer(ranges.allowed_iovas);
  const valid = ioas.table.validRanges();
  for (let i = 0; i < Math.min(room, valid.length); i++) {
    rangeView.setBigUint64(rangeFields.start, valid[i]!.first, true);
    rangeView.setBigUint64(rangeFields.last, valid[i]!.last, true);
    if (command.memory.write(address + i * range.length, range) > 0) return errno.EFAULT;
  }
  command.setU32(ranges.num_iovas, valid.length);
  command.setU64(ranges.out_iova_alignment, BigInt(ioas.table.alignment));
  return command.respond() || (valid.length > room ? errno.EMSGSIZE : 0);
}

const allow = offsets(iommu_ioas_allow_iovas);
export function allowIovas(context: Context, command: Command): number {
  if (command.u32(allow.__reserved) !== 0) return errno.EOPNOTSUPP;
  const ioas = context.objects.find(command.u32(allow.ioas_id), Ioas);
  if (!ioas) return errno.ENOENT;
  const count = command.u32(allow.num_iovas);
  const address = command.pointer(allow.allowed_iovas);
  const wanted: IovaRange[] = [];
  for (let i = 0; i < count; i++) {
    if (command.memory.read(address + i * range.length, range) > 0) return errno.EFAULT;
    const first = rangeView.getBigUint64(rangeFields.start, true);
    const last = rangeView.getBigUint64(rangeFields.last, true);
    if (first >= last) return errno.EINVAL;
    // Sorted and disjoint: only the neighbours can overlap.
    let low = 0;
    let high = wanted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (wanted[middle]!.first > first) high = middle;
      else low = middle + 1;
    }
    if ((wanted[low - 1]?.last ?? -1n) >= first || (low < wanted.length && wanted[low]!.first <= last))
      return errno.EINVAL;
    if (context.kernel.allocator.fails()) return errno.ENOMEM;
    wanted.splice(low, 0, { first, last });
  }
  return ioas.table.allow(wanted);
}

const option = offsets(iommu_option);

function rlimitMode(context: Context, command: Command): number {
  if (command.u32(option.object_id) !== 0) return errno.EOPNOTSUPP;
  const op = command.u16(option.op);
  if (op === uapi.IOMMU_OPTION_OP_GET) {
    command.setU64(option.val64, context.accountMode === 'process' ? 1n : 0n);
    return 0;
  }
  if (op !== uapi.IOMMU_OPTION_OP_SET) return errno.EOPNOTSUPP;
  if (!context.kernel.accounting.capSysResource) return errno.EPERM;
  if (!context.objects.empty) return errno.EBUSY;
  const value = command.u64(option.val64);
  if (value > 1n) return errno.EINVAL;
  context.accountMode = value === 1n ? 'process' : 'user';
  return 0;
}

function hugePages(context: Context, command: Command): number {
  const ioas = context.objects.find(command.u32(option.object_id), Ioas);
  if (!ioas) return errno.ENOENT;
  const op = command.u16(option.op);
  if (op === uapi.IOMMU_OPTION_OP_GET) {
    command.setU64(option.val64, ioas.table.disableLargePages ? 0n : 1n);
    return 0;
  }
  if (op !== uapi.IOMMU_OPTION_OP_SET) return errno.EOPNOTSUPP;
  const value = command.u64(option.val64);
  if (value === 0n) return ioas.table.turnOffLargePages();
  if (value !== 1n) return errno.EINVAL;
  ioas.table.enableLargePages();
  return 0;
}

const options = new Map([
  [uapi.IOMMU_OPTION_RLIMIT_MODE as number, rlimitMode],
  [uapi.IOMMU_OPTION_HUGE_PAGES as number, hugePages],
]);

export function setOption(context: Context, command: Command): number {
  if (command.u16(option.__reserved) !== 0) return errno.EOPNOTSUPP;
  const rc = options.get(command.u32(option.option_id))?.(context, command) ?? errno.EOPNOTSUPP;
  if (rc !== 0) return rc;
  // Only val64 is copied back.
  const value = command.bytes.subarray(option.val64, option.val64 + 8);
  return command.memory.write(command.address + option.val64, value) > 0 ? errno.EFAULT : 0;
}

const vfioIoasFields = offsets(iommu_vfio_ioas);
export function vfioIoas(context: Context, command: Command): number {
  if (command.u16(vfioIoasFields.__reserved) !== 0) return errno.EOPNOTSUPP;
  const op = command.u16(vfioIoasFields.op);
  if (op === uapi.IOMMU_VFIO_IOAS_GET) {
    if (!context.vfioIoas) return errno.ENODEV;
    command.setU32(vfioIoasFields.ioas_id, context.vfioIoas.id);
    return command.respond();
  }
  if (op === uapi.IOMMU_VFIO_IOAS_SET) {
    const ioas = context.objects.find(command.u32(vfioIoasFields.ioas_id), Ioas);
    if (!ioas) return errno.ENOENT;
    context.vfioIoas = ioas;
    return 0;
  }
  if (op !== uapi.IOMMU_VFIO_IOAS_CLEAR) return errno.EOPNOTSUPP;
  context.vfioIoas = undefined;
  return 0;
}
