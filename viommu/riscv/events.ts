import { eventTable } from '#vmm/base/events';

export const viommuEvents = eventTable({
  'viommu.context': {
    doc: 'The vIOMMU read a device context of the guest and attached the device accordingly.',
    level: 'info',
    fields: { rid: 'bdf', state: 'text', detail: 'text' },
  },
  'viommu.fault': {
    doc: 'A fault event of the host was passed to the guest’s fault queue.',
    level: 'info',
    fields: { rid: 'bdf', cause: 'int', name: 'text', iova: 'hex' },
  },
  'viommu.events-lost': {
    doc: 'The kernel dropped fault events because the VMM did not read them in time; the guest’s queue shows an overflow.',
    level: 'warning',
    fields: { sequence: 'int' },
  },
  'viommu.refused': {
    doc: 'The host refused a call that a guest command led to.',
    level: 'warning',
    fields: { call: 'text', errno: 'text' },
  },
  'viommu.page-response': {
    doc: 'A page request group was answered, by the guest or for it; unmatched: the guest answered one that nobody asked.',
    level: 'info',
    fields: { rid: 'bdf', pasid: 'int', group: 'int', code: 'int', outcome: 'text' },
  },
});
