/**
 * What a snapshot holds of a context's objects. Those that start-up makes are there already, under the same ids, when it
 * is restored, and get back what changes; nested page tables, which come and go with the guest's directory, are made anew.
 */
import { type Data, listOf, part, parts, recordOf, type Saved, SavedError, within } from '#vmm/base/saved';
import type { Context } from './context.ts';
import { Device } from './objects/device.ts';
import { FaultQueue } from './objects/fault-queue.ts';
import { Hwpt, HwptNested, HwptPaging } from './objects/hwpt.ts';
import { Ioas } from './objects/ioas.ts';
import type { KernelObject } from './objects/object.ts';
import { Vdevice } from './objects/vdevice.ts';
import { EventQueue } from './objects/veventq.ts';
import { Viommu } from './objects/viommu.ts';

/** What the file calls each kind. */
const kinds = () => ({
  ioas: Ioas,
  device: Device,
  'page table': HwptPaging,
  'nested page table': HwptNested,
  viommu: Viommu,
  vdevice: Vdevice,
  'fault queue': FaultQueue,
  'event queue': EventQueue,
});
const kindOf = (object: KernelObject): string =>
  Object.entries(kinds()).find(([, kind]) => object instanceof kind)?.[0] ?? 'object';

const saveNested = ({ viommu, domain, fault, pasidCompatible }: HwptNested): Data => ({
  viommu: viommu?.id,
  guest: domain.state?.(),
  fault: fault?.id,
  pasidCompatible,
});

const makeNested = ({ objects }: Context, data: Data): HwptNested => {
  const { viommu: viommuId, guest, fault: faultId, pasidCompatible } = recordOf(data);
  const viommu = objects.find(Number(viommuId), Viommu);
  const restore = viommu?.driverViommu.restoreNested?.bind(viommu.driverViommu);
  if (!viommu || !restore) throw new SavedError('a nested page table without a vIOMMU that can make it again');
  const hwpt = new HwptNested(viommu.parent, viommu, 0);
  hwpt.setDomain(restore(guest));
  hwpt.pasidCompatible = pasidCompatible === true;
  const fault = faultId === undefined ? undefined : objects.find(Number(faultId), FaultQueue);
  if (fault) hwpt.setFault(fault);
  return hwpt;
};

const saveSlots = (context: Context): Data =>
  [...context.objects.slots].map(([id, object]) =>
    object
      ? { id, kind: kindOf(object), ...(object instanceof HwptNested ? { nested: saveNested(object) } : {}) }
      : { id, kind: 'none' },
  );

const restoreSlots = (context: Context, data: Data): void => {
  const { objects } = context;
  const slots = listOf(data).map((item): readonly [number, KernelObject | null] => {
    const { id, kind, nested } = recordOf(item);
    if (kind === 'none') return [Number(id), null];
    if (nested !== undefined) return [Number(id), makeNested(context, nested)];
    const there = objects.get(Number(id));
    if (!there || kindOf(there) !== kind)
      throw new SavedError(
        `expected object ${Number(id)} to be made by start-up, a ${there ? kindOf(there) : 'hole'} is`,
      );
    return [Number(id), there];
  });
  const kept = new Set(slots.map(([, object]) => object));
  const stranger = objects.all().find((object) => !kept.has(object));
  if (stranger) throw new SavedError(`there is an object ${stranger.id} (${kindOf(stranger)}) that was not saved`);
  objects.replace(slots);
};

const saveAttachments = ({ objects }: Context): Data =>
  objects
    .all()
    .filter((object) => object instanceof Device)
    .map((device) => ({
      device: device.id,
      attachments: [...device.igroup.attachments]
        .filter(([, { devices }]) => devices.has(device))
        .map(([pasid, { hwpt }]) => [pasid, hwpt.id]),
    }));

const restoreAttachments = ({ objects }: Context, data: Data): void => {
  const rows = listOf(data).map((item) => {
    const { device: id, attachments } = recordOf(item);
    const device = objects.find(Number(id), Device);
    if (!device) throw new SavedError(`there is no device ${Number(id)}`);
    return { device, attachments: listOf(attachments) };
  });
  for (const { device } of rows) device.igroup.attachments.clear();
  for (const { device, attachments } of rows) {
    const { igroup } = device;
    if (attachments.length > 0) igroup.group.igroup = igroup;
    for (const one of attachments) {
      const [pasid, hwptId] = listOf(one).map(Number) as [number, number];
      const hwpt = objects.find(hwptId, Hwpt);
      if (!hwpt) throw new SavedError(`there is no page table ${hwptId}`);
      const known = igroup.attachments.get(pasid);
      if (known) known.devices.add(device);
      else igroup.attachments.set(pasid, { hwpt, handle: { device, hwpt }, devices: new Set([device]) });
    }
  }
};

const statesOf = ({ objects }: Context): Record<string, { users: number; state: Data }> =>
  Object.fromEntries(
    [...objects.slots].flatMap(([id, object]) =>
      object ? [[String(id), { users: object.users, state: object.saved?.save() }]] : [],
    ),
  );

const restoreStates = ({ objects }: Context, data: Data): void => {
  for (const [id, saved] of Object.entries(recordOf(data))) {
    const { users, state } = recordOf(saved);
    const object = objects.get(Number(id));
    if (!object) throw new SavedError(`there is no object ${id}`);
    object.users = Number(users);
    within(`${kindOf(object)} ${id}`, () => object.saved?.restore(state));
  }
};

/** In this order: attachments name page tables, groups of page requests name attachments. */
export const savedContext = (context: Context): Saved =>
  parts({
    slots: { save: () => saveSlots(context), restore: (data) => restoreSlots(context, data) },
    attachments: { save: () => saveAttachments(context), restore: (data) => restoreAttachments(context, data) },
    objects: { save: () => statesOf(context), restore: (data) => restoreStates(context, data) },
    ids: part(() => context.objects.ids),
  });
