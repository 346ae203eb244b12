import { hex } from '#vmm/base/address';
import { Context } from '#iommufd/kernel/context';
import { Device } from '#iommufd/kernel/objects/device';
import { FaultQueue } from '#iommufd/kernel/objects/fault-queue';
import { ridPasid } from '#iommufd/kernel/objects/group';
import { HwptNested, HwptPaging } from '#iommufd/kernel/objects/hwpt';
import { Ioas } from '#iommufd/kernel/objects/ioas';
import type { KernelObject } from '#iommufd/kernel/objects/object';
import { Vdevice } from '#iommufd/kernel/objects/vdevice';
import { EventQueue } from '#iommufd/kernel/objects/veventq';
import { Viommu } from '#iommufd/kernel/objects/viommu';
import { ofMachine, type InspectionRow } from './inspection.ts';

const mostAreas = 64;

/** What is shown of an object: its kind, and how it hangs together with others. */
interface Kind {
  readonly name: string;
  /** The object, if it is of this kind, in words. */
  readonly tell: (object: KernelObject) => string | undefined;
}
type Constructor<T> = abstract new (...args: never[]) => T;

const kind = <T extends KernelObject>(name: string, type: Constructor<T>, tell: (object: T) => string): Kind => ({
  name,
  tell: (object) => (object instanceof type ? tell(object) : undefined),
});

const attachedTo = (device: Device): string =>
  [...device.igroup.attachments]
    .map(([pasid, { hwpt }]) => `hwpt ${hwpt.id}${pasid === ridPasid ? '' : ` (pasid ${pasid})`}`)
    .join(', ') || 'nothing';

const areasOf = (ioas: Ioas): string => {
  const said: string[] = [];
  for (const area of ioas.table.areas) {
    if (said.length === mostAreas) break;
    said.push(`${hex(area.start)}–${hex(area.last)}`);
  }
  const more = ioas.table.areas.size - said.length;
  return `maps ${said.join(', ') || 'nothing'}${more > 0 ? `, and ${more} more` : ''}`;
};

// prettier-ignore
const kinds: readonly Kind[] = [
  kind('ioas', Ioas, areasOf),
  kind('hwpt (paging)', HwptPaging, ({ ioas, nestParent }) => `of ioas ${ioas.id}${nestParent ? ', nesting parent' : ''}`),
  kind('hwpt (nested)', HwptNested, ({ parent, viommu, fault }) => `on hwpt ${parent.id}${viommu ? `, viommu ${viommu.id}` : ''}${fault ? `, faults to ${fault.id}` : ''}`),
  kind('device', Device, (device) => `${device.physical.host.name}, attached to ${attachedTo(device)}`),
  kind('viommu', Viommu, ({ parent, vdevices }) => `on hwpt ${parent.id}, ${vdevices.size} virtual devices`),
  kind('vdevice', Vdevice, ({ viommu, owner, virtId }) => `device ${owner.id} is ${hex(virtId)} of viommu ${viommu.id}`),
  kind('veventq', EventQueue, ({ viommu, type, deliver }) => `of viommu ${viommu.id}, type ${hex(type)}, ${deliver.length} unread`),
  kind('fault queue', FaultQueue, ({ deliver, waiting }) => `${deliver.length} unread, ${waiting.size} unanswered`),
];

export const objects = ofMachine({
  doc: 'Objects of the host kernel’s iommufd, by the file that holds them.',
  columns: { fd: 'int', id: 'int', kind: 'text', users: 'int', detail: 'text' },
  read: ({ host }) =>
    host.kernel.files.all().flatMap(({ fd, file }): InspectionRow[] =>
      file instanceof Context
        ? file.objects.all().map((object) => {
            const row = kinds.find(({ tell }) => tell(object) !== undefined);
            return {
              fd,
              id: object.id,
              kind: row?.name ?? 'other',
              users: object.users,
              detail: row?.tell(object) ?? '',
            };
          })
        : [],
    ),
});
