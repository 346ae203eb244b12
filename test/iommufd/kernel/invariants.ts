import { Context } from '#iommufd/kernel/context';
import type { Kernel } from '#iommufd/kernel/kernel';
import type { Pages } from '#iommufd/kernel/iova/pages';
import { Access } from '#iommufd/kernel/objects/access';
import { Device } from '#iommufd/kernel/objects/device';
import { EventFile } from '#iommufd/kernel/objects/event-file';
import { Hwpt, HwptNested, HwptPaging } from '#iommufd/kernel/objects/hwpt';
import { HwQueue } from '#iommufd/kernel/objects/hw-queue';
import type { KernelObject } from '#iommufd/kernel/objects/object';
import { Vdevice } from '#iommufd/kernel/objects/vdevice';
import { EventQueue } from '#iommufd/kernel/objects/veventq';
import { Viommu } from '#iommufd/kernel/objects/viommu';
import { Ioas } from '#iommufd/kernel/objects/ioas';
import { MockPaging } from '#iommufd/kernel/selftest/mock-driver';

/** Objects whose `users` is not what the other objects, attachments and open files imply. */
function wrongUsers(kernel: Kernel, context: Context): string[] {
  const objects = context.objects.all();
  // One for the id.
  const users = new Map<KernelObject, number>(objects.map((object) => [object, 1]));
  const use = (object: KernelObject): unknown => users.set(object, (users.get(object) ?? 0) + 1);
  for (const object of objects) {
    if (object instanceof Device) {
      // Whoever bound it.
      use(object);
      for (const { devices, hwpt } of object.igroup.attachments.values())
        if (devices.has(object)) {
          use(object);
          use(hwpt);
        }
    }
    if (object instanceof Vdevice) use(object.viommu);
    if (object instanceof HwptPaging) use(object.ioas);
    if (object instanceof HwptNested) use(object.viommu ?? object.parent);
    if (object instanceof Hwpt && object.fault) use(object.fault);
    if (object instanceof Viommu) use(object.parent);
    if (object instanceof EventQueue || object instanceof HwQueue) use(object.viommu);
    if (object instanceof Access) {
      use(object);
      if (object.ioas) use(object.ioas);
    }
  }
  for (const { file } of kernel.files.all())
    if (file instanceof EventFile && file.object.context === context) use(file.object);
  return [...users]
    .filter(([object, count]) => !(object instanceof HwQueue) && object.users !== count)
    .map(([object, count]) => `${object.constructor.name} ${object.id} has ${object.users} users, ${count} are known`);
}

/**
 * What must hold between any two calls: areas are disjoint and in order, every domain shows exactly them, and pages are
 * pinned exactly where an area in a domain or an access needs them. Returns what does not hold.
 */
export function violations(kernel: Kernel, fds: readonly number[]): string[] {
  const out: string[] = [];
  const pinned = new Map<Pages, Set<number>>();
  const hold = (pages: Pages, first: number, last: number): void => {
    let held = pinned.get(pages);
    if (!held) pinned.set(pages, (held = new Set()));
    for (let i = first; i <= last; i++) held.add(i);
  };
  for (const fd of fds) {
    const context = kernel.files.get(fd);
    if (!(context instanceof Context)) continue;
    for (const ioas of context.objects.all()) {
      if (!(ioas instanceof Ioas)) continue;
      let next = 0n;
      let size = 0;
      for (const area of ioas.table.areas) {
        size++;
        if (area.start < next) out.push(`areas overlap at 0x${area.start.toString(16)}`);
        next = area.last + 1n;
        if (area.filled !== ioas.table.domains.length > 0)
          out.push('an area is filled without domain, or not with one');
        const { pages } = area;
        if (area.filled && pages.source.kind !== 'dmabuf') hold(pages, area.firstIndex, area.lastIndex);
        for (const key of pages.accesses.keys()) {
          const [first, last] = key.split(':').map(Number);
          hold(pages, first!, last!);
        }
        for (const domain of ioas.table.domains) {
          if (!(domain instanceof MockPaging) || pages.source.revoked) continue;
          for (const index of [area.firstIndex, area.lastIndex]) {
            const iova = index === area.firstIndex ? area.start : area.last;
            const byte = Number(area.startByte(iova) % 4096n);
            if (domain.table.translate(Number(iova)) !== pages.hpaOf(index) + byte)
              out.push('a domain shows another page');
          }
        }
      }
      if (size !== ioas.table.areas.size) out.push('the tree lost count');
    }
  }
  let pins = 0;
  for (const [pages, held] of pinned) {
    pins += held.size;
    if (pages.pinned !== held.size) out.push(`${pages.pinned} pages pinned, ${held.size} needed`);
  }
  for (const fd of fds) {
    const context = kernel.files.get(fd);
    if (context instanceof Context) out.push(...wrongUsers(kernel, context));
  }
  if (pins !== kernel.physical.pinned) out.push(`${kernel.physical.pinned} pins, ${pins} accounted for`);
  return out;
}
