import { eventTable } from '#vmm/base/events';

/** What the PCI host tells while somebody traces it. */
export const pciEvents = eventTable({
  'pci.config-write': {
    doc: 'The guest stored to a configuration register that exists.',
    fields: { function: 'bdf', register: 'text', value: 'hex', meaning: 'text' },
    level: 'debug',
  },
  'pci.bar': {
    doc: 'A base address register began to decode an address.',
    fields: { function: 'bdf', name: 'text', bar: 'int', address: 'hex', bytes: 'bytes' },
    level: 'info',
  },
  'pci.bus-master': {
    doc: 'The guest allowed or forbade a function its DMA.',
    fields: { function: 'bdf', name: 'text', enabled: 'int' },
    level: 'info',
  },
  'pci.reset': {
    doc: 'A function was reset by the guest.',
    fields: { function: 'bdf', name: 'text', cause: 'text' },
    level: 'info',
  },
  'pci.slot': {
    doc: 'Something happened to a hot-plug slot: a card, its power, its link, or the attention button.',
    fields: { function: 'bdf', name: 'text', slot: 'int', event: 'text' },
    level: 'info',
  },
  'pci.message': {
    doc: 'A function sent an interrupt message: a DMA write.',
    fields: { function: 'bdf', name: 'text', vector: 'int', address: 'hex', data: 'hex', delivered: 'int' },
    level: 'debug',
  },
});
