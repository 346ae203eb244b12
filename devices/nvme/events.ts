import { eventTable } from '#vmm/base/events';

/** What an NVMe controller tells the trace. */
export const nvmeEvents = eventTable({
  'nvme.ready': {
    doc: 'The controller became ready (CSTS.RDY) after CC.EN was set.',
    fields: { device: 'text', page_bytes: 'int', asq: 'hex', acq: 'hex' },
    level: 'info',
  },
  'nvme.reset': {
    doc: 'The controller was reset; commands in flight are dropped.',
    fields: { device: 'text', cause: 'text', in_flight: 'int' },
    level: 'info',
  },
  'nvme.shutdown': {
    doc: 'A shutdown notification was processed: caches are flushed.',
    fields: { device: 'text' },
    level: 'info',
  },
  'nvme.queue': {
    doc: 'An I/O queue was created or deleted.',
    fields: { device: 'text', what: 'text', qid: 'int', entries: 'int', address: 'hex' },
    level: 'info',
  },
  'nvme.register': {
    doc: 'A controller register was written.',
    fields: { device: 'text', register: 'text', value: 'hex' },
    level: 'debug',
  },
  'nvme.command': {
    doc: 'A command was executed and its completion is about to be posted.',
    fields: {
      device: 'text',
      sqid: 'int',
      cid: 'int',
      name: 'text',
      nsid: 'int',
      cdw10: 'hex',
      cdw12: 'hex',
      status: 'text',
    },
    level: 'debug',
  },
  'nvme.async-event': {
    doc: 'An asynchronous event was noted, to be reported through an Asynchronous Event Request.',
    fields: { device: 'text', type: 'int', info: 'int', log_page: 'hex' },
    level: 'debug',
  },
  'nvme.fatal': {
    doc: 'The memory of a queue cannot be reached: CSTS.CFS is set and the controller stops until it is reset; only the queue stops if it has a PASID.',
    fields: { device: 'text', what: 'text', qid: 'int' },
    level: 'warning',
  },
  'nvme.warning': {
    doc: 'The guest did something that the specification leaves undefined or the host failed; told once a kind.',
    fields: { device: 'text', what: 'text' },
    level: 'warning',
  },
});
