import { iommu_hwpt_alloc, iommu_hwpt_invalidate, iommufdUapi as uapi } from '#iommufd/uapi/iommufd';
import { errno } from '#vmm/base/errno';
import { type Command, offsets } from '../command.ts';
import type { Context } from '../context.ts';
import { UserArray, UserStruct } from '../user-data.ts';
import { Device } from './device.ts';
import { FaultQueue } from './fault-queue.ts';
import { type Hwpt, HwptNested, HwptPaging, allocNested, allocNestedOnViommu, allocPaging } from './hwpt.ts';
import { Ioas } from './ioas.ts';
import { Viommu } from './viommu.ts';

const alloc = offsets(iommu_hwpt_alloc);
export function hwptAlloc(context: Context, command: Command): number {
  const { objects } = context;
  if (command.u32(alloc.__reserved) !== 0) return errno.EOPNOTSUPP;
  const dataType = command.u32(alloc.data_type);
  const dataLength = command.u32(alloc.data_len);
  if ((dataType === uapi.IOMMU_HWPT_DATA_NONE) !== (dataLength === 0)) return errno.EINVAL;
  const device = objects.find(command.u32(alloc.dev_id), Device);
  if (!device) return errno.ENOENT;
  const target = objects.get(command.u32(alloc.pt_id));
  const flags = command.u32(alloc.flags);
  const data = new UserStruct(context.kernel.memory, command.pointer(alloc.data_uptr), dataType, dataLength);
  let hwpt: Hwpt | number = errno.EINVAL;
  if (target instanceof Ioas) hwpt = allocPaging(target, device, flags, dataLength > 0 ? data : undefined);
  else if (target instanceof HwptPaging) hwpt = allocNested(target, device, flags, data);
  else if (target instanceof Viommu && target.driver === device.physical.driver)
    hwpt = allocNestedOnViommu(target, flags, data);
  if (typeof hwpt === 'number') return hwpt;
  let rc = 0;
  if (flags & uapi.IOMMU_HWPT_FAULT_ID_VALID) {
    const fault = objects.find(command.u32(alloc.fault_id), FaultQueue);
    if (fault) hwpt.setFault(fault);
    else rc = errno.ENOENT;
  }
  if (rc === 0) {
    command.setU32(alloc.out_hwpt_id, hwpt.id);
    rc = command.respond();
  }
  if (rc !== 0) objects.abortAndDestroy(hwpt);
  else objects.finalize(hwpt);
  return rc;
}

/** Caps on one call, so that it cannot take forever. */
const maxEntries = 1 << 19;
const maxEntryBytes = 4096;

const invalidate = offsets(iommu_hwpt_invalidate);
export function hwptInvalidate(context: Context, command: Command): number {
  const rc = runInvalidate(context, command);
  // entry_num is written whatever happened: how many requests were carried out.
  return command.respond() || rc;
}

function runInvalidate(context: Context, command: Command): number {
  const count = command.u32(invalidate.entry_num);
  command.setU32(invalidate.entry_num, 0);
  if (command.u32(invalidate.__reserved) !== 0) return errno.EOPNOTSUPP;
  const entryLength = command.u32(invalidate.entry_len);
  const address = command.pointer(invalidate.data_uptr);
  if (count > 0 && (address === 0 || entryLength === 0 || entryLength > maxEntryBytes || count > maxEntries))
    return errno.EINVAL;
  const target = context.objects.get(command.u32(invalidate.hwpt_id));
  if (!target) return errno.ENOENT;
  const array = new UserArray(context.kernel.memory).begin(
    address,
    command.u32(invalidate.data_type),
    entryLength,
    count,
  );
  let rc: number;
  if (target instanceof HwptNested) {
    const { domain } = target;
    if (!domain.cacheInvalidate) return errno.EOPNOTSUPP;
    rc = domain.cacheInvalidate(array);
  } else if (target instanceof Viommu) {
    const { driverViommu } = target;
    if (!driverViommu.cacheInvalidate) return errno.EOPNOTSUPP;
    // The driver copies all requests before it carries out the first.
    if (count > 0 && context.kernel.allocator.fails()) return errno.ENOMEM;
    rc = driverViommu.cacheInvalidate(array);
  } else return errno.EINVAL;
  command.setU32(invalidate.entry_num, array.handled);
  return rc;
}
