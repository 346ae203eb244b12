import { eventTable } from '#vmm/base/events';

export const riscvDriverEvents = eventTable({
  'host.fault': {
    doc: 'The host kernel took a record from the silicon’s fault queue (guest: 1 when a vIOMMU is told).',
    level: 'debug',
    fields: { rid: 'bdf', cause: 'int', guest: 'int' },
  },
  'host.page-request': {
    doc: 'The host kernel took a record from the silicon’s page-request queue (marker: 1 for a Stop Marker).',
    level: 'debug',
    fields: { rid: 'bdf', pasid: 'int', address: 'hex', group: 'int', last: 'int', marker: 'int' },
  },
  'host.page-requests-lost': {
    doc: 'The silicon’s page-request queue overflowed: requests were lost and answered by the silicon.',
    level: 'warning',
    fields: {},
  },
});
