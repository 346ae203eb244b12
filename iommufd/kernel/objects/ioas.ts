import { hiHalf, loHalf } from '#vmm/base/address';
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
import { DmabufSource, FileSource } from '../iova/sources.ts';
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

/** `iopt_alloc_pages`: `bytes` from the start of page `basePage` of a source. */
function makePages(
  context: Context,
  source: PageSource,
  basePage: number,
  bytes: bigint,
  writable: boolean,
): Pages | number {
  const { kernel } = context;
  if (kernel.allocator.fails()) return errno.ENOMEM;
  const mode = source.kind === 'dmabuf' || kernel.accounting.capIpcLock ? 'none' : context.accountMode;
  return new Pages(source, basePage, Number((bytes + pageSize - 1n) / pageSize), writable, kernel, mode);
}
const tooLong = (length: bigint): boolean => length > ulongMax - pageSize || length === 0n;

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
  if (tooLong(length)) return errno.EINVAL;
  const startByte = address % pageSize;
  const { context } = ioas;
  const base = Number(address / pageSize);
  const pages = makePages(context, context.kernel.userSource, base, length + startByte, (flags & prot.write) !== 0);
  return typeof pages === 'number' ? pages : mapNew(ioas, pages, startByte, length, fixed, flags);
}

const ones = 0xffff_ffff;
/** Below this, addresses and lengths (and their sums) are exact as numbers. */
const plain = 2 ** 52;

/** `mapUser` at a fixed IOVA, in plain numbers. */
function mapPlain(ioas: Ioas, address: number, bytes: number, iovaHi: number, iovaLo: number, flags: number): number {
  const { kernel, accountMode } = ioas.context;
  if (kernel.allocator.fails()) return errno.ENOMEM;
  const offset = address % 4096;
  const count = Math.floor((bytes + offset + 4095) / 4096);
  const mode = kernel.accounting.capIpcLock ? 'none' : accountMode;
  const writable = (flags & prot.write) !== 0;
  const pages = new Pages(kernel.userSource, Math.floor(address / 4096), count, writable, kernel, mode);
  const rc = ioas.table.mapOne(pages, offset, bytes, iovaHi, iovaLo, flags);
  if (rc !== 0) pages.put();
  return rc;
}

const map = offsets(iommu_ioas_map);
export function ioasMap(context: Context, command: Command): number {
  const flags = command.u32(map.flags);
  if ((flags & ~mapFlags) !== 0 || command.u32(map.__reserved) !== 0) return errno.EOPNOTSUPP;
  const iovaHi = command.u32(map.iova + 4);
  const iovaLo = command.u32(map.iova);
  const lengthHi = command.u32(map.length + 4);
  const lengthLo = command.u32(map.length);
  if ((iovaHi === ones && iovaLo === ones) || (lengthHi === ones && lengthLo === ones)) return errno.EOVERFLOW;
  if ((flags & accessFlags) === 0) return errno.EINVAL;
  const ioas = context.objects.find(command.u32(map.ioas_id), Ioas);
  if (!ioas) return errno.ENOENT;
  const fixed = (flags & uapi.IOMMU_IOAS_MAP_FIXED_IOVA) !== 0;
  const address = command.pointer(map.user_va);
  const bytes = lengthHi * 0x1_0000_0000 + lengthLo;
  if (fixed && address < plain && bytes > 0 && bytes < plain) {
    const rc = mapPlain(ioas, address, bytes, iovaHi, iovaLo, protOf(flags));
    return rc || command.respond();
  }
  const iova = fixed ? command.u64(map.iova) : undefined;
  const rc = mapUser(ioas, command.u64(map.user_va), command.u64(map.length), iova, protOf(flags));
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
    source = new DmabufSource(file);
  } else source = new FileSource(file);
  if (tooLong(length)) return errno.EINVAL;
  const base = Number(start / pageSize);
  const pages = makePages(context, source, base, length + startByte, (flags & prot.write) !== 0);
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
  const { table } = ioas;
  const hi = command.u32(unmap.iova + 4);
  const lo = command.u32(unmap.iova);
  const lengthHi = command.u32(unmap.length + 4);
  const lengthLo = command.u32(unmap.length);
  let rc: number;
  if (hi === 0 && lo === 0 && lengthHi === ones && lengthLo === ones) rc = table.unmapRange(0, 0, ones, ones);
  else {
    if ((hi === ones && lo === ones) || (lengthHi === ones && lengthLo === ones)) return errno.EOVERFLOW;
    rc = unmapHalves(table, hi, lo, lengthHi, lengthLo);
    if (rc === 0 && table.unmappedHi === 0 && table.unmappedLo === 0) rc = errno.ENOENT;
  }
  if (rc !== 0) return rc;
  command.setU32(unmap.length, table.unmappedLo);
  command.setU32(unmap.length + 4, table.unmappedHi);
  return command.respond();
}

function unmapHalves(table: IoPageTable, hi: number, lo: number, lengthHi: number, lengthLo: number): number {
  table.unmappedHi = 0;
  table.unmappedLo = 0;
  if (lengthHi === 0 && lengthLo === 0) return errno.EINVAL;
  const low = lo + lengthLo - 1;
  const lastLo = low < 0 ? ones : low % 0x1_0000_0000;
  const lastHi = hi + lengthHi + Math.floor(low / 0x1_0000_0000);
  return lastHi > ones ? errno.EOVERFLOW : table.unmapRange(hi, lo, lastHi, lastLo);
}

/** `iopt_unmap_iova`. */
export const unmapIova = (ioas: Ioas, iova: bigint, length: bigint): number =>
  unmapHalves(ioas.table, hiHalf(iova), loHalf(iova), hiHalf(length), loHalf(length));

const change = offsets(iommu_ioas_change_process);
export function ioasChangeProcess(context: Context, command: Command): number {
  if (command.u32(change.__reserved) !== 0) return errno.EOPNOTSUPP;
  // There is one process: nothing changes hands, but memory of the old process could not come along.
  for (const object of context.objects.all())
    if (object instanceof Ioas)
      for (const area of object.table.areas) if (area.pages.source.kind !== 'file') return errno.EINVAL;
  return 0;
}
