import { iommu_hw_queue_alloc, iommufdUapi as uapi } from '#iommufd/uapi/iommufd';
import { errno } from '#vmm/base/errno';
import { type Command, offsets } from '../command.ts';
import type { Context } from '../context.ts';
import type { HwQueueRequest } from '../iommu-ops.ts';
import { ulongMax } from '../iova/hole.ts';
import { Access } from './access.ts';
import { KernelObject } from './object.ts';
import { Viommu } from './viommu.ts';

/** The kernel lists the pages in one array of pointers; kvcalloc refuses more than INT_MAX bytes. */
const maxListBytes = 0x7fff_ffffn;

/** Guest memory that hardware reads commands from: `struct iommufd_hw_queue`. */
export class HwQueue extends KernelObject implements HwQueueRequest {
  readonly viommu: Viommu;
  readonly type: number;
  readonly index: number;
  readonly address: bigint;
  readonly bytes: number;
  hpa = 0;
  access: Access | undefined;
  /** What is pinned: whole pages. */
  #start = 0n;
  #length = 0n;
  /** The driver's end of the queue, once it took it. */
  release: (() => void) | undefined;
  #counted = false;

  constructor(viommu: Viommu, type: number, index: number, address: bigint, length: bigint) {
    super(viommu.context);
    this.viommu = viommu;
    this.type = type;
    this.index = index;
    this.address = address;
    this.bytes = Number(length);
  }
  /** The memory is pinned, for as long as the queue lives. */
  hold(access: Access, start: bigint, length: bigint, hpa: number): void {
    this.access = access;
    this.#start = start;
    this.#length = length;
    this.hpa = hpa;
    this.viommu.users++;
    this.#counted = true;
  }
  depend(other: HwQueueRequest): () => void {
    const earlier = other as HwQueue;
    earlier.users++;
    return () => {
      earlier.users--;
    };
  }
  destroy(): void {
    this.release?.();
    const { access } = this;
    if (access) {
      access.unpin(this.#start, this.#length);
      access.change(undefined);
      this.context.objects.destroyOwned(access);
    }
    if (this.#counted) this.viommu.users--;
  }
}

/** Pins the queue's memory so that it cannot be unmapped. */
function pin(queue: HwQueue, viommu: Viommu, iova: bigint, length: bigint): number {
  const offset = iova & 0xfffn;
  const start = iova - offset;
  const end = offset + length;
  if (end > ulongMax || end + 4095n > ulongMax) return errno.ERANGE;
  const pages = (end + 4095n) / 4096n;
  const { context } = viommu;
  if (pages * 8n > maxListBytes || context.kernel.allocator.fails()) return errno.ENOMEM;
  const access = Access.create(context, true);
  if (typeof access === 'number') return access;
  const frames: number[] = [];
  let rc = access.change(viommu.parent.ioas);
  if (rc === 0) {
    rc = access.pin(start, pages * 4096n, false, frames);
    if (rc === 0 && frames.some((hpa, i) => i > 0 && hpa !== frames[i - 1]! + 4096)) {
      access.unpin(start, pages * 4096n);
      rc = errno.EFAULT;
    }
    if (rc !== 0) access.change(undefined);
  }
  if (rc !== 0) {
    context.objects.destroyOwned(access);
    return rc;
  }
  queue.hold(access, start, pages * 4096n, frames[0]! + Number(offset));
  return 0;
}

const alloc = offsets(iommu_hw_queue_alloc);
export function hwQueueAlloc(context: Context, command: Command): number {
  const type = command.u32(alloc.type);
  if (command.u32(alloc.flags) !== 0 || type === uapi.IOMMU_HW_QUEUE_TYPE_DEFAULT) return errno.EOPNOTSUPP;
  const length = command.u64(alloc.length);
  const address = command.u64(alloc.nesting_parent_iova);
  if (length === 0n) return errno.EINVAL;
  if (address + length - 1n > ulongMax) return errno.EOVERFLOW;
  const { objects } = context;
  const viommu = objects.find(command.u32(alloc.viommu_id), Viommu);
  if (!viommu) return errno.ENOENT;
  const { driverViommu } = viommu;
  if (!driverViommu.hwQueueInit || !driverViommu.hwQueueSupports?.(type)) return errno.EOPNOTSUPP;
  const queue = new HwQueue(viommu, type, command.u32(alloc.index), address, length);
  let rc = context.allocate(queue);
  if (rc !== 0) return rc;
  rc = pin(queue, viommu, address, length);
  if (rc === 0) {
    const result = driverViommu.hwQueueInit(queue);
    if (typeof result === 'number') rc = result;
    else {
      queue.release = result;
      command.setU32(alloc.out_hw_queue_id, queue.id);
      rc = command.respond();
    }
  }
  if (rc !== 0) objects.abortAndDestroy(queue);
  else objects.finalize(queue);
  return rc;
}
