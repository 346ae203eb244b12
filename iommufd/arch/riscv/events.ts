import { eventTable } from '#vmm/base/events';

/** What the register-and-queue front end tells; `unit` says whose: the host's silicon or a vIOMMU. */
export const frontEndEvents = eventTable({
  'iommu.register': {
    doc: 'Software wrote a register of the IOMMU.',
    level: 'debug',
    fields: { unit: 'text', register: 'text', value: 'hex', fields: 'text' },
  },
  'iommu.bad-access': {
    doc: 'Software touched an offset of the register page where nothing is, or in a width it does not have.',
    level: 'warning',
    fields: { unit: 'text', offset: 'hex', bytes: 'int', write: 'int' },
  },
  'iommu.command': {
    doc: 'The IOMMU executed a command of its command queue.',
    fields: { unit: 'text', command: 'text', operands: 'text', outcome: 'text' },
  },
  'iommu.fault': {
    doc: 'A fault or event was reported (recorded: 1 when its record reached the fault queue).',
    fields: { unit: 'text', cause: 'int', name: 'text', rid: 'bdf', pasid: 'int', iova: 'hex', iotval2: 'hex', recorded: 'int' }, // prettier-ignore
  },
  'iommu.page-request': {
    doc: 'A page request was queued, or answered by the IOMMU itself.',
    fields: { unit: 'text', rid: 'bdf', pasid: 'int', address: 'hex', group: 'int', outcome: 'text' },
  },
  'iommu.interrupt': {
    doc: 'An interrupt cause became pending.',
    fields: { unit: 'text', cause: 'text', vector: 'int', message: 'text' },
  },
});
