import { describe, expect, it } from 'vitest';
import { Iommufd } from '#iommufd/client/iommufd';
import type { Result } from '#iommufd/client/result';
import { VfioDevice } from '#iommufd/client/vfio-device';
import type { Context } from '#iommufd/kernel/context';
import { Kernel } from '#iommufd/kernel/kernel';
import { SelftestCommands } from '#iommufd/kernel/selftest/commands';
import { MockDriver } from '#iommufd/kernel/selftest/mock-driver';
import { ioctls } from '#iommufd/kernel/ioctls';
import {
  iommu_hwpt_invalidate,
  iommu_ioas_change_process,
  iommu_option,
  iommu_vfio_ioas,
  iommufdUapi as K,
} from '#iommufd/uapi/iommufd';
import {
  iommu_hwpt_selftest,
  iommu_test_cmd,
  iommu_test_cmd_create_access,
  iommu_viommu_invalidate_selftest,
  selftestUapi as T,
} from '#iommufd/uapi/selftest';
import { vfioUapi as V, vfio_iommu_type1_dma_map } from '#iommufd/uapi/vfio';
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
  const scratch = kernel.scratch(4096);
  return {
    kernel,
    scratch,
    iommufd,
    device,
    other,
    devId,
    ioas,
    target,
    memory,
    hwptId,
    viommuId,
    type,
    dirty: dirty.hwptId,
  };
}
type World = ReturnType<typeof start>;

const nested = { type: T.IOMMU_HWPT_DATA_SELFTEST, bytes: iommu_hwpt_selftest.encode({ iotlb: 1 }) };
const at = (w: World, page: number) => ({ address: w.memory + page * 4096, bytes: 0x2000n, iova: 0x200_0000n });

/** What a scenario needs first: not to fail. */
function quietly<T>(w: World, run: () => T): T {
  const { countdown } = w.kernel.allocator;
  w.kernel.allocator.countdown = 0;
  const result = run();
  w.kernel.allocator.countdown = countdown;
  return result;
}

/** A call without a typed client; `data` lies at the structure's `data_uptr`. */
function raw(
  w: World,
  ioctl: string,
  request: number,
  layout: { encode(values: object): Uint8Array },
  values: object,
  data?: Uint8Array,
): Result {
  if (data) w.scratch.bytes.set(data, 512);
  const pointer = data ? { data_uptr: BigInt(w.scratch.address + 512) } : {};
  w.scratch.bytes.set(layout.encode({ ...values, ...pointer }));
  const result = w.kernel.ioctl(w.iommufd.fd, request, w.scratch.address);
  return result < 0 ? { ok: false, error: { ioctl, errno: -result } } : { ok: true };
}
const testCommand = (w: World, values: object): Result => {
  const size = iommu_test_cmd.size;
  const padded = {
    encode: (v: object) =>
      Uint8Array.from([...iommu_test_cmd_create_access.encode(v), ...new Uint8Array(size)].slice(0, size)),
  };
  return raw(w, 'IOMMU_TEST_CMD', T.IOMMU_TEST_CMD, padded, { size, ...values });
};

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
  'VFIO_DEVICE_ATTACH_IOMMUFD_PT, to a table': (w) => w.device.attach(w.hwptId),
  'VFIO_DEVICE_ATTACH_IOMMUFD_PT, another table': (w) => {
    quietly(w, () => w.device.attach(w.hwptId));
    const result = w.device.attach(w.dirty);
    w.device.detach();
    return result;
  },
  IOMMU_GET_HW_INFO: (w) => w.iommufd.getHwInfo(w.devId),
  IOMMU_HWPT_INVALIDATE: (w) => {
    const made = quietly(w, () => w.iommufd.vdeviceAlloc(w.viommuId, w.devId, 3n)) as { vdeviceId: number };
    const data = iommu_viommu_invalidate_selftest.encode({ vdev_id: 3 });
    const args = {
      size: iommu_hwpt_invalidate.size,
      hwpt_id: w.viommuId,
      data_type: T.IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST,
      entry_len: data.length,
      entry_num: 1,
    };
    const result = raw(w, 'IOMMU_HWPT_INVALIDATE', K.IOMMU_HWPT_INVALIDATE, iommu_hwpt_invalidate, args, data);
    w.iommufd.destroy(made.vdeviceId);
    return result;
  },
  IOMMU_TEST_CMD: (w) => testCommand(w, { op: T.IOMMU_TEST_OP_CREATE_ACCESS, id: w.ioas }),
  'IOMMU_TEST_CMD, mock domain': (w) => testCommand(w, { op: T.IOMMU_TEST_OP_MOCK_DOMAIN, id: w.target }),
  VFIO_IOMMU_MAP_DMA: (w) => {
    const ids = { size: 12, ioas_id: w.target, op: K.IOMMU_VFIO_IOAS_SET };
    raw(w, 'IOMMU_VFIO_IOAS', K.IOMMU_VFIO_IOAS, iommu_vfio_ioas, ids);
    const args = { argsz: 32, flags: 3, vaddr: BigInt(w.memory), iova: 0x300_0000n, size: 0x2000n };
    return raw(w, 'VFIO_IOMMU_MAP_DMA', V.VFIO_IOMMU_MAP_DMA, vfio_iommu_type1_dma_map, args);
  },
  VFIO_DEVICE_BIND_IOMMUFD: (w) => w.other.bind(w.iommufd),
};

/** Calls that allocate nothing: they cannot fail so. */
const without: Record<string, (w: World) => Result> = {
  IOMMU_DESTROY: (w) => w.iommufd.destroy(w.dirty),
  IOMMU_IOAS_UNMAP: (w) => w.iommufd.ioasUnmap(w.ioas, 0x100_0000n, 0x4000n),
  IOMMU_IOAS_IOVA_RANGES: (w) => w.iommufd.ioasIovaRanges(w.ioas),
  IOMMU_OPTION: (w) =>
    raw(w, 'IOMMU_OPTION', K.IOMMU_OPTION, iommu_option, {
      size: 24,
      option_id: K.IOMMU_OPTION_HUGE_PAGES,
      op: K.IOMMU_OPTION_OP_GET,
      object_id: w.ioas,
    }),
  IOMMU_VFIO_IOAS: (w) =>
    raw(w, 'IOMMU_VFIO_IOAS', K.IOMMU_VFIO_IOAS, iommu_vfio_ioas, {
      size: 12,
      ioas_id: w.ioas,
      op: K.IOMMU_VFIO_IOAS_SET,
    }),
  IOMMU_HWPT_SET_DIRTY_TRACKING: (w) => w.iommufd.hwptSetDirtyTracking(w.dirty, true),
  IOMMU_IOAS_CHANGE_PROCESS: (w) => {
    w.iommufd.ioasUnmap(w.ioas, 0x100_0000n, 0x8000n);
    return raw(w, 'IOMMU_IOAS_CHANGE_PROCESS', K.IOMMU_IOAS_CHANGE_PROCESS, iommu_ioas_change_process, { size: 8 });
  },
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

  it.each(Object.entries(without))('%s does not notice', (_name, run) => {
    const w = start();
    w.kernel.allocator.countdown = 1;
    expect(run(w).ok).toBe(true);
    expect(w.kernel.allocator.countdown).toBe(1);
  });

  it('all calls are tried', () => {
    const tried = Object.keys({ ...scenarios, ...without }).map((name) => name.split(',')[0]!);
    expect(Object.keys(ioctls).filter((name) => !tried.includes(name))).toEqual([]);
  });
});
