import { eventTable } from '#vmm/base/events';

export const riscvDriverEvents = eventTable({
  'host.fault': {
    doc: 'The host kernel took a record from the silicon’s fault queue (guest: 1 when a vIOMMU is told).',
    level: 'debug',
    fields: { rid: 'bdf', cause: 'int', guest: 'int' },
  },
});
