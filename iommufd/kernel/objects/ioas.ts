import { errno } from '#vmm/base/errno';
import {
  iommu_ioas_alloc,
  iommu_ioas_change_process,
  iommu_ioas_copy,
  iommu_ioas_map,
  iommu_ioas_map_file,
  iommu_ioas_unmap,
  iommufdUapi as uapi,
} from '#iommufd/uapi/iommufd';
import { type Command, offsets } from '../command.ts';
import type { Context } from '../context.ts';
import { prot } from '../iommu-ops.ts';
import { ulongMax } from '../iova/hole.ts';
import { IoPageTable, type PagesSlice } from '../iova/io-pagetable.ts';
import { Pages, type PageSource } from '../iova/pages.ts';
import { DmabufSource, FileSource, UserSource } from '../iova/sources.ts';
import { Dmabuf } from '../memory/dmabuf.ts';
import type { HwptPaging } from './hwpt.ts';
import { KernelObject } from './object.ts';

const pageSize = 4096n;

/** An I/O address space: `struct iommufd_ioas`. */
export class Ioas extends KernelObject {
  readonly table: IoPageTable;
  /** Paging domains of this IOAS, in the order of their making. */
  readonly hwpts: HwptPaging[] = [];

  constructor(context: Context) {
    super(context);
    this.table = new IoPageTable(context.kernel.allocator);
  }
  destroy(): void {
    this.table.destroy();
  }
}

const alloc = offsets(iommu_ioas_alloc);
export function ioasAlloc(context: Context, command: Command): number {
  if (command.u32(alloc.flags) !== 0) return errno.EOPNOTSUPP;
  const ioas = new Ioas(context);
  let rc = context.allocate(ioas);
  if (rc !== 0) return rc;
  command.setU32(alloc.out_ioas_id, ioas.id);
  rc = command.respond();
  if (rc !== 0) context.objects.abortAndDestroy(ioas);
  else context.objects.finalize(ioas);
  return rc;
}

const mapFlags = uapi.IOMMU_IOAS_MAP_FIXED_IOVA | uapi.IOMMU_IOAS_MAP_WRITEABLE | uapi.IOMMU_IOAS_MAP_READABLE;
const accessFlags = uapi.IOMMU_IOAS_MAP_WRITEABLE | uapi.IOMMU_IOAS_MAP_READABLE;
const protOf = (flags: number): number =>
  prot.cache |
  (flags & uapi.IOMMU_IOAS_MAP_WRITEABLE ? prot.write : 0) |
  (flags & uapi.IOMMU_IOAS_MAP_READABLE ? prot.read : 0);

/** `iopt_alloc_pages`. */
function makePages(
  context: Context,
  source: PageSource,
  startByte: bigint,
  length: bigint,
  writable: boolean,
): Pages | number {
  if (length > ulongMax - pageSize || length === 0n) return errno.EINVAL;
  const { kernel } = context;
  if (kernel.allocator.fails()) return errno.ENOMEM;
  const { accounting } = kernel;
  const mode = source.kind === 'dmabuf' || accounting.capIpcLock ? 'none' : context.accountMode;
  const count = Number((length + startByte + pageSize - 1n) / pageSize);
  return new Pages(source, count, writable, kernel.physical, accounting, mode);
}

/** `iopt_map_common`: one slice that is the whole of a new pages object. */
function mapNew(
  ioas: Ioas,
  pages: Pages,
  startByte: bigint,
  length: bigint,
  fixed: bigint | undefined,
  flags: number,
): number {
  const slices: readonly PagesSlice[] = [{ pages, startByte, length }];
  const rc = ioas.table.map(slices, length, fixed, flags);
  if (rc !== 0) pages.put();
  return rc;
}

/** `iopt_map_user_pages`: process memory at `address` (IOMMU_IOAS_MAP, VFIO_IOMMU_MAP_DMA). */
export function mapUser(ioas: Ioas, address: bigint, length: bigint, fixed: bigint | undefined, flags: number): number {
  if (address + length > ulongMax) return errno.EOVERFLOW;
  const startByte = address % pageSize;
  const source = new UserSource(ioas.context.kernel.memory, address - startByte);
  const pages = makePages(ioas.context, source, startByte, length, (flags & prot.write) !== 0);
  return typeof pages === 'number' ? pages : mapNew(ioas, pages, startByte, length, fixed, flags);
}

const map = offsets(iommu_ioas_map);
export function ioasMap(context: Context, command: Command): number {
  const flags = command.u32(map.flags);
  if ((flags & ~mapFlags) !== 0 || command.u32(map.__reserved) !== 0) return errno.EOPNOTSUPP;
  const iova = command.u64(map.iova);
  const length = command.u64(map.length);
  if (iova === ulongMax || length === ulongMax) return errno.EOVERFLOW;
  if ((flags & accessFlags) === 0) return errno.EINVAL;
  const ioas = context.objects.find(command.u32(map.ioas_id), Ioas);
  if (!ioas) return errno.ENOENT;
  const fixed = flags & uapi.IOMMU_IOAS_MAP_FIXED_IOVA ? iova : undefined;
  const rc = mapUser(ioas, command.u64(map.user_va), length, fixed, protOf(flags));
  if (rc !== 0) return rc;
  command.setU64(map.iova, ioas.table.mapped);
  return command.respond();
}

const mapFile = offsets(iommu_ioas_map_file);
export function ioasMapFile(context: Context, command: Command): number {
  const flags = command.u32(mapFile.flags);
  if ((flags & ~mapFlags) !== 0) return errno.EOPNOTSUPP;
  const iova = command.u64(mapFile.iova);
  const length = command.u64(mapFile.length);
  if (iova === ulongMax || length === ulongMax) return errno.EOVERFLOW;
  if ((flags & accessFlags) === 0) return errno.EINVAL;
  const ioas = context.objects.find(command.u32(mapFile.ioas_id), Ioas);
  if (!ioas) return errno.ENOENT;
  const start = command.u64(mapFile.start);
  if (length === 0n) return errno.EINVAL;
  if (start + length - 1n > ulongMax) return errno.EOVERFLOW;
  const startByte = start % pageSize;
  const file = context.kernel.files.get(command.s32(mapFile.fd));
  if (!file) return errno.EBADF;
  let source: PageSource;
  if (file instanceof Dmabuf) {
    if (BigInt(file.bytes) <= start + length - 1n) return errno.EINVAL;
    source = new DmabufSource(file, start - startByte);
  } else source = new FileSource(file, start - startByte);
  const pages = makePages(context, source, startByte, length, (flags & prot.write) !== 0);
  if (typeof pages === 'number') return pages;
  if (source instanceof DmabufSource) {
    const rc = source.attach();
    if (rc !== 0) return rc;
  }
  file.get();
  const fixed = flags & uapi.IOMMU_IOAS_MAP_FIXED_IOVA ? iova : undefined;
  const rc = mapNew(ioas, pages, startByte, length, fixed, protOf(flags));
  if (rc !== 0) return rc;
  command.setU64(mapFile.iova, ioas.table.mapped);
  return command.respond();
}

const copy = offsets(iommu_ioas_copy);
export function ioasCopy(context: Context, command: Command): number {
  const flags =
    context.kernel.selftest?.convertIova(context, command, copy.flags, copy.src_ioas_id, copy.src_iova) ??
    command.u32(copy.flags);
  if ((flags & ~mapFlags) !== 0) return errno.EOPNOTSUPP;
  const length = command.u64(copy.length);
  const from = command.u64(copy.src_iova);
  const to = command.u64(copy.dst_iova);
  if (length === ulongMax || from === ulongMax || to === ulongMax) return errno.EOVERFLOW;
  if ((flags & accessFlags) === 0) return errno.EINVAL;
  const source = context.objects.find(command.u32(copy.src_ioas_id), Ioas);
  if (!source) return errno.ENOENT;
  const slices = source.table.slices(from, length);
  if (typeof slices === 'number') return slices;
  const target = context.objects.find(command.u32(copy.dst_ioas_id), Ioas);
  let rc: number = errno.ENOENT;
  if (target) {
    const fixed = flags & uapi.IOMMU_IOAS_MAP_FIXED_IOVA ? to : undefined;
    rc = target.table.map(slices, length, fixed, protOf(flags));
  }
  if (rc !== 0) {
    for (const slice of slices) slice.pages.put();
    return rc;
  }
  command.setU64(copy.dst_iova, target!.table.mapped);
  return command.respond();
}

const unmap = offsets(iommu_ioas_unmap);
export function ioasUnmap(context: Context, command: Command): number {
  const ioas = context.objects.find(command.u32(unmap.ioas_id), Ioas);
  if (!ioas) return errno.ENOENT;
  const iova = command.u64(unmap.iova);
  const length = command.u64(unmap.length);
  const { table } = ioas;
  let rc: number;
  if (iova === 0n && length === ulongMax) rc = table.unmap(0n, ulongMax);
  else {
    if (iova === ulongMax || length === ulongMax) return errno.EOVERFLOW;
    rc = unmapIova(ioas, iova, length);
    if (rc === 0 && table.unmapped === 0n) rc = errno.ENOENT;
  }
  if (rc !== 0) return rc;
  command.setU64(unmap.length, table.unmapped);
  return command.respond();
}

/** `iopt_unmap_iova`. */
export function unmapIova(ioas: Ioas, iova: bigint, length: bigint): number {
  ioas.table.unmapped = 0n;
  if (length === 0n) return errno.EINVAL;
  const last = iova + length - 1n;
  return last > ulongMax ? errno.EOVERFLOW : ioas.table.unmap(iova, last);
}

const change = offsets(iommu_ioas_change_process);
export function ioasChangeProcess(context: Context, command: Command): number {
  if (command.u32(change.__reserved) !== 0) return errno.EOPNOTSUPP;
  // There is one process: nothing changes hands, but memory of the old process could not come along.
  for (const object of context.objects.all())
    if (object instanceof Ioas)
      for (const area of object.table.areas) if (area.pages.source.kind !== 'file') return errno.EINVAL;
  return 0;
}
