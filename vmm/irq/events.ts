import { eventTable } from '#vmm/base/events';

/** What interrupt controllers tell while somebody traces them. */
export const irqEvents = eventTable({
  'imsic.message': {
    doc: 'An interrupt message reached an interrupt file.',
    fields: { file: 'text', identity: 'int', accepted: 'int' },
    level: 'debug',
  },
  'imsic.signal': {
    doc: "An interrupt file's external-interrupt signal to its hart changed.",
    fields: { file: 'text', asserted: 'int', top: 'int' },
    level: 'debug',
  },
  'imsic.claim': {
    doc: 'A hart claimed the highest-priority pending identity.',
    fields: { file: 'text', identity: 'int' },
    level: 'debug',
  },
});
