import { describe, expect, it } from 'vitest';
import { Iommufd } from '#iommufd/client/iommufd';
import type { Result } from '#iommufd/client/result';
import { describeHostError } from '#iommufd/client/result';
import { VfioDevice } from '#iommufd/client/vfio-device';
import { Kernel } from '#iommufd/kernel/kernel';
import { MockDriver, type MockPaging } from '#iommufd/kernel/selftest/mock-driver';
import { iommufdUapi as K } from '#iommufd/uapi/iommufd';
import { iommu_hwpt_selftest, iommu_viommu_invalidate_selftest, selftestUapi as T } from '#iommufd/uapi/selftest';
import { rid } from '#vmm/base/address';
import { Trace } from '#vmm/base/events';
import { HostMemory } from '#vmm/base/memory';

function must<T>(result: Result<T>): T {
  if (!result.ok) throw new Error(describeHostError(result.error));
  return result;
}

/** What a VMM does before its guest runs, on a kernel whose IOMMU is the selftest's. */
function start() {
  const memory = new HostMemory({ engineBytes: 2 << 20, poolBytes: 2 << 20, guestBytes: 16 << 20 });
  const trace = new Trace(() => 0);
  const kernel = new Kernel({ memory, trace });
  const driver = new MockDriver(kernel.physical);
  for (const index of [0, 1])
    kernel.registerDevice({
      vfioName: `vfio${index}`,
      name: `0000:00:0${index + 1}.0`,
      rid: rid((index + 1) << 3),
      iommu: driver,
      ats: true,
      pri: true,
      pasidBits: 20,
      pasidExec: false,
      pasidPriv: false,
    });
  const { iommufd } = must(Iommufd.open(kernel));
  const { device } = must(VfioDevice.open(kernel, 'vfio0'));
  const { devId } = must(device.bind(iommufd));
  const { ioasId } = must(iommufd.ioasAlloc());
  const ram = kernel.map({ bytes: memory.guestBytes, hpa: memory.guestBase });
  const gpa = 0x1000_0000n;
  must(iommufd.ioasMap({ ioasId, address: ram, bytes: BigInt(memory.guestBytes), iova: gpa }));
  const parent = must(iommufd.hwptAlloc({ devId, ptId: ioasId, flags: K.IOMMU_HWPT_ALLOC_NEST_PARENT }));
  return { memory, trace, kernel, driver, iommufd, device, devId, ioasId, ram, gpa, parentId: parent.hwptId };
}
const selftestData = (iotlb: number) => ({
  type: T.IOMMU_HWPT_DATA_SELFTEST,
  bytes: iommu_hwpt_selftest.encode({ iotlb }),
});

describe('the DMA path', () => {
  it('puts guest RAM at its GPA into the nesting parent, in large pages', () => {
    const { kernel, memory, iommufd, gpa, parentId, ioasId, ram } = start();
    const context = kernel.files.get(iommufd.fd) as unknown as { objects: { get(id: number): { domain: MockPaging } } };
    const { domain } = context.objects.get(parentId);
    expect(domain.iovaToPhys(0, Number(gpa))).toBe(memory.guestBase);
    expect(domain.iovaToPhys(0, Number(gpa) + (16 << 20) - 1)).toBe(memory.guestBase + (16 << 20) - 1);
    expect(domain.iovaToPhys(0, Number(gpa) + (16 << 20))).toBe(-1);
    expect(kernel.physical.pinned).toBe((16 << 20) / 4096);
    expect(must(iommufd.ioasUnmap(ioasId)).bytes).toBe(16n << 20n);
    expect(kernel.physical.pinned).toBe(0);
    expect(domain.iovaToPhys(0, Number(gpa))).toBe(-1);
    expect(ram).toBeGreaterThan(0);
  });

  it('maps an interrupt file and a memfd that is guest RAM', () => {
    const { kernel, memory, iommufd, ioasId, parentId } = start();
    const stores: number[] = [];
    const page = memory.attachMmio({ read: () => 0, write: (_o, _b, value) => stores.push(Number(value)), reset() {} });
    const doorbell = kernel.map({ bytes: 4096, mmio: page, pinnable: true });
    must(iommufd.ioasMap({ ioasId, address: doorbell, bytes: 4096n, iova: 0x2800_0000n }));
    const fd = kernel.memfd(0, { hpa: memory.guestBase, bytes: memory.guestBytes });
    must(iommufd.ioasMapFile({ ioasId, fd, start: 0x1000n, bytes: 0x3000n, iova: 0x4000_0000n }));
    const context = kernel.files.get(iommufd.fd) as unknown as { objects: { get(id: number): { domain: MockPaging } } };
    const { domain } = context.objects.get(parentId);
    expect(domain.iovaToPhys(0, 0x2800_0000)).toBe(page);
    expect(domain.iovaToPhys(0, 0x4000_2000)).toBe(memory.guestBase + 0x3000);
  });

  it('nests on a vIOMMU, needs a vDEVICE, forwards invalidations', () => {
    const { iommufd, device, devId, parentId, kernel, driver } = start();
    const { viommuId } = must(iommufd.viommuAlloc({ type: T.IOMMU_VIOMMU_TYPE_SELFTEST, devId, hwptId: parentId }));
    const nested = must(iommufd.hwptAlloc({ devId, ptId: viommuId, data: selftestData(7) }));
    expect(device.attach(nested.hwptId)).toMatchObject({ ok: false, error: { errno: 2 } });
    must(iommufd.vdeviceAlloc(viommuId, devId, 0x18n));
    expect(must(device.attach(nested.hwptId)).ptId).toBe(nested.hwptId);
    const request = iommu_viommu_invalidate_selftest.encode({ vdev_id: 0x18, cache_id: 2 });
    const two = new Uint8Array([...request, ...iommu_viommu_invalidate_selftest.encode({ vdev_id: 9 })]);
    const type = T.IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST;
    expect(iommufd.hwptInvalidate(viommuId, type, request, request.length)).toEqual({ ok: true, done: 1 });
    expect(iommufd.hwptInvalidate(viommuId, type, two, request.length)).toMatchObject({ ok: false, done: 1 });
    must(device.detach());
    must(iommufd.destroy(nested.hwptId));
    expect(kernel.ioctlsByName()).toMatchObject({ IOMMU_VIOMMU_ALLOC: 1, VFIO_DEVICE_ATTACH_IOMMUFD_PT: 2 });
    expect(driver.name).toBe('mock');
  });

  it('carries page requests to user space and answers back, per PASID', () => {
    const { iommufd, device, devId, ioasId, kernel, driver } = start();
    const answers: number[][] = [];
    driver.pageResponse = (_device, ...answer) => void answers.push(answer);
    const queue = must(iommufd.faultQueueAlloc());
    const rid = must(
      iommufd.hwptAlloc({ devId, ptId: ioasId, flags: K.IOMMU_HWPT_ALLOC_PASID, faultId: queue.faultId }),
    );
    must(device.attach(rid.hwptId));
    must(device.attach(rid.hwptId, 5));
    let wakes = 0;
    kernel.watch(queue.fd, () => wakes++);
    expect(kernel.poll(queue.fd)).toBe(4);
    const mock = driver.core;
    const target = driver.devices[0]!;
    mock.reportFault(target, { pasid: 5, addressHi: 1, addressLo: 0x2000, perm: 3, grpid: 9, last: false });
    expect(wakes).toBe(0);
    mock.reportFault(target, { pasid: 5, addressHi: 1, addressLo: 0x3000, perm: 1, grpid: 9, last: true });
    expect(wakes).toBe(1);
    expect(kernel.poll(queue.fd)).toBe(4 | 1 | 64);
    const { faults } = must(iommufd.readFaults(queue.fd));
    expect(faults.map((f) => [f.flags, f.dev_id, f.pasid, f.grpid, f.perm, f.addr, f.cookie])).toEqual([
      [1, devId, 5, 9, 3, 0x1_0000_2000n, 1],
      [3, devId, 5, 9, 1, 0x1_0000_3000n, 1],
    ]);
    must(iommufd.respondFault(queue.fd, 1, K.IOMMUFD_PAGE_RESP_SUCCESS));
    expect(answers).toEqual([[5, 9, 0]]);
    // No such PASID: refused at once.
    mock.reportFault(target, { pasid: 6, addressHi: 0, addressLo: 0, perm: 1, grpid: 1, last: true });
    expect(answers.at(-1)).toEqual([6, 1, 1]);
    must(device.detach(5));
    device.close();
    iommufd.close();
    expect(kernel.physical.pinned).toBe((16 << 20) / 4096); // the fault fd keeps the context
    kernel.close(queue.fd);
    expect(kernel.physical.pinned).toBe(0);
  });

  it('delivers events, and says when some were lost', () => {
    const { iommufd, devId, parentId, driver } = start();
    const { viommuId } = must(iommufd.viommuAlloc({ type: T.IOMMU_VIOMMU_TYPE_SELFTEST, devId, hwptId: parentId }));
    const events = must(iommufd.veventqAlloc(viommuId, T.IOMMU_VEVENTQ_TYPE_SELFTEST, 2));
    const [viommu] = driver.viommus;
    for (let i = 0; i < 4; i++) viommu!.core.reportVevent(T.IOMMU_VEVENTQ_TYPE_SELFTEST, new Uint8Array([i, 0, 0, 0]));
    expect(must(iommufd.readEvents(events.fd, 4)).events.map((e) => [e.sequence, e.lost, e.data[0]])).toEqual([
      [0, false, 0],
      [1, false, 1],
      [3, true, undefined],
    ]);
    expect(must(iommufd.readEvents(events.fd, 4)).events).toEqual([]);
  });

  it('traces each ioctl with its fields', () => {
    const { trace, iommufd, ioasId } = start();
    const lines: string[] = [];
    const stop = trace.listen(({ name, fields }) =>
      lines.push(`${name} ${fields['name']} ${fields['in']} -> ${fields['result']} ${fields['out']}`),
    );
    iommufd.ioasAlloc();
    iommufd.ioasUnmap(ioasId, 0x5000n, 0x1000n);
    stop();
    iommufd.ioasAlloc();
    expect(lines).toEqual([
      expect.stringMatching(/^iommufd.ioctl IOMMU_IOAS_ALLOC {2}-> 0 out_ioas_id=\d+$/),
      `iommufd.ioctl IOMMU_IOAS_UNMAP ioas_id=${ioasId} iova=0x5000 length=0x1000 -> ENOENT `,
    ]);
  });
});
