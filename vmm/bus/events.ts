import { eventTable } from '#vmm/base/events';

/** What the address map tells while somebody traces it. */
export const busEvents = eventTable({
  'mmio.read': {
    doc: 'A hart loaded from a device register.',
    fields: { region: 'text', address: 'hex', bytes: 'int', value: 'hex' },
    level: 'debug',
  },
  'mmio.write': {
    doc: 'A hart stored to a device register.',
    fields: { region: 'text', address: 'hex', bytes: 'int', value: 'hex' },
    level: 'debug',
  },
});
