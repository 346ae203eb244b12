import { Context } from '#iommufd/kernel/context';
import type { Kernel } from '#iommufd/kernel/kernel';
import type { Pages } from '#iommufd/kernel/iova/pages';
import { Ioas } from '#iommufd/kernel/objects/ioas';
import { MockPaging } from '#iommufd/kernel/selftest/mock-driver';

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
  if (pins !== kernel.physical.pinned) out.push(`${kernel.physical.pinned} pins, ${pins} accounted for`);
  return out;
}
