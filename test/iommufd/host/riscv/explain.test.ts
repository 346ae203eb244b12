import { describe, expect, it } from 'vitest';
import type { TranslationRequest } from '#iommufd/host/riscv/translation';
import { explanationLines } from '#iommufd/host/riscv/explain';
import { GuestPages, GuestTable, guestGpa, Rig } from './rig.ts';

const iova = 0x1000_0000;
const target = guestGpa / 4096 + 1024;
const scene = (flags = 0xd7) => {
  const rig = new Rig();
  const table = new GuestTable(rig.memory, new GuestPages(rig.memory));
  table.map(iova, target, flags);
  rig.nest(table.rootGpa);
  const explain = (more: Partial<TranslationRequest> = {}) =>
    rig.iommu.explain(
      {
        deviceId: rig.rid,
        processIdValid: false,
        processId: 0,
        supervisor: false,
        execute: false,
        write: false,
        type: 'untranslated',
        noWrite: false,
        iova: BigInt(iova) + 0x123n,
        ...more,
      },
      'nvme0',
    );
  return { rig, table, explain };
};

describe('an explanation', () => {
  it('names every entry in the order of the walk, with both addresses, and where it leads', () => {
    const { rig, explain } = scene();
    const { steps, outcome, cached } = explain();
    expect(steps.map(({ table, level }) => `${table}${level === undefined ? '' : ` ${level}`}`)).toEqual([
      'DDT 2',
      'DDT 1',
      'DC',
      ...[2, 1, 0].flatMap((level) => ['stage 2 2', 'stage 2 1', `stage 1 ${level}`]),
      'stage 2 2',
      'stage 2 1',
    ]);
    expect(steps[2]!.fields).toMatchObject({ 'tc.V': '1', 'iohgatp.MODE': 'Sv39x4', 'ta.PSCID': '0x5' });
    const leaf = steps[11]!;
    expect(leaf).toMatchObject({ table: 'stage 1', level: 0, fields: { V: '1', R: '1', W: '1', U: '1', A: '1', D: '1' } }); // prettier-ignore
    expect(Number(leaf.hpa) - rig.memory.guestBase).toBe(Number(leaf.gpa) - guestGpa);
    expect(outcome).toMatchObject({ kind: 'translated', gpa: `0x${(target * 4096 + 0x123).toString(16)}`, rights: 'rw-', shift: 12 }); // prettier-ignore
    expect(cached).toBeUndefined();
  });

  it('is what the silicon does, changes no byte and fills no cache', () => {
    const { rig, explain } = scene(0x17);
    const before = rig.memory.bytes.slice();
    expect(explain().outcome).toMatchObject({ kind: 'fault', cause: 13 });
    expect(explain().steps.at(-1)!.notes).toEqual(['A or D is clear, and the device context has no SADE']);
    rig.nest(guestGpa + 16 * 4096, { tc: { V: 1n, SADE: 1n } });
    rig.memory.bytes.copyWithin(0, 0, 0);
    const marked = rig.memory.bytes.slice();
    expect(explain({ write: true }).outcome).toMatchObject({ kind: 'translated', rights: 'rw-' });
    expect(Buffer.compare(marked, rig.memory.bytes)).toBe(0);
    expect(before.length).toBe(marked.length);
    expect([rig.iommu.iotlb.size, rig.iommu.translator.deviceContexts.size, rig.faults.length]).toEqual([0, 0, 0]);
  });

  // prettier-ignore
  it.each([
    [{ iova: 0x2000_0000n }, 13, 'the entry is not valid'],
    [{ iova: 1n << 50n }, 13, 'the address is outside what the mode translates'],
    [{ execute: true }, 12, 'the page does not grant the access'],
    [{ deviceId: 0x99 }, 258, undefined],
    [{ processIdValid: true, processId: 3 }, 260, undefined],
  ])('of %o ends in its fault, and says why', (more, cause, why) => {
    const { explain } = scene();
    const { outcome, steps } = explain(more);
    expect(outcome).toMatchObject({ kind: 'fault', cause });
    expect(steps.at(-1)?.notes.at(-1)).toBe(why);
  });

  it('tells what the IOTLB holds instead', () => {
    const { rig, table, explain } = scene();
    rig.port.read(0, iova, 4);
    const hpa = `0x${(rig.memory.guestBase + 1024 * 4096 + 0x123).toString(16)}`;
    expect(explain().cached).toEqual({ hpa, rights: 'rw-', isStale: false });
    table.map(iova, 0, 0);
    expect(explain().cached).toEqual({ hpa, rights: 'rw-', isStale: true });
    expect(explanationLines(explain()).slice(-2)).toEqual([
      'fault 13: Read page fault (§2.3)',
      `the IOTLB holds HPA ${hpa}, rw-: stale, tables say otherwise`,
    ]);
  });
});
