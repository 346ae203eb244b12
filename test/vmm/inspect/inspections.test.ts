import { describe, expect, it } from 'vitest';
import type { Inspection } from '#vmm/inspect/inspection';
import { findInspection, inspectionNames, inspections } from '#vmm/inspect/inspections';
import { build } from './machine.ts';

const all: readonly (readonly [string, Inspection])[] = Object.entries(inspections);

describe('inspections', () => {
  const { machine } = build();
  machine.run({ event: 'nic.transmit' });

  it.each(all)('%s has a sentence, and rows with exactly its columns', (_, inspection) => {
    expect(inspection.doc).toMatch(/^[A-Z].*\.$/);
    const rows = inspection.read(machine);
    expect(rows.length).toBeGreaterThan(0);
    for (const row of rows) expect(Object.keys(row)).toEqual(Object.keys(inspection.columns));
  });

  it('are found by name only', () => {
    expect(inspectionNames.every((name) => findInspection(name) === inspections[name])).toBe(true);
    expect(findInspection('toString')).toBeUndefined();
  });

  it('show how the tables of guest and host belong together', () => {
    const contexts = inspections['device-table'].read(machine);
    const of = (unit: string) => contexts.filter((row) => row['unit'] === unit);
    expect(of('viommu').map((row) => row['name'])).toEqual(['nvme0', 'net0', 'net1']);
    expect(of('host').map((row) => row['first_stage'])).toEqual(of('viommu').map((row) => row['first_stage']));
    const objects = inspections.objects.read(machine);
    for (const row of of('viommu')) {
      const id = Number(/hwpt (\d+)/.exec(String(row['attached']))![1]);
      expect(objects.find((object) => object['id'] === id)).toMatchObject({ kind: 'hwpt (nested)' });
    }
  });

  it('page-table, iotlb and memory agree', () => {
    const mappings = inspections['page-table'].read(machine);
    const second = mappings.filter((row) => row['stage'] === 2);
    const ram = second.find((row) => row['first'] === '0x80000000')!;
    expect(ram).toMatchObject({ last: '0x87ffffff' });
    expect(ram['to']).toBe(`0x${machine.memory.guestBase.toString(16)}`);
    const cached = inspections.iotlb.read(machine);
    expect(cached.length).toBeGreaterThan(2);
    const first = mappings.filter((row) => row['stage'] === 1);
    for (const row of cached) {
      const iova = BigInt(row['iova']!);
      const mapping = first.find(
        (one) => BigInt(one['first']!) <= iova && iova <= BigInt(one['last']!) &&
          BigInt(one['to']!) + iova - BigInt(one['first']!) === BigInt(row['gpa']!),
      ); // prettier-ignore
      expect(mapping, String(row['iova'])).toBeDefined();
      const gpa = BigInt(row['gpa']!);
      const stage2 = second.find((one) => BigInt(one['first']!) <= gpa && gpa <= BigInt(one['last']!))!;
      expect(BigInt(stage2['to']!) + gpa - BigInt(stage2['first']!)).toBe(BigInt(row['hpa']!));
    }
  });

  it('work without a machine where they say so', () => {
    for (const [name, inspection] of all)
      expect(inspection.read(undefined).length > 0, name).toBe(!inspection.needsRun);
  });

  it('change nothing: a run that is looked at goes on to the byte as one that is not', () => {
    const plain = build();
    const watched = build();
    const points = [
      { instructions: 0 },
      { event: 'viommu.context' },
      { event: 'iommu.fault' },
      { event: 'nvme.ready' },
    ];
    for (const point of points) {
      watched.machine.run(point);
      for (const [, inspection] of all) {
        inspection.read(watched.machine);
        inspection.text?.(watched.machine);
      }
      for (const device of ['nvme0', 'net0'])
        for (const write of [false, true]) watched.machine.explain({ device, address: 0x10_0000_0000, write });
    }
    const last = watched.machine.run();
    // Stopping at the same places, without looking.
    for (const point of points) plain.machine.run(point);
    expect(plain.machine.run()).toEqual(last);
    expect(last.outcome).toBe('passed');
    expect(watched.trace() === plain.trace()).toBe(true);
    expect(watched.machine.stats()).toEqual(plain.machine.stats());
  });

  it('are bounded when a guest makes tables that hold themselves', () => {
    const { machine: hostile } = build();
    hostile.run({ event: 'nic.transmit' });
    const frontEnd = hostile.assignment.viommu!.frontEnd;
    const root = Number((frontEnd.peek(0x10, 64) >> 10n) << 12n);
    const entry = BigInt(root >>> 12) << 10n;
    const page = new BigUint64Array(512).fill(entry | 1n);
    hostile.writeMemory(root, new Uint8Array(page.buffer));
    const start = performance.now();
    const rows = inspections['device-table'].read(hostile).filter((row) => row['unit'] === 'viommu');
    expect(rows.length).toBeGreaterThan(1000);
    inspections['page-table'].read(hostile);
    inspections.queues.read(hostile);
    expect(performance.now() - start).toBeLessThan(10_000);
  });
});
