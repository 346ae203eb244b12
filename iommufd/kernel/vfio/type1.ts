import {
  vfioUapi as uapi,
  vfio_iommu_type1_dma_map,
  vfio_iommu_type1_dma_unmap,
  vfio_iommu_type1_info,
  vfio_iommu_type1_info_cap_iova_range,
  vfio_iommu_type1_info_dma_avail,
} from '#iommufd/uapi/vfio';
import { errno } from '#vmm/base/errno';
import { offsets } from '../command.ts';
import type { Context } from '../context.ts';
import { prot } from '../iommu-ops.ts';
import { ulongMax } from '../iova/hole.ts';
import { mapUser, unmapIova } from '../objects/ioas.ts';
import type { Ioas } from '../objects/ioas.ts';

/** VFIO's container ioctls on an iommufd (drivers/iommu/iommufd/vfio_compat.c). A result or a negative errno. */
export function type1Ioctl(context: Context, request: number, argument: number): number {
  const row = requests.get(request);
  if (!row) return -errno.ENOTTY;
  const result = row.run(context, argument);
  context.kernel.countVfio(row.name, '', result);
  return result;
}

const bytes = new Uint8Array(64);
const view = new DataView(bytes.buffer);
const u32 = (offset: number): number => view.getUint32(offset, true);
const u64 = (offset: number): bigint => view.getBigUint64(offset, true);

const map = offsets(vfio_iommu_type1_dma_map);
function mapDma(context: Context, argument: number): number {
  if (context.kernel.memory.read(argument, bytes, vfio_iommu_type1_dma_map.size) > 0) return -errno.EFAULT;
  const flags = u32(map.flags);
  if (
    u32(0) < vfio_iommu_type1_dma_map.size ||
    (flags & ~(uapi.VFIO_DMA_MAP_FLAG_READ | uapi.VFIO_DMA_MAP_FLAG_WRITE)) !== 0
  )
    return -errno.EINVAL;
  const ioas = context.vfioIoas;
  if (!ioas) return -errno.ENODEV;
  const permissions =
    prot.cache |
    (flags & uapi.VFIO_DMA_MAP_FLAG_READ ? prot.read : 0) |
    (flags & uapi.VFIO_DMA_MAP_FLAG_WRITE ? prot.write : 0);
  return -mapUser(ioas, u64(map.vaddr), u64(map.size), u64(map.iova), permissions);
}

const unmap = offsets(vfio_iommu_type1_dma_unmap);
function unmapDma(context: Context, argument: number): number {
  const { memory } = context.kernel;
  if (memory.read(argument, bytes, vfio_iommu_type1_dma_unmap.size) > 0) return -errno.EFAULT;
  const flags = u32(unmap.flags);
  if (u32(0) < vfio_iommu_type1_dma_unmap.size || (flags & ~uapi.VFIO_DMA_UNMAP_FLAG_ALL) !== 0) return -errno.EINVAL;
  const ioas = context.vfioIoas;
  if (!ioas) return -errno.ENODEV;
  const { table } = ioas;
  const iova = u64(unmap.iova);
  const size = u64(unmap.size);
  let rc: number;
  if (flags & uapi.VFIO_DMA_UNMAP_FLAG_ALL) {
    if (iova !== 0n || size !== 0n) return -errno.EINVAL;
    rc = table.unmap(0n, ulongMax);
  } else {
    if (table.disableLargePages) {
      const cuts = [BigInt.asUintN(64, iova + size - 1n)];
      if (iova !== 0n) cuts.push(iova - 1n);
      rc = table.cut(cuts);
      if (rc !== 0) return -rc;
    }
    rc = unmapIova(ioas, iova, size);
  }
  // An access's callback may have run other calls: the structure is written anew.
  view.setUint32(0, vfio_iommu_type1_dma_unmap.size, true);
  const out = new Uint8Array(8);
  const outView = new DataView(out.buffer);
  outView.setUint32(0, table.unmappedLo, true);
  outView.setUint32(4, table.unmappedHi, true);
  return memory.write(argument + unmap.size, out) > 0 ? -errno.EFAULT : -rc;
}

/** 1 when every domain of the IOAS enforces cache coherency. */
function dmaCoherent(context: Context): number {
  if (!context.vfioIoas) return -errno.ENODEV;
  return context.vfioIoas.hwpts.every((hwpt) => hwpt.enforcesCacheCoherency) ? 1 : 0;
}

const extensions = new Map<number, (context: Context) => number>([
  [uapi.VFIO_TYPE1_IOMMU, () => 1],
  [uapi.VFIO_TYPE1v2_IOMMU, () => 1],
  [uapi.VFIO_UNMAP_ALL, () => 1],
  [uapi.VFIO_DMA_CC_IOMMU, dmaCoherent],
]);

function setIommu(context: Context, type: number): number {
  if (type !== uapi.VFIO_TYPE1_IOMMU && type !== uapi.VFIO_TYPE1v2_IOMMU) return -errno.EINVAL;
  if (!context.vfioIoas) return -errno.ENODEV;
  // Version 1 can unmap the middle of a mapping, which large pages would not allow.
  return type === uapi.VFIO_TYPE1_IOMMU ? -context.vfioIoas.table.turnOffLargePages() : 0;
}

function pageSizes(ioas: Ioas): bigint {
  let sizes = ulongMax;
  for (const domain of ioas.table.domains) sizes &= domain.pgsizeBitmap;
  if ((sizes & 0xfffn) !== 0n) sizes = (sizes & ~0xfffn) | 0x1000n;
  const alignment = BigInt(ioas.table.alignment);
  return sizes > alignment ? sizes : alignment;
}

const info = offsets(vfio_iommu_type1_info);
const rangeHeader = vfio_iommu_type1_info_cap_iova_range.size;

/** The capability chain: DMA_AVAIL, then IOVA_RANGE. */
function capabilities(ioas: Ioas): Uint8Array[] {
  const avail = vfio_iommu_type1_info_dma_avail.encode({
    'header.id': uapi.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
    'header.version': 1,
    avail: 0xffff_ffff,
  });
  const valid = ioas.table.validRanges();
  const ranges = new Uint8Array(rangeHeader + 16 * valid.length);
  vfio_iommu_type1_info_cap_iova_range.encodeInto(ranges, {
    'header.id': uapi.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
    'header.version': 1,
    nr_iovas: valid.length,
  });
  const rangesView = new DataView(ranges.buffer);
  for (const [i, { first, last }] of valid.entries()) {
    rangesView.setBigUint64(rangeHeader + 16 * i, first, true);
    rangesView.setBigUint64(rangeHeader + 16 * i + 8, last, true);
  }
  return [avail, ranges];
}

function getInfo(context: Context, argument: number): number {
  const { memory } = context.kernel;
  const minimum = info.cap_offset;
  if (memory.read(argument, bytes, minimum) > 0) return -errno.EFAULT;
  const argsz = u32(0);
  if (argsz < minimum) return -errno.EINVAL;
  const ioas = context.vfioIoas;
  if (!ioas) return -errno.ENODEV;
  const { size } = vfio_iommu_type1_info;
  let total = size;
  let previous = -1;
  for (const capability of capabilities(ioas)) {
    const room = argsz - total;
    if (room > 0) {
      // Whole ranges that fit are written even where the header after all does not.
      const header = Math.min(capability.length, rangeHeader);
      for (let at = rangeHeader; at + 16 <= Math.min(room, capability.length); at += 16)
        if (memory.write(argument + total + at, capability.subarray(at, at + 16)) > 0) return -errno.EFAULT;
      if (room >= capability.length && memory.write(argument + total, capability.subarray(0, header)) > 0)
        return -errno.EFAULT;
    }
    if (previous >= 0 && argsz >= total) {
      const next = new Uint8Array(4);
      new DataView(next.buffer).setUint32(0, total, true);
      if (memory.write(argument + previous + 4, next) > 0) return -errno.EFAULT;
    }
    previous = total;
    total += Math.ceil(capability.length / 8) * 8;
  }
  const out = vfio_iommu_type1_info.encode({
    argsz: total,
    flags: uapi.VFIO_IOMMU_INFO_PGSIZES | uapi.VFIO_IOMMU_INFO_CAPS,
    iova_pgsizes: pageSizes(ioas),
    cap_offset: argsz >= total ? size : 0,
  });
  return memory.write(argument, out, Math.min(argsz, size)) > 0 ? -errno.EFAULT : 0;
}

/** The requests answered; all others are ENOTTY (so also DIRTY_PAGES). */
const requests = new Map<number, { name: string; run: (context: Context, argument: number) => number }>([
  [uapi.VFIO_GET_API_VERSION, { name: 'VFIO_GET_API_VERSION', run: () => uapi.VFIO_API_VERSION }],
  [uapi.VFIO_CHECK_EXTENSION, { name: 'VFIO_CHECK_EXTENSION', run: (c, type) => extensions.get(type)?.(c) ?? 0 }],
  [uapi.VFIO_SET_IOMMU, { name: 'VFIO_SET_IOMMU', run: setIommu }],
  [uapi.VFIO_IOMMU_GET_INFO, { name: 'VFIO_IOMMU_GET_INFO', run: getInfo }],
  [uapi.VFIO_IOMMU_MAP_DMA, { name: 'VFIO_IOMMU_MAP_DMA', run: mapDma }],
  [uapi.VFIO_IOMMU_UNMAP_DMA, { name: 'VFIO_IOMMU_UNMAP_DMA', run: unmapDma }],
]);
