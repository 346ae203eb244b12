import { errno } from '#vmm/base/errno';
import { OpenFile } from './file.ts';
import { dispatch } from './ioctls.ts';
import type { AccountMode } from './iova/accounting.ts';
import type { Kernel } from './kernel.ts';
import type { Ioas } from './objects/ioas.ts';
import type { Igroup } from './objects/group.ts';
import { type KernelObject, ObjectTable } from './objects/object.ts';
import type { PhysicalGroup } from './physical-device.ts';
import { MmapTable } from './mmap.ts';
import { savedContext } from './saved-context.ts';

/** `struct iommufd_ctx`: one open of /dev/iommu (or of /dev/vfio/vfio), and everything made through it. */
export class Context extends OpenFile {
  readonly kernel: Kernel;
  readonly objects = new ObjectTable();
  /** Groups that have a device bound here. */
  readonly groups = new Map<PhysicalGroup, Igroup>();
  readonly mmaps: MmapTable;
  /** Who pays for pins that are not exempt: the user, or (IOMMU_OPTION_RLIMIT_MODE 1) the process. */
  accountMode: Exclude<AccountMode, 'none'>;
  /** The IOAS behind the VFIO type1 ioctls. */
  vfioIoas: Ioas | undefined;
  override readonly saved = savedContext(this);

  constructor(kernel: Kernel, accountMode: Exclude<AccountMode, 'none'>) {
    super();
    this.kernel = kernel;
    this.accountMode = accountMode;
    this.mmaps = new MmapTable();
  }

  /** Gives a new object an id; ENOMEM (fault injection) or EBUSY. Undone by `objects.abort…`. */
  allocate(object: KernelObject): number {
    if (this.kernel.allocator.fails()) return errno.ENOMEM;
    return this.objects.reserve(object);
  }

  override ioctl(request: number, argument: number): number {
    return dispatch(this, request, argument);
  }

  override mmap(length: number, prot: number, shared: boolean, offset: number): number {
    return this.mmaps.map(this.kernel.memory, length, prot, shared, offset);
  }

  protected override release(): void {
    this.objects.clear();
  }
}
