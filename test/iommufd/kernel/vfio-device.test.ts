import { describe, expect, it, vi } from 'vitest';
import { Iommufd } from '#iommufd/client/iommufd';
import type { Result } from '#iommufd/client/result';
import { VfioDevice } from '#iommufd/client/vfio-device';
import { Kernel } from '#iommufd/kernel/kernel';
import { MockDriver } from '#iommufd/kernel/selftest/mock-driver';
import { iommufdUapi as K } from '#iommufd/uapi/iommufd';
import { iommu_hwpt_selftest, selftestUapi as T } from '#iommufd/uapi/selftest';
import { rid } from '#vmm/base/address';
import { errno } from '#vmm/base/errno';
import { noPasid } from '#vmm/base/ports';

function must<V>(result: Result<V>): V {
  if (!result.ok) throw new Error(result.error.ioctl);
  return result;
}
function start(groups: readonly (string | undefined)[] = [undefined, undefined]) {
  const kernel = new Kernel();
  const driver = new MockDriver(kernel.physical);
  const attach = vi.spyOn(driver, 'attach');
  const reset = vi.fn();
  for (const [i, group] of groups.entries())
    kernel.registerDevice({
      vfioName: `vfio${i}`,
      name: `d${i}`,
      rid: rid(8 * (i + 1)),
      iommu: driver,
      ats: true,
      pri: true,
      pasidBits: 8,
      pasidExec: false,
      pasidPriv: false,
      reset,
      ...(group === undefined ? {} : { group }),
    });
  const { iommufd } = must(Iommufd.open(kernel));
  const devices = groups.map((_g, i) => must(VfioDevice.open(kernel, `vfio${i}`)).device);
  return { kernel, driver, attach, reset, iommufd, devices };
}
const refusal = (number: number) => ({ ok: false, error: { errno: number } });

describe('VFIO device fds', () => {
  it('do nothing before they are bound, and are bound once', () => {
    const { devices, iommufd, kernel } = start();
    const [device] = devices;
    expect(device!.attach(1)).toMatchObject(refusal(errno.EINVAL));
    expect(device!.reset()).toMatchObject(refusal(errno.EINVAL));
    must(device!.bind(iommufd));
    expect(device!.bind(iommufd)).toMatchObject(refusal(errno.EINVAL));
    const again = must(VfioDevice.open(kernel, 'vfio0')).device;
    expect(again.bind(iommufd)).toMatchObject(refusal(errno.EINVAL));
  });

  it('attach to an IOAS by an automatic table, which two devices share and the last takes along', () => {
    const { devices, iommufd } = start();
    for (const device of devices) must(device.bind(iommufd));
    const { ioasId } = must(iommufd.ioasAlloc());
    const first = must(devices[0]!.attach(ioasId)).ptId;
    expect(must(devices[1]!.attach(ioasId)).ptId).toBe(first);
    expect(iommufd.destroy(first)).toMatchObject(refusal(errno.EBUSY));
    must(devices[0]!.detach());
    expect(iommufd.destroy(first)).toMatchObject(refusal(errno.EBUSY));
    must(devices[1]!.detach());
    expect(iommufd.destroy(first)).toMatchObject(refusal(errno.ENOENT));
    must(iommufd.destroy(ioasId));
  });

  it('replace without a moment of nothing, and stay as they were when that fails', () => {
    const { devices, iommufd, attach } = start();
    const [device] = devices;
    const { devId } = must(device!.bind(iommufd));
    const { ioasId } = must(iommufd.ioasAlloc());
    const one = must(iommufd.hwptAlloc({ devId, ptId: ioasId })).hwptId;
    const two = must(iommufd.hwptAlloc({ devId, ptId: ioasId })).hwptId;
    must(device!.attach(one));
    must(device!.attach(two));
    const [, pasid, domain, old] = attach.mock.calls.at(-1)!;
    expect([pasid, domain !== undefined, old !== undefined]).toEqual([noPasid, true, true]);
    attach.mockReturnValueOnce(errno.ENOMEM);
    expect(device!.attach(one)).toMatchObject(refusal(errno.ENOMEM));
    expect(iommufd.destroy(two)).toMatchObject(refusal(errno.EBUSY));
    must(iommufd.destroy(one));
  });

  it('attach PASIDs only with tables made for them', () => {
    const { devices, iommufd } = start();
    const [device] = devices;
    const { devId } = must(device!.bind(iommufd));
    const { ioasId } = must(iommufd.ioasAlloc());
    const plain = must(iommufd.hwptAlloc({ devId, ptId: ioasId })).hwptId;
    const forPasids = must(iommufd.hwptAlloc({ devId, ptId: ioasId, flags: K.IOMMU_HWPT_ALLOC_PASID })).hwptId;
    expect(device!.attach(plain, 3)).toMatchObject(refusal(errno.EINVAL));
    must(device!.attach(forPasids, 3));
    expect(device!.attach(plain)).toMatchObject(refusal(errno.EINVAL));
    must(device!.attach(forPasids));
    expect(device!.attach(forPasids, 256)).toMatchObject(refusal(errno.EINVAL)); // 8 bits
    must(device!.detach(3));
    must(device!.detach(3));
  });

  it('are claimed group by group', () => {
    const { devices, iommufd, kernel, attach } = start(['g', 'g']);
    const second = must(Iommufd.open(kernel)).iommufd;
    const a = must(devices[0]!.bind(iommufd));
    expect(devices[1]!.bind(second)).toMatchObject(refusal(errno.EBUSY));
    must(devices[1]!.bind(iommufd));
    const { ioasId } = must(iommufd.ioasAlloc());
    const one = must(iommufd.hwptAlloc({ devId: a.devId, ptId: ioasId })).hwptId;
    const two = must(iommufd.hwptAlloc({ devId: a.devId, ptId: ioasId })).hwptId;
    must(devices[0]!.attach(one));
    expect(attach).toHaveBeenCalledTimes(2); // both devices of the group
    expect(devices[1]!.attach(two)).toMatchObject(refusal(errno.EINVAL));
    must(devices[1]!.attach(one));
    expect(attach).toHaveBeenCalledTimes(2);
    must(devices[0]!.detach());
    expect(iommufd.destroy(one)).toMatchObject(refusal(errno.EBUSY));
  });

  it('forbid reserved regions while they are attached', () => {
    const { devices, iommufd, driver, kernel } = start();
    driver.reservedRegions = () => [{ first: 0x200_0000n, last: 0x200_ffffn, kind: 'msi' }];
    const [device] = devices;
    must(device!.bind(iommufd));
    const { ioasId } = must(iommufd.ioasAlloc());
    const map = { ioasId, address: kernel.map({ bytes: 0x1000 }), bytes: 0x1000n, iova: 0x200_1000n };
    must(iommufd.ioasMap(map));
    expect(device!.attach(ioasId)).toMatchObject(refusal(errno.EADDRINUSE));
    must(iommufd.ioasUnmap(ioasId));
    must(device!.attach(ioasId));
    expect(iommufd.ioasMap(map)).toMatchObject(refusal(errno.EINVAL));
    must(device!.detach());
    must(iommufd.ioasMap(map));
  });

  it('take their virtual device with them when they are closed, and its id is never used again', () => {
    const { devices, iommufd, reset, kernel } = start();
    const [device] = devices;
    const { devId } = must(device!.bind(iommufd));
    const { ioasId } = must(iommufd.ioasAlloc());
    const { hwptId } = must(iommufd.hwptAlloc({ devId, ptId: ioasId, flags: K.IOMMU_HWPT_ALLOC_NEST_PARENT }));
    const { viommuId } = must(iommufd.viommuAlloc({ type: T.IOMMU_VIOMMU_TYPE_SELFTEST, devId, hwptId }));
    const { vdeviceId } = must(iommufd.vdeviceAlloc(viommuId, devId, 1n));
    const data = { type: T.IOMMU_HWPT_DATA_SELFTEST, bytes: iommu_hwpt_selftest.encode({ iotlb: 1 }) };
    const nested = must(iommufd.hwptAlloc({ devId, ptId: viommuId, data }));
    must(device!.attach(nested.hwptId));
    device!.close();
    expect(reset).toHaveBeenCalledTimes(1);
    expect(iommufd.destroy(vdeviceId)).toMatchObject(refusal(errno.ENOENT));
    const ids = Array.from({ length: 4 }, () => must(iommufd.ioasAlloc()).ioasId);
    expect(ids).not.toContain(vdeviceId);
    expect(ids).toContain(devId);
    must(must(VfioDevice.open(kernel, 'vfio0')).device.bind(iommufd));
  });
});
