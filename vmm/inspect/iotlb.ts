import { hex } from '#vmm/base/address';
import { ofMachine, rightsText } from './inspection.ts';

const tag = (id: number): string => (id < 0 ? '' : String(id));

export const iotlb = ofMachine({
  doc: 'Translations that the host IOMMU holds in its cache.',
  columns: { gscid: 'text', pscid: 'text', iova: 'text', gpa: 'text', hpa: 'text', page: 'bytes', rights: 'text' },
  read: ({ host }) =>
    host.silicon.iotlb
      .list()
      .sort((a, b) => a.gscid - b.gscid || a.pscid - b.pscid || (a.iova < b.iova ? -1 : a.iova > b.iova ? 1 : 0))
      .map(({ gscid, pscid, supervisor, iova, gpa, hpa, shift, rights, global }) => ({
        gscid: tag(gscid),
        pscid: tag(pscid),
        iova: hex(iova),
        gpa: gscid < 0 ? '' : hex(gpa),
        hpa: hex(hpa),
        page: 2 ** shift,
        rights: `${rightsText(rights)}${supervisor ? ' supervisor' : ''}${global ? ' global' : ''}`,
      })),
});
