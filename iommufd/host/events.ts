import { eventTable } from '#vmm/base/events';

/** What host hardware tells: DMA of devices, walks, and what invalidations did. */
export const hostEvents = eventTable({
  'dma.read': {
    doc: 'A device read memory.',
    fields: { rid: 'bdf', pasid: 'int', iova: 'hex', length: 'bytes', segments: 'int', hits: 'int', misses: 'int', faults: 'int' }, // prettier-ignore
  },
  'dma.write': {
    doc: 'A device wrote memory.',
    fields: { rid: 'bdf', pasid: 'int', iova: 'hex', length: 'bytes', segments: 'int', hits: 'int', misses: 'int', faults: 'int' }, // prettier-ignore
  },
  'dma.message': {
    doc: 'A device sent an MSI: a 4-byte write that may reach an interrupt file.',
    fields: { rid: 'bdf', iova: 'hex', data: 'hex', hpa: 'hex', faults: 'int' },
  },
  'iommu.walk': {
    doc: 'The host IOMMU walked tables for a page that its cache did not hold.',
    level: 'debug',
    fields: { rid: 'bdf', pasid: 'int', iova: 'hex', gpa: 'hex', hpa: 'hex', shift: 'int', references: 'int', path: 'text' }, // prettier-ignore
  },
  'iommu.invalidate': {
    doc: 'A command emptied caches of the host IOMMU.',
    level: 'debug',
    fields: { command: 'text', entries: 'int' },
  },
  'ats.translation': {
    doc: 'A device asked the host IOMMU for a translation.',
    fields: { rid: 'bdf', pasid: 'int', iova: 'hex', status: 'text', address: 'hex', shift: 'int', rights: 'text' },
  },
  'ats.invalidate': {
    doc: 'An Invalidate Request went to a device.',
    fields: { rid: 'bdf', pasid: 'int', itag: 'int', payload: 'hex' },
  },
  'ats.completion': {
    doc: 'A device completed an Invalidate Request, or did not in time.',
    fields: { rid: 'bdf', itag: 'int', outcome: 'text' },
  },
  'ats.unexpected-completion': {
    doc: 'A device completed an invalidation that nobody waits for.',
    level: 'warning',
    fields: { rid: 'bdf', itag: 'int' },
  },
  'check.stale-translation': {
    doc: 'A cache served what tables no longer say: an invalidation is missing (--check stale-translations).',
    level: 'warning',
    fields: {
      cache: 'text',
      rid: 'bdf',
      pasid: 'int',
      iova: 'hex',
      served: 'text',
      now: 'text',
      table: 'text',
      at: 'hex',
      was: 'hex',
      is: 'hex',
      writer: 'text',
      pc: 'text',
      written: 'int',
      missing: 'text',
      rule: 'text', // prettier-ignore
    },
  },
  'pri.request': {
    doc: 'A device sent a page request, or a stop marker (last, neither read nor write).',
    fields: { rid: 'bdf', pasid: 'int', address: 'hex', group: 'int', read: 'int', write: 'int', last: 'int' },
  },
  'pri.response': {
    doc: 'A Page Request Group Response went to a device.',
    fields: { rid: 'bdf', pasid: 'int', group: 'int', code: 'int' },
  },
});
