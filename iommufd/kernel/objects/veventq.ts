import { iommu_veventq_alloc, iommufd_vevent_header, iommufdUapi as uapi } from '#iommufd/uapi/iommufd';
import { errno } from '#vmm/base/errno';
import { field, parts } from '#vmm/base/saved';
import { type Command, offsets } from '../command.ts';
import type { Context } from '../context.ts';
import { EventFile } from './event-file.ts';
import { KernelObject } from './object.ts';
import { Viommu } from './viommu.ts';

const headerBytes = iommufd_vevent_header.size;
const maxDepth = 1 << 19;

// A type, not an interface: a snapshot holds it as it is.
type Vevent = {
  readonly sequence: number;
  /** undefined: the header that tells of lost events. */
  readonly data: Uint8Array | undefined;
};

/** Hardware events of one type for a VM: `struct iommufd_veventq`. */
export class EventQueue extends KernelObject {
  readonly viommu: Viommu;
  readonly type: number;
  readonly #depth: number;
  /** In the order of arrival; at most one lost-events header, at the tail. */
  deliver: Vevent[] = [];
  /** Events in it, lost-events headers not counted. */
  #events = 0;
  #sequence = 0;
  file: EventQueueFile | undefined;
  override readonly saved = parts({
    deliver: field(
      () => this.deliver,
      (value) => (this.deliver = value),
    ),
    events: field(
      () => this.#events,
      (value) => (this.#events = value),
    ),
    sequence: field(
      () => this.#sequence,
      (value) => (this.#sequence = value),
    ),
  });

  constructor(viommu: Viommu, type: number, depth: number) {
    super(viommu.context);
    this.viommu = viommu;
    this.type = type;
    this.#depth = depth;
    viommu.users++;
    viommu.queues.push(this);
  }

  /** `iommufd_viommu_report_event`. A full queue keeps only the newest sequence number. */
  report(bytes: Uint8Array): number {
    const noMemory = this.context.kernel.allocator.fails();
    const lost = noMemory || this.#events === this.#depth;
    const { deliver } = this;
    if (deliver.length > 0 && deliver.at(-1)!.data === undefined) deliver.pop();
    deliver.push({ sequence: this.#sequence, data: lost ? undefined : bytes.slice() });
    this.#sequence = (this.#sequence + 1) & 0x7fff_ffff;
    if (!lost) this.#events++;
    this.file?.notify();
    return noMemory ? errno.ENOMEM : 0;
  }

  taken(event: Vevent): void {
    if (event.data) this.#events--;
  }

  destroy(): void {
    this.deliver = [];
    const { queues } = this.viommu;
    queues.splice(queues.indexOf(this), 1);
    this.viommu.users--;
  }
}

const header = new Uint8Array(headerBytes);
const headerView = new DataView(header.buffer);

class EventQueueFile extends EventFile {
  readonly #queue: EventQueue;

  constructor(queue: EventQueue) {
    super(queue, 0);
    this.#queue = queue;
  }
  protected override get pending(): boolean {
    return this.#queue.deliver.length > 0;
  }

  /** Whole events, each after its struct iommufd_vevent_header. Never blocks: 0 when there is none. */
  override read(address: number, count: number): number {
    if (count < headerBytes) return -errno.EINVAL;
    const queue = this.#queue;
    const { memory } = queue.context.kernel;
    let done = 0;
    let rc = 0;
    let taken = 0;
    for (const event of queue.deliver) {
      if (headerBytes > count - done) break;
      const bytes = event.data?.length ?? 0;
      if (headerBytes + bytes > count - done) {
        if (done === 0) rc = errno.EINVAL;
        break;
      }
      headerView.setUint32(0, event.data ? 0 : uapi.IOMMU_VEVENTQ_FLAG_LOST_EVENTS, true);
      headerView.setUint32(4, event.sequence, true);
      if (
        memory.write(address + done, header) > 0 ||
        (event.data && memory.write(address + done + headerBytes, event.data) > 0)
      ) {
        rc = errno.EFAULT;
        break;
      }
      queue.taken(event);
      taken++;
      done += headerBytes + bytes;
    }
    queue.deliver.splice(0, taken);
    return done === 0 ? -rc : done;
  }
}

const alloc = offsets(iommu_veventq_alloc);
export function veventqAlloc(context: Context, command: Command): number {
  const type = command.u32(alloc.type);
  if (command.u32(alloc.flags) !== 0 || command.u32(alloc.__reserved) !== 0 || type === uapi.IOMMU_VEVENTQ_TYPE_DEFAULT)
    return errno.EOPNOTSUPP;
  const depth = command.u32(alloc.veventq_depth);
  if (depth === 0 || depth > maxDepth) return errno.EINVAL;
  const { objects, kernel } = context;
  const viommu = objects.find(command.u32(alloc.viommu_id), Viommu);
  if (!viommu) return errno.ENOENT;
  if (viommu.queues.some((queue) => queue.type === type)) return errno.EEXIST;
  const queue = new EventQueue(viommu, type, depth);
  let rc = context.allocate(queue);
  if (rc !== 0) {
    queue.destroy();
    return rc;
  }
  if (kernel.allocator.fails()) {
    objects.abortAndDestroy(queue);
    return errno.ENOMEM;
  }
  const file = new EventQueueFile(queue);
  const fd = kernel.files.reserve();
  command.setU32(alloc.out_veventq_id, queue.id);
  command.setU32(alloc.out_veventq_fd, fd);
  rc = command.respond();
  if (rc !== 0) {
    kernel.files.unreserve(fd);
    file.put();
    objects.abortAndDestroy(queue);
    return rc;
  }
  queue.file = file;
  objects.finalize(queue);
  kernel.files.install(fd, file);
  return 0;
}
