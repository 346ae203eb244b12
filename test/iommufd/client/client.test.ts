import { describe, expect, it } from 'vitest';
import { Iommufd, type Result, VfioDevice, describeHostError } from '#iommufd/index';
import { Kernel } from '#iommufd/kernel/kernel';
import { MockDriver } from '#iommufd/kernel/selftest/mock-driver';
import { iommufdUapi as K } from '#iommufd/uapi/iommufd';
import { iommu_test_hw_info, selftestUapi as T } from '#iommufd/uapi/selftest';
import { rid } from '#vmm/base/address';
import { errno } from '#vmm/base/errno';

function must<V>(result: Result<V>): V {
  if (!result.ok) throw new Error(describeHostError(result.error));
  return result;
}
function start() {
  const kernel = new Kernel();
  const driver = new MockDriver(kernel.physical);
  const pci = { ats: false, pri: true, pasidBits: 20, pasidExec: false, pasidPriv: false };
  kernel.registerDevice({ ...pci, vfioName: 'vfio0', name: 'd0', rid: rid(8), iommu: driver });
  const { iommufd } = must(Iommufd.open(kernel));
  const { device } = must(VfioDevice.open(kernel, 'vfio0'));
  const { devId } = must(device.bind(iommufd));
  const { ioasId } = must(iommufd.ioasAlloc());
  return { kernel, driver, iommufd, device, devId, ioasId };
}

describe('client', () => {
  it('says which call was refused, why, and over what', () => {
    const { iommufd, devId, kernel } = start();
    const result = iommufd.hwptAlloc({ devId, ptId: 99, data: { type: 7, bytes: new Uint8Array(4) } });
    expect(result).toEqual({
      ok: false,
      error: { ioctl: 'IOMMU_HWPT_ALLOC', errno: errno.EINVAL, field: 'data_type=0x7' },
    });
    if (!result.ok) expect(describeHostError(result.error)).toBe('IOMMU_HWPT_ALLOC: EINVAL (data_type=0x7)');
    expect(Iommufd.open(kernel, '/dev/nothing')).toMatchObject({ ok: false, error: { errno: errno.ENOENT } });
    expect(VfioDevice.open(kernel, 'vfio9')).toMatchObject({ ok: false, error: { errno: errno.ENOENT } });
  });

  it('shows memory of one address space in another', () => {
    const { iommufd, kernel, ioasId } = start();
    const other = must(iommufd.ioasAlloc()).ioasId;
    const address = kernel.map({ bytes: 0x4000 });
    must(iommufd.ioasMap({ ioasId, address, bytes: 0x4000n, iova: 0x10_0000n, writable: false }));
    const copy = { toIoasId: other, fromIoasId: ioasId, fromIova: 0x10_1000n, bytes: 0x1000n };
    expect(iommufd.ioasCopy(copy)).toMatchObject({ ok: false, error: { errno: errno.EPERM } });
    expect(must(iommufd.ioasCopy({ ...copy, writable: false, iova: 0x5000n })).iova).toBe(0x5000n);
    expect(must(iommufd.ioasUnmap(other)).bytes).toBe(0x1000n);
  });

  it('lists, restricts and uses IOVA ranges', () => {
    const { iommufd, kernel, ioasId, device } = start();
    must(device.attach(ioasId));
    const { ranges, alignment } = must(iommufd.ioasIovaRanges(ioasId));
    expect(ranges).toEqual([{ first: BigInt(T.MOCK_APERTURE_START), last: BigInt(T.MOCK_APERTURE_LAST) }]);
    expect(alignment).toBe(2048n);
    must(iommufd.ioasAllowIovas(ioasId, [{ first: 0x500_0000n, last: 0x5ff_ffffn }]));
    const address = kernel.map({ bytes: 0x1000 });
    expect(must(iommufd.ioasMap({ ioasId, address, bytes: 0x1000n })).iova).toBe(0x500_0000n);
    expect(must(iommufd.optionGet(K.IOMMU_OPTION_HUGE_PAGES, ioasId)).value).toBe(1n);
    expect(iommufd.optionSet(K.IOMMU_OPTION_HUGE_PAGES, 0n, ioasId)).toMatchObject({
      ok: false,
      error: { errno: errno.EINVAL },
    });
  });

  it('reads what the hardware can do', () => {
    const { iommufd, devId } = start();
    const info = must(iommufd.getHwInfo(devId));
    expect(info).toMatchObject({ type: T.IOMMU_HW_INFO_TYPE_SELFTEST, maxPasidLog2: 20 });
    expect(iommu_test_hw_info.decode(info.data).test_reg).toBe(T.IOMMU_HW_INFO_SELFTEST_REGVAL);
    expect(info.capabilities & BigInt(K.IOMMU_HW_CAP_DIRTY_TRACKING)).not.toBe(0n);
    expect(iommufd.getHwInfo(devId, 5)).toMatchObject({ ok: false, error: { errno: errno.EOPNOTSUPP } });
  });

  it('tracks dirty pages', () => {
    const { iommufd, kernel, devId, ioasId } = start();
    const address = kernel.map({ bytes: 0x8000 });
    must(iommufd.ioasMap({ ioasId, address, bytes: 0x8000n, iova: 0x100_0000n }));
    const flags = K.IOMMU_HWPT_ALLOC_DIRTY_TRACKING;
    const { hwptId } = must(iommufd.hwptAlloc({ devId, ptId: ioasId, flags }));
    must(iommufd.hwptSetDirtyTracking(hwptId, true));
    const read = { hwptId, iova: 0x100_0000n, bytes: 0x8000n, pageBytes: 0x1000n };
    expect([...must(iommufd.hwptGetDirtyBitmap(read)).bitmap]).toEqual([0]);
    const context = kernel.files.get(iommufd.fd) as unknown as {
      objects: { get(id: number): { domain: { table: { setDirty(iova: number): void } } } };
    };
    const { table } = context.objects.get(hwptId).domain;
    table.setDirty(0x100_1000);
    table.setDirty(0x100_7000);
    expect([...must(iommufd.hwptGetDirtyBitmap({ ...read, keep: true })).bitmap]).toEqual([0x82]);
    expect([...must(iommufd.hwptGetDirtyBitmap(read)).bitmap]).toEqual([0x82]);
    expect([...must(iommufd.hwptGetDirtyBitmap(read)).bitmap]).toEqual([0]);
  });
});
