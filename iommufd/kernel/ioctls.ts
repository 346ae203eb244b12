import * as uapi from '#iommufd/uapi/iommufd';
import { iommu_test_cmd, selftestUapi } from '#iommufd/uapi/selftest';
import { errno } from '#vmm/base/errno';
import { type Command, copyStruct } from './command.ts';
import type { Context } from './context.ts';
import { faultAlloc } from './objects/fault-queue.ts';
import { getHwInfo } from './objects/device.ts';
import { getDirtyBitmap, setDirtyTracking } from './objects/dirty.ts';
import { hwQueueAlloc } from './objects/hw-queue.ts';
import { hwptAlloc, hwptInvalidate } from './objects/hwpt-ioctls.ts';
import { ioasAlloc, ioasChangeProcess, ioasCopy, ioasMap, ioasMapFile, ioasUnmap } from './objects/ioas.ts';
import { allowIovas, iovaRanges, setOption, vfioIoas } from './objects/ranges.ts';
import { vdeviceAlloc } from './objects/vdevice.ts';
import { veventqAlloc } from './objects/veventq.ts';
import { viommuAlloc } from './objects/viommu.ts';
import { type1Ioctl } from './vfio/type1.ts';

/** Runs one ioctl on its structure; 0, an errno, or (one test command) a negated file descriptor. */
export type Handler = (context: Context, command: Command) => number;

export interface Ioctl {
  /** Request number, `_IO(';', nr)`. */
  readonly request: number;
  readonly layout: {
    readonly name: string;
    readonly size: number;
    readonly members: readonly { name: string; offset: number; bytes: number; kind: string }[];
  };
  /** Bytes that user space must give at least: the structure as it was when the ioctl was introduced. */
  readonly minimum: number;
  readonly run: Handler;
}

const destroy: Handler = (context, command) => context.objects.destroy(command.u32(4));
const test: Handler = (context, command) => context.kernel.selftest?.command(context, command) ?? errno.EOPNOTSUPP;
const { iommufdUapi: K } = uapi;

/** THE table: what the kernel does for every request number (iommufd_ioctl_ops). */
// prettier-ignore
export const ioctls = {
  IOMMU_DESTROY:                 { request: K.IOMMU_DESTROY,                 layout: uapi.iommu_destroy,                 minimum:  8, run: destroy },
  IOMMU_IOAS_ALLOC:              { request: K.IOMMU_IOAS_ALLOC,              layout: uapi.iommu_ioas_alloc,              minimum: 12, run: ioasAlloc },
  IOMMU_IOAS_ALLOW_IOVAS:        { request: K.IOMMU_IOAS_ALLOW_IOVAS,        layout: uapi.iommu_ioas_allow_iovas,        minimum: 24, run: allowIovas },
  IOMMU_IOAS_COPY:               { request: K.IOMMU_IOAS_COPY,               layout: uapi.iommu_ioas_copy,               minimum: 40, run: ioasCopy },
  IOMMU_IOAS_IOVA_RANGES:        { request: K.IOMMU_IOAS_IOVA_RANGES,        layout: uapi.iommu_ioas_iova_ranges,        minimum: 32, run: iovaRanges },
  IOMMU_IOAS_MAP:                { request: K.IOMMU_IOAS_MAP,                layout: uapi.iommu_ioas_map,                minimum: 40, run: ioasMap },
  IOMMU_IOAS_UNMAP:              { request: K.IOMMU_IOAS_UNMAP,              layout: uapi.iommu_ioas_unmap,              minimum: 24, run: ioasUnmap },
  IOMMU_OPTION:                  { request: K.IOMMU_OPTION,                  layout: uapi.iommu_option,                  minimum: 24, run: setOption },
  IOMMU_VFIO_IOAS:               { request: K.IOMMU_VFIO_IOAS,               layout: uapi.iommu_vfio_ioas,               minimum: 12, run: vfioIoas },
  IOMMU_HWPT_ALLOC:              { request: K.IOMMU_HWPT_ALLOC,              layout: uapi.iommu_hwpt_alloc,              minimum: 24, run: hwptAlloc },
  IOMMU_GET_HW_INFO:             { request: K.IOMMU_GET_HW_INFO,             layout: uapi.iommu_hw_info,                 minimum: 32, run: getHwInfo },
  IOMMU_HWPT_SET_DIRTY_TRACKING: { request: K.IOMMU_HWPT_SET_DIRTY_TRACKING, layout: uapi.iommu_hwpt_set_dirty_tracking, minimum: 16, run: setDirtyTracking },
  IOMMU_HWPT_GET_DIRTY_BITMAP:   { request: K.IOMMU_HWPT_GET_DIRTY_BITMAP,   layout: uapi.iommu_hwpt_get_dirty_bitmap,   minimum: 48, run: getDirtyBitmap },
  IOMMU_HWPT_INVALIDATE:         { request: K.IOMMU_HWPT_INVALIDATE,         layout: uapi.iommu_hwpt_invalidate,         minimum: 32, run: hwptInvalidate },
  IOMMU_FAULT_QUEUE_ALLOC:       { request: K.IOMMU_FAULT_QUEUE_ALLOC,       layout: uapi.iommu_fault_alloc,             minimum: 16, run: faultAlloc },
  IOMMU_IOAS_MAP_FILE:           { request: K.IOMMU_IOAS_MAP_FILE,           layout: uapi.iommu_ioas_map_file,           minimum: 40, run: ioasMapFile },
  IOMMU_VIOMMU_ALLOC:            { request: K.IOMMU_VIOMMU_ALLOC,            layout: uapi.iommu_viommu_alloc,            minimum: 24, run: viommuAlloc },
  IOMMU_VDEVICE_ALLOC:           { request: K.IOMMU_VDEVICE_ALLOC,           layout: uapi.iommu_vdevice_alloc,           minimum: 24, run: vdeviceAlloc },
  IOMMU_IOAS_CHANGE_PROCESS:     { request: K.IOMMU_IOAS_CHANGE_PROCESS,     layout: uapi.iommu_ioas_change_process,     minimum:  8, run: ioasChangeProcess },
  IOMMU_VEVENTQ_ALLOC:           { request: K.IOMMU_VEVENTQ_ALLOC,           layout: uapi.iommu_veventq_alloc,           minimum: 28, run: veventqAlloc },
  IOMMU_HW_QUEUE_ALLOC:          { request: K.IOMMU_HW_QUEUE_ALLOC,          layout: uapi.iommu_hw_queue_alloc,          minimum: 40, run: hwQueueAlloc },
  IOMMU_TEST_CMD:                { request: selftestUapi.IOMMU_TEST_CMD,     layout: iommu_test_cmd,                     minimum: 68, run: test },
} as const satisfies Record<string, Ioctl>;

const base = K.IOMMUFD_CMD_BASE;
/** Rows by number above IOMMUFD_CMD_BASE; a hole is a number without an ioctl. */
const rows: (Ioctl & { name: string; slot: number })[] = [];
for (const [slot, [name, row]] of Object.entries(ioctls).entries())
  rows[(row.request & 0xff) - base] = { ...row, name, slot };

/** `iommufd_fops_ioctl`. A result or a negative errno. */
export function dispatch(context: Context, request: number, argument: number): number {
  const nr = request & 0xff;
  const { kernel } = context;
  if (nr < base || nr - base >= rows.length) return type1Ioctl(context, request, argument);
  const userSize = kernel.memory.readU32(argument);
  if (userSize < 0) return -errno.EFAULT;
  const row = rows[nr - base];
  if (!row || row.request !== request) return -errno.ENOTTY;
  if (userSize < row.minimum) return -errno.EINVAL;
  const command = kernel.beginCommand();
  command.address = argument;
  command.userSize = userSize;
  command.size = row.layout.size;
  let rc = copyStruct(kernel.memory, argument, userSize, command.bytes, command.size);
  const input = rc === 0 && kernel.trace.on ? command.bytes.slice(0, command.size) : undefined;
  if (rc === 0) {
    kernel.ioctlCounts[row.slot]!++;
    rc = row.run(context, command);
  }
  // Below 0: a file descriptor (IOMMU_TEST_OP_DMABUF_GET).
  if (input) kernel.traceIoctl(row.name, row.layout.members, input, command.bytes, Math.max(rc, 0));
  kernel.endCommand();
  return -rc;
}
