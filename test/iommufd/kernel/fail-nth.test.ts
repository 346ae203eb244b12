import { describe, expect, it } from 'vitest';
import { Iommufd } from '#iommufd/client/iommufd';
import type { Result } from '#iommufd/client/result';
import { VfioDevice } from '#iommufd/client/vfio-device';
import type { Context } from '#iommufd/kernel/context';
import { Kernel } from '#iommufd/kernel/kernel';
import { SelftestCommands } from '#iommufd/kernel/selftest/commands';
import { MockDriver } from '#iommufd/kernel/selftest/mock-driver';
import { iommufdUapi as K } from '#iommufd/uapi/iommufd';
import { iommu_hwpt_selftest, selftestUapi as T } from '#iommufd/uapi/selftest';
import { rid } from '#vmm/base/address';
import { errno } from '#vmm/base/errno';

/** A process whose pins are charged, with a bound device, two IOASes, a nesting parent and a vIOMMU. */
function start() {
  const kernel = new Kernel();
  kernel.selftest = new SelftestCommands(kernel);
  kernel.accounting.capIpcLock = false;
  const pci = { ats: false, pri: false, pasidBits: 20, pasidExec: false, pasidPriv: false };
  kernel.registerDevice({ ...pci, vfioName: 'vfio0', name: 'd0', rid: rid(8), iommu: new MockDriver(kernel.physical) });
  kernel.registerDevice({
    ...pci,
    vfioName: 'vfio1',
    name: 'd1',
    rid: rid(16),
    iommu: new MockDriver(kernel.physical),
  });
  const iommufd = (Iommufd.open(kernel) as { iommufd: Iommufd }).iommufd;
  const device = (VfioDevice.open(kernel, 'vfio0') as { device: VfioDevice }).device;
  const other = (VfioDevice.open(kernel, 'vfio1') as { device: VfioDevice }).device;
  const { devId } = device.bind(iommufd) as { devId: number };
  const ioas = (iommufd.ioasAlloc() as { ioasId: number }).ioasId;
  const target = (iommufd.ioasAlloc() as { ioasId: number }).ioasId;
  const memory = kernel.map({ bytes: 8 * 4096 });
  for (const [page, iova] of [
    [0, 0x100_0000n],
    [4, 0x100_4000n],
  ] as const)
    iommufd.ioasMap({ ioasId: ioas, address: memory + page * 4096, bytes: 0x4000n, iova });
  const { hwptId } = iommufd.hwptAlloc({ devId, ptId: ioas, flags: K.IOMMU_HWPT_ALLOC_NEST_PARENT }) as {
    hwptId: number;
  };
  const type = T.IOMMU_VIOMMU_TYPE_SELFTEST;
  const { viommuId } = iommufd.viommuAlloc({ type, devId, hwptId }) as { viommuId: number };
  const dirty = iommufd.hwptAlloc({ devId, ptId: target, flags: K.IOMMU_HWPT_ALLOC_DIRTY_TRACKING }) as {
    hwptId: number;
  };
  return { kernel, iommufd, device, other, devId, ioas, target, memory, hwptId, viommuId, type, dirty: dirty.hwptId };
}
type World = ReturnType<typeof start>;

const nested = { type: T.IOMMU_HWPT_DATA_SELFTEST, bytes: iommu_hwpt_selftest.encode({ iotlb: 1 }) };
const at = (w: World, page: number) => ({ address: w.memory + page * 4096, bytes: 0x2000n, iova: 0x200_0000n });

/** Every call that allocates something. */
const scenarios: Record<string, (w: World) => Result> = {
  IOMMU_IOAS_ALLOC: (w) => w.iommufd.ioasAlloc(),
  IOMMU_IOAS_MAP: (w) => w.iommufd.ioasMap({ ioasId: w.ioas, ...at(w, 2) }),
  'IOMMU_IOAS_MAP, anywhere': (w) => w.iommufd.ioasMap({ ioasId: w.ioas, address: w.memory, bytes: 0x2000n }),
  IOMMU_IOAS_MAP_FILE: (w) => {
    const fd = w.kernel.memfd();
    (w.kernel.files.get(fd) as unknown as { truncate(n: number): void }).truncate(0x4000);
    return w.iommufd.ioasMapFile({ ioasId: w.ioas, fd, start: 0n, bytes: 0x4000n, iova: 0x200_0000n });
  },
  IOMMU_IOAS_COPY: (w) =>
    w.iommufd.ioasCopy({
      toIoasId: w.target,
      fromIoasId: w.ioas,
      fromIova: 0x100_2000n,
      bytes: 0x4000n,
      iova: 0x200_0000n,
    }),
  IOMMU_IOAS_ALLOW_IOVAS: (w) =>
    w.iommufd.ioasAllowIovas(w.ioas, [
      { first: 0x300_0000n, last: 0x3ff_ffffn },
      { first: 0x500_0000n, last: 0x5ff_ffffn },
    ]),
  'IOMMU_HWPT_ALLOC, filled': (w) => w.iommufd.hwptAlloc({ devId: w.devId, ptId: w.ioas }),
  'IOMMU_HWPT_ALLOC, nested': (w) => w.iommufd.hwptAlloc({ devId: w.devId, ptId: w.hwptId, data: nested }),
  'IOMMU_HWPT_ALLOC, on a vIOMMU': (w) => w.iommufd.hwptAlloc({ devId: w.devId, ptId: w.viommuId, data: nested }),
  IOMMU_HWPT_GET_DIRTY_BITMAP: (w) =>
    w.iommufd.hwptGetDirtyBitmap({ hwptId: w.dirty, iova: 0x100_0000n, bytes: 0x1000n, pageBytes: 0x1000n }),
  IOMMU_FAULT_QUEUE_ALLOC: (w) => w.iommufd.faultQueueAlloc(),
  IOMMU_VIOMMU_ALLOC: (w) => w.iommufd.viommuAlloc({ type: w.type, devId: w.devId, hwptId: w.hwptId }),
  IOMMU_VDEVICE_ALLOC: (w) => w.iommufd.vdeviceAlloc(w.viommuId, w.devId, 3n),
  IOMMU_VEVENTQ_ALLOC: (w) => w.iommufd.veventqAlloc(w.viommuId, T.IOMMU_VEVENTQ_TYPE_SELFTEST, 4),
  IOMMU_HW_QUEUE_ALLOC: (w) =>
    w.iommufd.hwQueueAlloc({ viommuId: w.viommuId, type: w.type, index: 0, iova: 0x100_0000n, bytes: 0x800n }),
  'VFIO_DEVICE_ATTACH_IOMMUFD_PT, automatic': (w) => w.device.attach(w.ioas),
  VFIO_DEVICE_BIND_IOMMUFD: (w) => w.other.bind(w.iommufd),
};

/** Everything that a failed call must leave alone. */
function state(w: World): string {
  const context = w.kernel.files.get(w.iommufd.fd) as Context;
  const { accounting, physical } = w.kernel;
  const probe = w.iommufd.ioasAlloc() as { ioasId: number };
  w.iommufd.destroy(probe.ioasId);
  const objects = context.objects.all().map((o) => `${o.constructor.name} ${o.id} ${o.users}`);
  const memfds = w.kernel.files.get(0);
  return JSON.stringify([objects, probe.ioasId, physical.pinned, accounting.user, accounting.process, memfds]);
}

describe('when memory runs out at the n-th allocation', () => {
  it.each(Object.entries(scenarios))('%s fails with ENOMEM, changes nothing, and works the next time', (_name, run) => {
    const w = start();
    const before = state(w);
    let failures = 0;
    for (let nth = 1; ; nth++) {
      w.kernel.allocator.countdown = nth;
      const result = run(w);
      const injected = w.kernel.allocator.countdown === 0;
      w.kernel.allocator.countdown = 0;
      if (!injected) {
        expect(result.ok).toBe(true);
        break;
      }
      expect(result).toMatchObject({ ok: false, error: { errno: errno.ENOMEM } });
      expect(state(w)).toBe(before);
      failures++;
    }
    expect(failures).toBeGreaterThan(0);
  });
});
