import {
  iommu_fault_alloc,
  iommu_hwpt_page_response,
  iommu_hwpt_pgfault,
  iommufdUapi as uapi,
} from '#iommufd/uapi/iommufd';
import { errno } from '#vmm/base/errno';
import { noPasid } from '#vmm/base/ports';
import { type Data, field, listOf, map, part, parts, recordOf, SavedError } from '#vmm/base/saved';
import { type Command, offsets } from '../command.ts';
import type { Context } from '../context.ts';
import { pollEvents } from '../file.ts';
import { LowestIds } from '../ids.ts';
import { type PageRequest, pageResponse } from '../iommu-ops.ts';
import type { PhysicalDevice } from '../physical-device.ts';
import { Device } from './device.ts';
import { EventFile } from './event-file.ts';
import { type AttachHandle, ridPasid } from './group.ts';
import { KernelObject } from './object.ts';

/** A page request group on its way through user space: `struct iopf_group`. */
interface Group {
  readonly device: PhysicalDevice;
  /** In the order of arrival; the last one carries the answer's address. */
  readonly requests: readonly PageRequest[];
  readonly handle: AttachHandle;
}

const respond = ({ device, requests }: Group, code: number): void => {
  const last = requests.at(-1)!;
  device.driver.pageResponse(device.iommu, last.pasid, last.grpid, code);
};

/** `struct iommufd_fault`: page requests to user space, its answers back. */
export class FaultQueue extends KernelObject {
  /** Not read yet. */
  deliver: Group[] = [];
  /** Read, unanswered, by cookie. */
  readonly waiting = new Map<number, Group>();
  readonly cookies = new LowestIds(1, 2 ** 32);
  #zeroFree = false;
  file: FaultFile | undefined;
  override readonly saved = parts({
    deliver: {
      save: () => this.deliver.map((group) => this.#saveGroup(group)),
      restore: (data: Data) => (this.deliver = listOf(data).map((group) => this.#makeGroup(group))),
    },
    waiting: map(
      () => this.waiting,
      (group) => this.#saveGroup(group),
      (data) => this.#makeGroup(data),
    ),
    cookies: part(() => this.cookies),
    zeroFree: field(
      () => this.#zeroFree,
      (value) => (this.#zeroFree = value),
    ),
  });

  /** A group belongs to an attachment that is still there: others were answered when they ended. */
  #saveGroup({ device, requests, handle }: Group): Data {
    for (const [pasid, attachment] of device.group.igroup?.attachments ?? [])
      if (attachment.handle === handle) return { device: handle.device.id, pasid, requests };
    throw new SavedError('a page request of an attachment that has ended');
  }

  #makeGroup(data: Data): Group {
    const { device: id, pasid, requests } = recordOf(data);
    const device = this.context.objects.find(Number(id), Device);
    const attachment = device?.igroup.attachments.get(Number(pasid));
    if (!device || !attachment) throw new SavedError(`there is no attachment of device ${Number(id)}`);
    return { device: device.physical, requests: listOf(requests) as readonly PageRequest[], handle: attachment.handle };
  }

  enqueue(group: Group): void {
    this.deliver.push(group);
    this.file?.notify();
  }

  /** An attachment ends: what it asked is refused, read or not. */
  respondFor(handle: AttachHandle): void {
    const mine = this.deliver.filter((group) => group.handle === handle);
    if (mine.length > 0) this.deliver = this.deliver.filter((group) => group.handle !== handle);
    for (const group of mine) respond(group, pageResponse.invalid);
    for (const [cookie, group] of [...this.waiting].sort(([a], [b]) => a - b))
      if (group.handle === handle) this.answer(cookie, group, pageResponse.invalid);
  }

  /**
   * The kernel's allocator keeps cookie 0 back by an entry that an answer to cookie 0 removes, when there are others:
   * from then on 0 is a cookie like any other.
   */
  releaseZero(): void {
    if (this.#zeroFree || this.waiting.size === 0) return;
    this.#zeroFree = true;
    this.cookies.free(0);
  }

  answer(cookie: number, group: Group, code: number): void {
    this.waiting.delete(cookie);
    this.cookies.free(cookie);
    respond(group, code);
  }

  destroy(): void {
    const unread = this.deliver;
    this.deliver = [];
    for (const group of unread) respond(group, pageResponse.invalid);
    for (const [cookie, group] of this.waiting) this.answer(cookie, group, pageResponse.invalid);
  }
}

const message = iommu_hwpt_pgfault.encode({});
const messageView = new DataView(message.buffer);
const fault = offsets(iommu_hwpt_pgfault);
const reply = new Uint8Array(iommu_hwpt_page_response.size);
const replyView = new DataView(reply.buffer);
const response = offsets(iommu_hwpt_page_response);

function compose(request: PageRequest, deviceId: number, cookie: number): void {
  const pasid = request.pasid !== noPasid;
  const flags =
    (request.last ? uapi.IOMMU_PGFAULT_FLAGS_LAST_PAGE : 0) | (pasid ? uapi.IOMMU_PGFAULT_FLAGS_PASID_VALID : 0);
  messageView.setUint32(fault.flags, flags, true);
  messageView.setUint32(fault.dev_id, deviceId, true);
  messageView.setUint32(fault.pasid, pasid ? request.pasid : 0, true);
  messageView.setUint32(fault.grpid, request.grpid, true);
  messageView.setUint32(fault.perm, request.perm, true);
  messageView.setUint32(fault.addr, request.addressLo, true);
  messageView.setUint32(fault.addr + 4, request.addressHi, true);
  messageView.setUint32(fault.length, request.length ?? 0, true);
  messageView.setUint32(fault.cookie, cookie, true);
}

class FaultFile extends EventFile {
  readonly #queue: FaultQueue;

  constructor(queue: FaultQueue) {
    super(queue, pollEvents.out);
    this.#queue = queue;
  }
  protected override get pending(): boolean {
    return this.#queue.deliver.length > 0;
  }

  /** Whole groups of struct iommu_hwpt_pgfault, as many as fit. Never blocks: 0 when there is none. */
  override read(address: number, count: number): number {
    const queue = this.#queue;
    const { memory } = queue.context.kernel;
    if (count % message.length !== 0) return -errno.ESPIPE;
    let done = 0;
    let rc = 0;
    while (rc === 0 && queue.deliver.length > 0) {
      const group = queue.deliver[0]!;
      if (group.requests.length * message.length > count - done) {
        if (done === 0) rc = errno.EINVAL;
        break;
      }
      const cookie = queue.context.kernel.allocator.fails() ? -1 : queue.cookies.take();
      if (cookie < 0) {
        rc = errno.ENOMEM;
        break;
      }
      let at = done;
      for (const request of group.requests) {
        compose(request, group.handle.device.id, cookie);
        if (memory.write(address + at, message) > 0) {
          rc = errno.EFAULT;
          break;
        }
        at += message.length;
      }
      if (rc !== 0) {
        queue.cookies.free(cookie);
        break;
      }
      queue.deliver.shift();
      queue.waiting.set(cookie, group);
      done = at;
    }
    return done === 0 ? -rc : done;
  }

  /** Any number of struct iommu_hwpt_page_response; stops at the first that is wrong. */
  override write(address: number, count: number): number {
    const queue = this.#queue;
    const { memory } = queue.context.kernel;
    if (count % reply.length !== 0) return -errno.ESPIPE;
    let done = 0;
    let rc = 0;
    while (done < count) {
      if (memory.read(address + done, reply) > 0) {
        rc = errno.EFAULT;
        break;
      }
      const code = replyView.getUint32(response.code, true);
      const cookie = replyView.getUint32(response.cookie, true);
      const group = queue.waiting.get(cookie);
      if (cookie === 0 && !group) queue.releaseZero();
      if ((code !== uapi.IOMMUFD_PAGE_RESP_SUCCESS && code !== uapi.IOMMUFD_PAGE_RESP_INVALID) || !group) {
        rc = errno.EINVAL;
        break;
      }
      queue.answer(cookie, group, code);
      done += reply.length;
    }
    return done === 0 ? -rc : done;
  }
}

const alloc = offsets(iommu_fault_alloc);
export function faultAlloc(context: Context, command: Command): number {
  if (command.u32(alloc.flags) !== 0) return errno.EOPNOTSUPP;
  const queue = new FaultQueue(context);
  let rc = context.allocate(queue);
  if (rc !== 0) return rc;
  const { files, allocator } = context.kernel;
  if (allocator.fails()) {
    context.objects.abortAndDestroy(queue);
    return errno.ENOMEM;
  }
  const file = new FaultFile(queue);
  const fd = files.reserve();
  command.setU32(alloc.out_fault_id, queue.id);
  command.setU32(alloc.out_fault_fd, fd);
  rc = command.respond();
  if (rc !== 0) {
    files.unreserve(fd);
    file.put();
    context.objects.abortAndDestroy(queue);
    return rc;
  }
  queue.file = file;
  context.objects.finalize(queue);
  files.install(fd, file);
  return 0;
}

/** Requests of unfinished groups that are kept per device; more than hardware can have outstanding. */
const maxPartial = 4096;
/** Deviation: Linux has no bound on groups that nobody reads; here the device is told that the request failed. */
const maxUnread = 1 << 16;

/** `iommu_report_device_fault`: finds the fault queue for a page request, or refuses it. */
export function reportPageRequest(device: PhysicalDevice, request: PageRequest): void {
  const { group: owner, driver, iommu } = device;
  const attachments = owner.igroup?.attachments;
  let attachment = attachments?.get(request.pasid === noPasid ? ridPasid : request.pasid);
  if (!attachment && request.pasid !== noPasid && driver.userPasidTable) {
    attachment = attachments?.get(ridPasid);
    if (attachment?.hwpt.domain.kind !== 'nested') attachment = undefined;
  }
  const queue = attachment?.hwpt.fault;
  if (!attachment || !queue || (!request.last && device.partial.length >= maxPartial)) {
    driver.pageResponse(iommu, request.pasid, request.grpid, pageResponse.invalid);
    return;
  }
  if (!request.last) {
    device.partial.push(request);
    return;
  }
  if (queue.deliver.length >= maxUnread) {
    device.partial = device.partial.filter((r) => r.grpid !== request.grpid);
    driver.pageResponse(iommu, request.pasid, request.grpid, pageResponse.failure);
    return;
  }
  const requests = device.partial.filter((r) => r.grpid === request.grpid);
  if (requests.length > 0) device.partial = device.partial.filter((r) => r.grpid !== request.grpid);
  requests.push(request);
  queue.enqueue({ device, requests, handle: attachment.handle });
}
