import * as layouts from '#iommufd/uapi/selftest';
import { rid } from '#vmm/base/address';
import { errno } from '#vmm/base/errno';
import { noPasid } from '#vmm/base/ports';
import { type Command, offsets } from '../command.ts';
import type { Context } from '../context.ts';
import { ulongMax } from '../iova/hole.ts';
import type { Kernel } from '../kernel.ts';
import { Dmabuf } from '../memory/dmabuf.ts';
import { RunList } from '../memory/process-memory.ts';
import { Access, accessFlags } from '../objects/access.ts';
import {
  Device,
  attachDevice,
  attachedId,
  bindDevice,
  detachDevice,
  replaceDevice,
  unbindDevice,
} from '../objects/device.ts';
import { ridPasid } from '../objects/group.ts';
import { Hwpt, HwptNested, HwptPaging } from '../objects/hwpt.ts';
import { Ioas } from '../objects/ioas.ts';
import { KernelObject } from '../objects/object.ts';
import type { PhysicalDevice } from '../physical-device.ts';
import { AccessFile } from './access-file.ts';
import { MockDevice, MockDriver, MockNested, MockPaging } from './mock-driver.ts';
import type { Selftest } from './selftest.ts';

const K = layouts.selftestUapi;
const maxBytes = 16 << 20;
type Handler = (test: SelftestCommands, context: Context, command: Command) => number;

/** A mock device that is bound and attached: `struct selftest_obj`. */
class SelftestDevice extends KernelObject {
  device!: Device;
  physical!: PhysicalDevice;

  destroy(): void {
    // Deviation: the kernel leaves PASIDs that are still attached, and warns; here they go too.
    for (const pasid of this.device.igroup.attachments.keys()) detachDevice(this.device, pasid);
    unbindDevice(this.device);
    this.context.kernel.unprobe(this.physical);
    (this.physical.driver as MockDriver).forget(this.physical.iommu);
  }
}

const head = offsets(layouts.iommu_test_cmd);
const runs = new RunList();

/** Host-physical address of the page behind a user address, or -1. */
function userPage(kernel: Kernel, address: number): number {
  runs.clear();
  return kernel.memory.resolve(address, 1, false, runs) === 0 ? runs.hpa[0]! : -1;
}

const reserved = offsets(layouts.iommu_test_cmd_add_reserved);
const addReserved: Handler = (_test, context, command) => {
  const start = command.u64(reserved['add_reserved.start']);
  const length = command.u64(reserved['add_reserved.length']);
  if (length === 0n) return errno.EINVAL;
  if (start + length - 1n > ulongMax) return errno.EOVERFLOW;
  const ioas = context.objects.find(command.u32(head.id), Ioas);
  return ioas ? ioas.table.reserve(start, start + length - 1n, undefined) : errno.ENOENT;
};

const mockFlags = offsets(layouts.iommu_test_cmd_mock_domain_flags);
const mockDomain: Handler = (test, context, command) => {
  const { objects, kernel } = context;
  const object = new SelftestDevice(context);
  let rc = context.allocate(object);
  if (rc !== 0) return rc;
  const flags =
    command.u32(head.op) === K.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS
      ? command.u32(mockFlags['mock_domain_flags.dev_flags'])
      : 0;
  const physical = test.makeDevice(flags);
  if (typeof physical === 'number') {
    objects.abort(object);
    return physical;
  }
  const device = bindDevice(context, physical, false);
  if (typeof device === 'number') {
    kernel.unprobe(physical);
    objects.abort(object);
    return device;
  }
  object.device = device;
  object.physical = physical;
  rc = attachDevice(device, ridPasid, command.u32(head.id));
  if (rc === 0) {
    command.setU32(mockFlags['mock_domain_flags.out_hwpt_id'], attachedId());
    command.setU32(mockFlags['mock_domain_flags.out_stdev_id'], object.id);
    command.setU32(mockFlags['mock_domain_flags.out_idev_id'], device.id);
    rc = command.respond();
  }
  if (rc !== 0) objects.abortAndDestroy(object);
  else objects.finalize(object);
  return rc;
};

const replace = offsets(layouts.iommu_test_cmd_mock_domain_replace);
const mockReplace: Handler = (_test, context, command) => {
  const object = context.objects.find(command.u32(head.id), SelftestDevice);
  if (!object) return errno.ENOENT;
  const at = replace['mock_domain_replace.pt_id'];
  const rc = replaceDevice(object.device, ridPasid, command.u32(at));
  if (rc !== 0) return rc;
  command.setU32(at, attachedId());
  return command.respond();
};

const check = offsets(layouts.iommu_test_cmd_check_map);
const checkMap: Handler = (_test, context, command) => {
  const hwpt = context.objects.find(command.u32(head.id), HwptPaging);
  if (!hwpt) return errno.ENOENT;
  const { domain } = hwpt;
  if (!(domain instanceof MockPaging)) return errno.EINVAL;
  const page = Number(domain.pgsizeBitmap & -domain.pgsizeBitmap);
  const length = command.u64(check['check_map.length']);
  const start = command.u64(check['check_map.iova']);
  const user = command.u64(check['check_map.uptr']);
  const mask = BigInt(page - 1);
  if ((start & mask) !== 0n || (length & mask) !== 0n || (user & mask) !== 0n || user + length > ulongMax)
    return errno.EINVAL;
  for (let done = 0n; done < length; done += BigInt(page)) {
    const address = Number(user + done);
    const hpa = userPage(context.kernel, address - (address % 4096));
    if (hpa < 0) return errno.EFAULT;
    if (domain.table.translate(Number(start + done)) !== hpa + (address % 4096)) return errno.EINVAL;
  }
  return 0;
};

const refs = offsets(layouts.iommu_test_cmd_check_refs);
const checkRefs: Handler = (_test, context, command) => {
  const length = command.u64(refs['check_refs.length']);
  const user = command.u64(refs['check_refs.uptr']);
  if (length % 4096n !== 0n || user % 4096n !== 0n || user + length > ulongMax) return errno.EINVAL;
  const { kernel } = context;
  for (let done = 0n; done < length; done += 4096n) {
    const hpa = userPage(kernel, Number(user + done));
    if (hpa < 0) return errno.EFAULT;
    // Pages of huge pages count their pins elsewhere.
    if (kernel.memory.isHuge(Number(user + done))) continue;
    if (kernel.physical.pins(hpa) !== command.u32(refs['check_refs.refs'])) return errno.EIO;
  }
  return 0;
};

const iotlb = offsets(layouts.iommu_test_cmd_check_iotlb);
const checkIotlb: Handler = (_test, context, command) => {
  const hwpt = context.objects.find(command.u32(head.id), HwptNested);
  if (!hwpt) return errno.ENOENT;
  const { domain } = hwpt;
  if (!(domain instanceof MockNested)) return errno.EINVAL;
  const word = domain.iotlb[command.u32(iotlb['check_iotlb.id'])];
  return word === command.u32(iotlb['check_iotlb.iotlb']) ? 0 : errno.EINVAL;
};

const cache = offsets(layouts.iommu_test_cmd_check_dev_cache);
const checkCache: Handler = (_test, context, command) => {
  const mock = findMock(context, command.u32(head.id));
  if (typeof mock === 'number') return mock;
  const word = mock.cache[command.u32(cache['check_dev_cache.id'])];
  return word === command.u32(cache['check_dev_cache.cache']) ? 0 : errno.EINVAL;
};

function findMock(context: Context, id: number): MockDevice | number {
  const device = context.objects.find(id, Device);
  if (!device) return errno.ENOENT;
  const { iommu } = device.physical;
  return iommu instanceof MockDevice ? iommu : errno.EINVAL;
}

const create = offsets(layouts.iommu_test_cmd_create_access);
const createAccess: Handler = (_test, context, command) => {
  const flags = command.u32(create['create_access.flags']);
  if (flags & ~K.MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES) return errno.EOPNOTSUPP;
  const { files } = context.kernel;
  const file = new AccessFile();
  const pins = (flags & K.MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES) !== 0;
  const access = Access.create(context, pins, (start, length) => file.unmap(start, length));
  if (typeof access === 'number') return access;
  let rc = access.attach(command.u32(head.id));
  if (rc === 0) {
    const fd = files.reserve();
    command.setU32(create['create_access.out_access_fd'], fd);
    rc = command.respond();
    if (rc === 0) {
      file.access = access;
      files.install(fd, file);
      return 0;
    }
    files.unreserve(fd);
  }
  context.objects.destroyOwned(access);
  return rc;
};

function findAccess(context: Context, fd: number): { file: AccessFile; access: Access } | undefined {
  const file = context.kernel.files.get(fd);
  return file instanceof AccessFile ? { file, access: file.access! } : undefined;
}

const accessReplace = offsets(layouts.iommu_test_cmd_access_replace_ioas);
const replaceIoas: Handler = (_test, context, command) => {
  const found = findAccess(context, command.u32(head.id));
  return found ? found.access.replace(command.u32(accessReplace['access_replace_ioas.ioas_id'])) : errno.EBADFD;
};

const pages = offsets(layouts.iommu_test_cmd_access_pages);
const accessPages: Handler = (test, context, command) => {
  const length = command.u64(pages['access_pages.length']);
  if (length > BigInt(maxBytes)) return errno.ENOMEM;
  const flags = command.u32(pages['access_pages.flags']);
  if (flags & ~(K.MOCK_FLAGS_ACCESS_WRITE | K.MOCK_FLAGS_ACCESS_SYZ)) return errno.EOPNOTSUPP;
  const found = findAccess(context, command.u32(head.id));
  if (!found) return errno.EBADFD;
  const { file, access } = found;
  if (access.alignment !== 4096) return errno.EOPNOTSUPP;
  let iova = command.u64(pages['access_pages.iova']);
  if (flags & K.MOCK_FLAGS_ACCESS_SYZ) iova = test.nthArea(access.ioas, iova);
  if (context.kernel.allocator.fails()) return errno.ENOMEM;
  const frames: number[] = [];
  let rc = access.pin(iova, length, (flags & K.MOCK_FLAGS_ACCESS_WRITE) !== 0, frames);
  if (rc !== 0) return rc;
  const user = command.pointer(pages['access_pages.uptr']);
  if (user !== 0) {
    const base = user - Number(iova & 0xfffn);
    for (const [i, frame] of frames.entries()) {
      const hpa = userPage(context.kernel, base + i * 4096);
      if (hpa < 0) rc = errno.EFAULT;
      else if (hpa !== frame) rc = errno.EBADE;
      if (rc !== 0) break;
    }
  }
  if (rc === 0) {
    const id = file.add(iova, length);
    command.setU32(pages['access_pages.out_access_pages_id'], id);
    rc = command.respond();
    if (rc !== 0) file.remove(id);
  } else access.unpin(iova, length);
  return rc;
};

const destroyPages = offsets(layouts.iommu_test_cmd_destroy_access_pages);
const destroyAccessPages: Handler = (_test, context, command) => {
  const found = findAccess(context, command.u32(head.id));
  return found ? found.file.remove(command.u32(destroyPages['destroy_access_pages.access_pages_id'])) : errno.EBADFD;
};

const rw = offsets(layouts.iommu_test_cmd_access_rw);
const accessRw: Handler = (test, context, command) => {
  const length = command.u64(rw['access_rw.length']);
  if (length > BigInt(maxBytes)) return errno.ENOMEM;
  const flags = command.u32(rw['access_rw.flags']);
  if (flags & ~(K.MOCK_ACCESS_RW_WRITE | K.MOCK_ACCESS_RW_SLOW_PATH | K.MOCK_FLAGS_ACCESS_SYZ)) return errno.EOPNOTSUPP;
  const found = findAccess(context, command.u32(head.id));
  if (!found) return errno.EBADFD;
  if (context.kernel.allocator.fails()) return errno.ENOMEM;
  const { memory } = context.kernel;
  const data = new Uint8Array(Number(length));
  const user = command.pointer(rw['access_rw.uptr']);
  const write = (flags & K.MOCK_ACCESS_RW_WRITE) !== 0;
  if (write && memory.read(user, data) > 0) return errno.EFAULT;
  let iova = command.u64(rw['access_rw.iova']);
  if (flags & K.MOCK_FLAGS_ACCESS_SYZ) iova = test.nthArea(found.access.ioas, iova);
  const slow = flags & K.MOCK_ACCESS_RW_SLOW_PATH ? accessFlags.slowPath : 0;
  const rc = found.access.copy(iova, data, (write ? accessFlags.write : 0) | slow);
  if (rc !== 0 || write) return rc;
  return memory.write(user, data) > 0 ? errno.EFAULT : 0;
};

const limit = offsets(layouts.iommu_test_cmd_memory_limit);
/** The size of the kernel's temporary buffers: no effect here, beyond the check. */
const memoryLimit: Handler = (_test, _context, command) =>
  command.u32(limit['memory_limit.limit']) < 12 ? errno.EINVAL : 0;

const dirty = offsets(layouts.iommu_test_cmd_dirty);
const setDirty: Handler = (_test, context, command) => {
  const page = command.u64(dirty['dirty.page_size']);
  const length = command.u64(dirty['dirty.length']);
  const iova = command.u64(dirty['dirty.iova']);
  const user = command.pointer(dirty['dirty.uptr']);
  if (page === 0n || length === 0n || iova % page !== 0n || length % page !== 0n || user === 0) return errno.EINVAL;
  const count = length / page;
  if (count > BigInt(maxBytes) * 8n) return errno.EOVERFLOW;
  const hwpt = context.objects.find(command.u32(head.id), HwptPaging);
  if (!hwpt) return errno.ENOENT;
  const { domain } = hwpt;
  if (!(domain instanceof MockPaging) || !domain.tracking) return errno.EINVAL;
  const bits = new Uint8Array(Math.ceil(Number(count) / 8));
  if (context.kernel.memory.read(user, bits) > 0) return errno.EFAULT;
  let set = 0;
  for (let i = 0; i < Number(count); i++) {
    if (!(bits[i >> 3]! & (1 << (i & 7)))) continue;
    domain.table.setDirty(Number(iova + BigInt(i) * page));
    set++;
  }
  command.setU64(dirty['dirty.out_nr_dirty'], BigInt(set));
  return command.respond();
};

const iopf = offsets(layouts.iommu_test_cmd_trigger_iopf);
const triggerIopf: Handler = (test, context, command) => {
  const mock = findMock(context, command.u32(iopf['trigger_iopf.dev_id']));
  if (typeof mock === 'number') return mock;
  const pasid = command.u32(iopf['trigger_iopf.pasid']);
  const address = iopf['trigger_iopf.addr'];
  test.driver.core.reportFault(mock, {
    pasid: pasid === 0 ? noPasid : pasid,
    addressHi: command.u32(address + 4),
    addressLo: command.u32(address),
    perm: command.u32(iopf['trigger_iopf.perm']),
    grpid: command.u32(iopf['trigger_iopf.grpid']),
    last: true,
  });
  return 0;
};

const vevent = offsets(layouts.iommu_test_cmd_trigger_vevent);
const triggerVevent: Handler = (_test, context, command) => {
  const mock = findMock(context, command.u32(vevent['trigger_vevent.dev_id']));
  if (typeof mock === 'number') return mock;
  if (!mock.viommu || mock.virtId === 0n) return errno.ENOENT;
  const event = layouts.iommu_viommu_event_selftest.encode({ virt_id: Number(mock.virtId & 0xffff_ffffn) });
  return mock.viommu.core.reportVevent(K.IOMMU_VEVENTQ_TYPE_SELFTEST, event);
};

const attach = offsets(layouts.iommu_test_cmd_pasid_attach);
const pasidChange =
  (change: typeof attachDevice, undo: boolean): Handler =>
  (_test, context, command) => {
    const object = context.objects.find(command.u32(head.id), SelftestDevice);
    if (!object) return errno.ENOENT;
    const pasid = command.u32(attach['pasid_attach.pasid']);
    let rc = change(object.device, pasid, command.u32(attach['pasid_attach.pt_id']));
    if (rc !== 0) return rc;
    command.setU32(attach['pasid_attach.pt_id'], attachedId());
    rc = command.respond();
    if (rc !== 0 && undo) detachDevice(object.device, pasid);
    return rc;
  };
const pasidDetach: Handler = (_test, context, command) => {
  const object = context.objects.find(command.u32(head.id), SelftestDevice);
  if (!object) return errno.ENOENT;
  detachDevice(object.device, command.u32(attach['pasid_attach.pasid']));
  return 0;
};

const pasidCheck = offsets(layouts.iommu_test_cmd_pasid_check);
const checkPasid: Handler = (_test, context, command) => {
  const object = context.objects.find(command.u32(head.id), SelftestDevice);
  if (!object) return errno.ENOENT;
  const attached = object.device.igroup.attachments.get(command.u32(pasidCheck['pasid_check.pasid']))?.hwpt;
  const id = command.u32(pasidCheck['pasid_check.hwpt_id']);
  if (id === 0) return attached ? errno.EINVAL : 0;
  const hwpt = context.objects.get(id);
  if (!hwpt) return errno.ENOENT;
  return hwpt instanceof Hwpt && hwpt === attached ? 0 : errno.EINVAL;
};

const maxDmabuf = 512 * 4096;
const dmabufGet = offsets(layouts.iommu_test_cmd_dmabuf_get);
/** The only command whose result is not 0: a negative errno stands for an fd (see `SelftestCommands.command`). */
const getDmabuf: Handler = (_test, context, command) => {
  const length = Math.ceil(command.u32(dmabufGet['dmabuf_get.length']) / 4096) * 4096;
  // The kernel rounds up in 64 bits; a u32 near its end is too long either way.
  if (length === 0 || length > maxDmabuf) return errno.EINVAL;
  const { kernel } = context;
  if (kernel.allocator.fails()) return errno.ENOMEM;
  return -kernel.install(new Dmabuf(kernel.physical.reserve(length / 4096), length));
};

const dmabufRevoke = offsets(layouts.iommu_test_cmd_dmabuf_revoke);
const revokeDmabuf: Handler = (_test, context, command) => {
  const file = context.kernel.files.get(command.s32(dmabufRevoke['dmabuf_revoke.dmabuf_fd']));
  if (!file) return errno.EBADF;
  if (!(file instanceof Dmabuf)) return errno.EINVAL;
  file.revoke(command.u32(dmabufRevoke['dmabuf_revoke.revoked']) !== 0);
  return 0;
};

/** IOMMU_TEST_CMD, by its op. */
// prettier-ignore
const commands = new Map<number, Handler>([
  [K.IOMMU_TEST_OP_ADD_RESERVED, addReserved],
  [K.IOMMU_TEST_OP_MOCK_DOMAIN, mockDomain],
  [K.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS, mockDomain],
  [K.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, mockReplace],
  [K.IOMMU_TEST_OP_MD_CHECK_MAP, checkMap],
  [K.IOMMU_TEST_OP_MD_CHECK_REFS, checkRefs],
  [K.IOMMU_TEST_OP_MD_CHECK_IOTLB, checkIotlb],
  [K.IOMMU_TEST_OP_DEV_CHECK_CACHE, checkCache],
  [K.IOMMU_TEST_OP_CREATE_ACCESS, createAccess],
  [K.IOMMU_TEST_OP_ACCESS_REPLACE_IOAS, replaceIoas],
  [K.IOMMU_TEST_OP_ACCESS_PAGES, accessPages],
  [K.IOMMU_TEST_OP_ACCESS_RW, accessRw],
  [K.IOMMU_TEST_OP_DESTROY_ACCESS_PAGES, destroyAccessPages],
  [K.IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT, memoryLimit],
  [K.IOMMU_TEST_OP_DIRTY, setDirty],
  [K.IOMMU_TEST_OP_TRIGGER_IOPF, triggerIopf],
  [K.IOMMU_TEST_OP_TRIGGER_VEVENT, triggerVevent],
  [K.IOMMU_TEST_OP_PASID_ATTACH, pasidChange(attachDevice, true)],
  [K.IOMMU_TEST_OP_PASID_REPLACE, pasidChange(replaceDevice, false)],
  [K.IOMMU_TEST_OP_PASID_DETACH, pasidDetach],
  [K.IOMMU_TEST_OP_PASID_CHECK_HWPT, checkPasid],
  [K.IOMMU_TEST_OP_DMABUF_GET, getDmabuf],
  [K.IOMMU_TEST_OP_DMABUF_REVOKE, revokeDmabuf],
]);

/** IOMMU_TEST_CMD: mock devices and domains made and looked into by ioctl, as the kernel's own selftest needs them. */
export class SelftestCommands implements Selftest {
  readonly driver: MockDriver;
  readonly #kernel: Kernel;
  #devices = 0;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    this.driver = new MockDriver(kernel.physical);
  }

  command(context: Context, command: Command): number {
    return commands.get(command.u32(head.op))?.(this, context, command) ?? errno.EOPNOTSUPP;
  }

  makeDevice(flags: number): PhysicalDevice | number {
    if (flags & ~(K.MOCK_FLAGS_DEVICE_NO_DIRTY | K.MOCK_FLAGS_DEVICE_PASID)) return errno.EINVAL;
    if (this.#kernel.allocator.fails()) return errno.ENOMEM;
    this.driver.nextNoDirty = (flags & K.MOCK_FLAGS_DEVICE_NO_DIRTY) !== 0;
    return this.#kernel.probe(
      {
        name: `iommufd_mock${this.#devices++}`,
        rid: rid(0),
        ats: false,
        pri: true,
        pasidBits: flags & K.MOCK_FLAGS_DEVICE_PASID ? K.MOCK_PASID_WIDTH : 0,
        pasidExec: false,
        pasidPriv: false,
      },
      this.driver,
    );
  }

  /** A fuzzer's IOVA: low half which area, high half the offset in it; 0 when there is no such area. */
  nthArea(ioas: Ioas | undefined, iova: bigint): bigint {
    let nth = Number(iova & 0xffff_ffffn);
    for (const area of ioas?.table.areas ?? []) if (nth-- === 0) return BigInt.asUintN(64, area.start + (iova >> 32n));
    return 0n;
  }

  convertIova(context: Context, command: Command, flags: number, id: number, iova: number): number {
    const value = command.u32(flags);
    if (!(value & K.MOCK_FLAGS_ACCESS_SYZ)) return value;
    command.setU32(flags, value & ~K.MOCK_FLAGS_ACCESS_SYZ);
    const ioas = context.objects.find(command.u32(id), Ioas);
    if (ioas) command.setU64(iova, this.nthArea(ioas, command.u64(iova)));
    return command.u32(flags);
  }
}
