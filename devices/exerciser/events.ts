import { eventTable } from '#vmm/base/events';

/** Trace events of the exerciser; `device` is its name, `pasid` -1 without. */
// prettier-ignore
export const exerciserEvents = eventTable({
  'exerciser.register-write': { doc: 'The guest wrote a register.', fields: { device: 'text', register: 'text', value: 'hex' }, level: 'debug' },
  'exerciser.register-unknown': { doc: 'An access to no register, or of a width that registers do not have: read as 0, not written.', fields: { device: 'text', access: 'text', offset: 'hex', bytes: 'int' }, level: 'warning' },
  'exerciser.transaction': { doc: 'A transaction has finished and its completion is about to be written.', fields: { device: 'text', operation: 'text', tag: 'int', status: 'text', bytes: 'int', fault_offset: 'int', latency_ns: 'int' }, level: 'debug' },
  'exerciser.translation': { doc: 'A translation request was answered.', fields: { device: 'text', pasid: 'int', address: 'hex', status: 'text', translated: 'hex', bytes: 'bytes', rights: 'hex' }, level: 'debug' },
  'exerciser.invalidate': { doc: 'An invalidate request arrived.', fields: { device: 'text', itag: 'int', pasid: 'int', payload: 'hex' }, level: 'debug' },
  'exerciser.invalidated': { doc: 'An invalidate completion left.', fields: { device: 'text', itag: 'int' }, level: 'debug' },
  'exerciser.page-response': { doc: 'A page request group response arrived.', fields: { device: 'text', pasid: 'int', group: 'int', code: 'int' }, level: 'debug' },
  'exerciser.queue-error': { doc: 'A queue stopped: it cannot be used as it is set up, or one of its rings cannot be reached.', fields: { device: 'text', queue: 'int', error: 'int', status: 'int' }, level: 'warning' },
  'exerciser.reset': { doc: 'The device was reset; what was under way is abandoned.', fields: { device: 'text', by: 'text' }, level: 'info' },
});
