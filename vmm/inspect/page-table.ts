import { hex } from '#vmm/base/address';
import { attribute, type PageTableFormat } from '#iommufd/pagetable/format';
import { sv39, sv39x4, sv48, sv48x4, sv57, sv57x4 } from '#iommufd/pagetable/formats/riscv';
import { dcTc, fsc, iohgatp } from '#iommufd/arch/riscv/tables';
import { deviceContexts, deviceName, processContexts, tableOwners, type TableOwner } from './contexts.ts';
import { ofMachine, rightsText, type InspectionRow } from './inspection.ts';
import { mappingsOf } from './mappings.ts';

const firstStage: Readonly<Record<number, PageTableFormat>> = { 8: sv39(), 9: sv48(), 10: sv57() };
const secondStage: Readonly<Record<number, PageTableFormat>> = { 8: sv39x4(), 9: sv48x4(), 10: sv57x4() };

interface Table {
  readonly owner: TableOwner;
  readonly stage: 1 | 2;
  readonly device: string;
  readonly pasid: string;
  readonly format: PageTableFormat;
  readonly root: bigint;
}

function rowsOf({ owner, stage, device, pasid, format, root }: Table): InspectionRow[] {
  const common = { stage, device, pasid, format: `${format.name} at ${hex(root)}` };
  const { mappings, isWhole } = mappingsOf(format, root, owner.memory);
  const rows: InspectionRow[] = mappings.map(({ first, last, to, shift, attributes }) => ({
    ...common,
    first: hex(first),
    last: hex(last),
    to: hex(to),
    bytes: Number(last - first + 1n),
    page: 2 ** shift,
    rights: `${rightsText(attributes)}${attributes & attribute.user ? ' user' : ''}${attributes & attribute.global ? ' global' : ''}`,
  }));
  if (!isWhole) rows.push({ ...common, first: 'and more', last: '', to: '', bytes: 0, page: 0, rights: '' });
  return rows;
}

export const pageTable = ofMachine({
  doc: 'What the page tables map: first stages as the guest wrote them (to GPA), second stages as iommufd built them (to HPA).',
  columns: { stage: 'int', device: 'text', pasid: 'text', format: 'text', first: 'text', last: 'text', to: 'text', bytes: 'bytes', page: 'bytes', rights: 'text' }, // prettier-ignore
  read: (machine) => {
    const tables = new Map<string, Table>();
    const add = (table: Table, key: string): void => void (tables.has(key) || tables.set(key, table));
    for (const owner of tableOwners(machine))
      for (const { deviceId, words } of deviceContexts(owner.frontEnd, owner.memory)) {
        const device = deviceName(machine, deviceId);
        // The host's copies of first stages lie in guest-physical memory: the guest's own tell the same.
        if (owner.unit === 'host') {
          const { MODE, PPN } = iohgatp.decode(words[1]!);
          const format = secondStage[Number(MODE)];
          if (format) add({ owner, stage: 2, device: 'all', pasid: '', format, root: PPN << 12n }, `2 ${words[1]}`);
          continue;
        }
        const roots: (readonly [pasid: string, word: bigint])[] =
          dcTc.get(words[0]!, 'PDTV') === 1n
            ? processContexts(words, owner.memory).map((one) => [String(one.processId), one.words[1]] as const)
            : [['', words[3]!]];
        for (const [pasid, word] of roots) {
          const { MODE, PPN } = fsc.decode(word);
          const format = firstStage[Number(MODE)];
          if (format) add({ owner, stage: 1, device, pasid, format, root: PPN << 12n }, `1 ${deviceId} ${pasid}`);
        }
      }
    return [...tables.values()].flatMap(rowsOf);
  },
});
