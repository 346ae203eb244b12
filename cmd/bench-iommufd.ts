/** What calls of our iommufd cost, with the selftest's driver as the kernel's own figures have it. CPU time. */
import { Iommufd } from '#iommufd/client/iommufd';
import type { Result } from '#iommufd/client/result';
import { VfioDevice } from '#iommufd/client/vfio-device';
import { Kernel } from '#iommufd/kernel/kernel';
import { MockDriver } from '#iommufd/kernel/selftest/mock-driver';
import {
  iommu_destroy,
  iommu_hwpt_invalidate,
  iommu_ioas_map,
  iommu_ioas_unmap,
  iommufdUapi as K,
} from '#iommufd/uapi/iommufd';
import { iommu_hwpt_invalidate_selftest, iommu_hwpt_selftest, selftestUapi as T } from '#iommufd/uapi/selftest';
import { pageBytes, rid } from '#vmm/base/address';
import { invariant } from '#vmm/base/invariant';
import { median } from './median.ts';

const firstIova = 0x100_0000;
const word = 0x1_0000_0000;
const batch = 1024;

function must<R extends Result>(result: R): Extract<R, { ok: true }> {
  invariant(result.ok, 'a call that a measurement needs failed');
  return result as Extract<R, { ok: true }>;
}
/** Microseconds of CPU time so far, of all threads: other processes and waiting do not count. */
const cpu = (): number => {
  const { user, system } = process.cpuUsage();
  return user + system;
};

/** An IOAS with one domain of `flags`, and memory for the structures of calls. */
function open(flags: number) {
  const kernel = new Kernel();
  const pci = { ats: false, pri: false, pasidBits: 0, pasidExec: false, pasidPriv: false };
  kernel.registerDevice({ ...pci, vfioName: 'vfio0', name: 'd0', rid: rid(8), iommu: new MockDriver(kernel.physical) });
  const { iommufd } = must(Iommufd.open(kernel));
  const { device } = must(VfioDevice.open(kernel, 'vfio0'));
  const { devId } = must(device.bind(iommufd));
  const { ioasId } = must(iommufd.ioasAlloc());
  // The one with an aperture of more than 2 GiB.
  const data = {
    type: T.IOMMU_HWPT_DATA_SELFTEST,
    bytes: iommu_hwpt_selftest.encode({ pagetable_type: T.MOCK_IOMMUPT_HUGE }),
  };
  const { hwptId } = must(iommufd.hwptAlloc({ devId, ptId: ioasId, flags, data }));
  const scratch = kernel.scratch(4 * batch * iommu_hwpt_invalidate_selftest.size);
  const view = new DataView(scratch.bytes.buffer, scratch.bytes.byteOffset);
  const put = (offset: number, value: number): void => {
    view.setUint32(offset, value % word, true);
    view.setUint32(offset + 4, Math.floor(value / word), true);
  };
  const call = (request: number): number => kernel.ioctl(iommufd.fd, request, scratch.address);
  return { kernel, iommufd, devId, ioasId, hwptId, scratch, put, call };
}

/** 0 … count-1, the same shuffle each time. */
function shuffled(count: number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  let state = 12_345;
  for (let i = count - 1; i > 0; i--) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    const j = state % (i + 1);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

/**
 * Microseconds that a MAP and an UNMAP of 4 KiB cost while an IOAS with a domain fills to `size` mappings and empties
 * again, and how much the process grew by them, in megabytes.
 */
export function mapCosts(
  size: number,
  order: 'in order' | 'random',
): { map: number; unmap: number; megabytes: number } {
  const { kernel, ioasId, scratch, put, call } = open(0);
  const user = kernel.map({ bytes: size * pageBytes });
  const pages = order === 'random' ? shuffled(size) : Uint32Array.from({ length: size }, (_, i) => i);
  const flags = K.IOMMU_IOAS_MAP_FIXED_IOVA | K.IOMMU_IOAS_MAP_READABLE | K.IOMMU_IOAS_MAP_WRITEABLE;
  const map = iommu_ioas_map.encode({ size: iommu_ioas_map.size, flags, ioas_id: ioasId, length: 4096n });
  const unmap = iommu_ioas_unmap.encode({ size: iommu_ioas_unmap.size, ioas_id: ioasId });
  const at = {
    user: iommu_ioas_map.offset('user_va'),
    mapIova: iommu_ioas_map.offset('iova'),
    iova: iommu_ioas_unmap.offset('iova'),
    length: iommu_ioas_unmap.offset('length'),
  };
  const costs = { map: [] as number[], unmap: [] as number[] };
  const before = process.memoryUsage.rss();
  let after = before;
  for (let left = Math.ceil(400_000 / size); left > 0; left--) {
    // So small that the clock would not tell: many at once.
    const repeats = Math.min(Math.ceil(10_000 / size), left);
    left -= repeats - 1;
    let mapping = 0;
    let unmapping = 0;
    for (let i = 0; i < repeats; i++) {
      const start = cpu();
      scratch.bytes.set(map);
      for (const page of pages) {
        put(at.user, user + page * pageBytes);
        put(at.mapIova, firstIova + page * pageBytes);
        invariant(call(K.IOMMU_IOAS_MAP) === 0, 'IOAS_MAP failed');
      }
      const middle = cpu();
      after = Math.max(after, process.memoryUsage.rss());
      scratch.bytes.set(unmap);
      const between = cpu();
      for (const page of pages) {
        put(at.iova, firstIova + page * pageBytes);
        put(at.length, pageBytes);
        invariant(call(K.IOMMU_IOAS_UNMAP) === 0, 'IOAS_UNMAP failed');
      }
      mapping += middle - start;
      unmapping += cpu() - between;
    }
    costs.map.push(mapping / size / repeats);
    costs.unmap.push(unmapping / size / repeats);
  }
  return { map: median(costs.map), unmap: median(costs.unmap), megabytes: (after - before) / 1e6 };
}

/** Median microseconds of `call` in rounds of so many. */
function each(rounds: number, call: () => void): number {
  const costs: number[] = [];
  for (let round = 0; round < 6; round++) {
    const start = cpu();
    for (let i = 0; i < rounds; i++) call();
    if (round > 0) costs.push((cpu() - start) / rounds);
  }
  return median(costs);
}

/** Microseconds of a call that finds nothing to do, of a pair that makes and destroys, and of one invalidation request. */
export function callCosts(): { nothing: number; pair: number; invalidation: number } {
  const world = open(K.IOMMU_HWPT_ALLOC_NEST_PARENT);
  const { iommufd, devId, hwptId, scratch, call } = world;
  scratch.bytes.set(iommu_destroy.encode({ size: iommu_destroy.size, id: 1000 }));
  const nothing = each(200_000, () => void call(K.IOMMU_DESTROY));
  const pair = each(20_000, () => void iommufd.destroy(must(iommufd.ioasAlloc()).ioasId));
  const data = { type: T.IOMMU_HWPT_DATA_SELFTEST, bytes: iommu_hwpt_selftest.encode({ iotlb: 1 }) };
  const nested = must(iommufd.hwptAlloc({ devId, ptId: hwptId, data }));
  const entry = iommu_hwpt_invalidate_selftest.size;
  const arguments_ = iommu_hwpt_invalidate.encode({
    size: iommu_hwpt_invalidate.size,
    hwpt_id: nested.hwptId,
    data_uptr: BigInt(scratch.address + 4096),
    data_type: T.IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
    entry_len: entry,
    entry_num: batch,
  });
  scratch.bytes.fill(0);
  const invalidation = each(200, () => {
    scratch.bytes.set(arguments_);
    invariant(call(K.IOMMU_HWPT_INVALIDATE) === 0, 'HWPT_INVALIDATE failed');
  });
  return { nothing, pair, invalidation: invalidation / batch };
}
