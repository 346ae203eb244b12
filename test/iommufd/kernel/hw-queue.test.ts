import { expect, it } from 'vitest';
import { Iommufd } from '#iommufd/client/iommufd';
import type { Result } from '#iommufd/client/result';
import { VfioDevice } from '#iommufd/client/vfio-device';
import { Kernel } from '#iommufd/kernel/kernel';
import { MockDriver } from '#iommufd/kernel/selftest/mock-driver';
import { iommufdUapi as K } from '#iommufd/uapi/iommufd';
import { selftestUapi as T } from '#iommufd/uapi/selftest';
import { rid } from '#vmm/base/address';
import { errno } from '#vmm/base/errno';

function must<V>(result: Result<V>): V {
  if (!result.ok) throw new Error(result.error.ioctl);
  return result;
}

it('locks the memory that hardware reads commands from, and keeps queues in their order', () => {
  const kernel = new Kernel();
  const driver = new MockDriver(kernel.physical);
  const pci = { ats: false, pri: false, pasidBits: 0, pasidExec: false, pasidPriv: false };
  kernel.registerDevice({ ...pci, vfioName: 'vfio0', name: 'd0', rid: rid(8), iommu: driver });
  const { iommufd } = must(Iommufd.open(kernel));
  const { devId } = must(must(VfioDevice.open(kernel, 'vfio0')).device.bind(iommufd));
  const { ioasId } = must(iommufd.ioasAlloc());
  const address = kernel.map({ bytes: 0x4000 });
  must(iommufd.ioasMap({ ioasId, address, bytes: 0x2000n, iova: 0x100_0000n }));
  must(iommufd.ioasMap({ ioasId, address: address + 0x2000, bytes: 0x2000n, iova: 0x100_2000n }));
  const { hwptId } = must(iommufd.hwptAlloc({ devId, ptId: ioasId, flags: K.IOMMU_HWPT_ALLOC_NEST_PARENT }));
  const type = T.IOMMU_VIOMMU_TYPE_SELFTEST;
  const { viommuId } = must(iommufd.viommuAlloc({ type, devId, hwptId }));
  const queue = (index: number, iova: bigint, bytes: bigint) =>
    iommufd.hwQueueAlloc({ viommuId, type, index, iova, bytes });

  expect(queue(1, 0x100_0000n, 0x800n)).toMatchObject({ error: { errno: errno.EIO } }); // the first is missing
  expect(queue(0, 0x100_0000n, 0x2000n)).toMatchObject({ error: { errno: errno.EFAULT } }); // not contiguous
  const first = must(queue(0, 0x100_0800n, 0x800n)).hwQueueId;
  expect(queue(0, 0x100_0000n, 0x800n)).toMatchObject({ error: { errno: errno.EEXIST } });
  const second = must(queue(1, 0x100_2000n, 0x800n)).hwQueueId;
  expect(second).toBe(first + 2); // each has an access of its own
  expect(iommufd.destroy(first)).toMatchObject({ error: { errno: errno.EBUSY } });
  expect(iommufd.ioasUnmap(ioasId, 0x100_0000n, 0x2000n)).toMatchObject({ error: { errno: errno.EBUSY } });
  must(iommufd.destroy(second));
  must(iommufd.destroy(first));
  must(iommufd.ioasUnmap(ioasId));
  expect(kernel.physical.pinned).toBe(0);
});
