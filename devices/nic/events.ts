import { eventTable } from '#vmm/base/events';

/** Trace events of the network adapter; `device` is its name. */
// prettier-ignore
export const nicEvents = eventTable({
  'nic.register-read': { doc: 'The guest read a register.', fields: { device: 'text', register: 'text', value: 'text' }, level: 'debug' },
  'nic.register-write': { doc: 'The guest wrote a register.', fields: { device: 'text', register: 'text', value: 'text' }, level: 'debug' },
  'nic.register-unknown': { doc: 'An access to no register, or of a width that registers do not have: read as 0, not written.', fields: { device: 'text', access: 'text', offset: 'hex', detail: 'text' }, level: 'warning' },
  'nic.reset': { doc: 'The device was reset.', fields: { device: 'text', by: 'text' }, level: 'info' },
  'nic.link': { doc: 'The link went up (1) or down (0).', fields: { device: 'text', up: 'int' }, level: 'info' },
  'nic.transmit': { doc: 'A frame left; address: where its last piece lay, as the device sees memory.', fields: { device: 'text', queue: 'int', bytes: 'int', address: 'hex' }, level: 'debug' },
  'nic.receive': { doc: 'A frame arrived and was stored in memory; address: of its last buffer, as the device sees memory.', fields: { device: 'text', queue: 'int', bytes: 'int', descriptors: 'int', address: 'hex' }, level: 'debug' },
  'nic.drop': { doc: 'A frame was given up.', fields: { device: 'text', direction: 'text', reason: 'text', bytes: 'int' }, level: 'debug' },
  'nic.dma-fault': { doc: 'A transaction of the device was refused.', fields: { device: 'text', what: 'text', address: 'hex', bytes: 'int', status: 'text' }, level: 'warning' },
  'nic.ring-error': { doc: 'A ring cannot be used: no length, head or tail beyond it, or a PASID without the capability.', fields: { device: 'text', ring: 'text', queue: 'int', head: 'int', tail: 'int', length: 'int' }, level: 'warning' },
  'nic.interrupt': { doc: 'An interrupt message was sent.', fields: { device: 'text', vector: 'int', causes: 'hex' }, level: 'debug' },
});
