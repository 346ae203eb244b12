import { describe, expect, it } from 'vitest';
import type { FieldValue, TraceEvent } from '#vmm/base/events';
import { PerfettoTrace } from '#vmm/record/perfetto';
import { build } from '../inspect/machine.ts';

interface Entry {
  readonly ph: string;
  readonly name: string;
  readonly cat?: string;
  readonly pid: number;
  readonly tid: number;
  readonly ts: number;
  readonly dur: number;
  readonly id: number | string;
  readonly args: Record<string, string>;
}

function record(events: readonly TraceEvent[]): readonly Entry[] {
  const pieces: string[] = [];
  const trace = new PerfettoTrace((text) => pieces.push(text));
  for (const event of events) trace.sink(event);
  trace.finish();
  return (JSON.parse(pieces.join('')) as { traceEvents: Entry[] }).traceEvents;
}
const event = (time: number, name: string, fields: Record<string, FieldValue>): TraceEvent => ({ time, name, fields });
const invalidate = [
  event(100, 'iommu.command', { unit: 'viommu', command: 'IOTINVAL.VMA', operands: 'AV=0x1', outcome: 'done' }),
  event(100, 'iommu.invalidate', { command: 'IOTINVAL.VMA', entries: 1 }),
  event(100, 'iommu.command', { unit: 'host', command: 'IOTINVAL.VMA', operands: '', outcome: 'done' }),
  event(100, 'iommufd.ioctl', { name: 'IOMMU_HWPT_INVALIDATE', in: '', out: '', result: '0' }),
  event(100, 'iommu.command', { unit: 'viommu', command: 'IOFENCE.C', operands: '', outcome: 'done' }),
];
/** Names of what an arrow leads from and to. */
const arrows = (entries: readonly Entry[]): string[] => {
  const slices = entries.filter(({ ph }) => ph === 'X');
  const at = (point: Entry): Entry =>
    slices.findLast(({ pid, tid, ts, dur }) => pid === point.pid && tid === point.tid && ts <= point.ts && point.ts <= ts + dur && ts === point.ts)!; // prettier-ignore
  return entries
    .filter(({ ph }) => ph === 's')
    .map((start) => {
      const end = entries.find(({ ph, id }) => ph === 'f' && id === start.id)!;
      expect(end.ts).toBeGreaterThan(start.ts);
      return `${at(start).name} → ${at(end).name}`;
    });
};

describe('the file for Perfetto', () => {
  it('is whole without any event', () => {
    expect(record([])).toEqual([]);
  });

  it('leads from the guest’s command to the ioctl to its effect, and from commands that waited for it', () => {
    const entries = record(invalidate);
    expect(arrows(entries).sort()).toEqual([
      'IOFENCE.C → IOMMU_HWPT_INVALIDATE',
      'IOMMU_HWPT_INVALIDATE → IOTINVAL.VMA',
      'IOMMU_HWPT_INVALIDATE → iommu.invalidate',
      'IOTINVAL.VMA → IOMMU_HWPT_INVALIDATE',
    ]);
  });

  it('gives every device a process, and every PASID of it a track', () => {
    const dma = { iova: '0x1000', length: 64, segments: 1, hits: 1, misses: 0, faults: 0 };
    const entries = record([
      event(1, 'dma.read', { rid: 8, pasid: -1, ...dma }),
      event(2, 'dma.read', { rid: 8, pasid: 5, ...dma }),
      event(3, 'dma.write', { rid: 16, pasid: 5, ...dma }),
      event(4, 'nvme.ready', { device: 'nvme0' }),
    ]);
    const names = entries.filter(({ ph }) => ph === 'M').map(({ name, args }) => `${name} ${args['name']}`);
    expect(names).toEqual([
      'process_name 00:01.0', 'thread_name DMA without PASID',
      'process_name 00:01.0', 'thread_name PASID 5',
      'process_name 00:02.0', 'thread_name PASID 5',
      'process_name nvme0', 'thread_name device',
    ]); // prettier-ignore
    const placed = entries.filter(({ ph }) => ph === 'X').map(({ pid, tid }) => `${pid} ${tid}`);
    expect(new Set(placed).size).toBe(4);
  });

  it('shows a page request as a span, from the first of its group to the answer', () => {
    const key = { rid: 8, pasid: 3, group: 1 };
    const entries = record([
      event(1000, 'iommu.page-request', { unit: 'viommu', ...key, address: '0x1000', outcome: 'queued' }),
      event(1000, 'iommu.page-request', { unit: 'viommu', ...key, address: '0x2000', outcome: 'queued' }),
      event(9000, 'viommu.page-response', { ...key, code: 0, outcome: 'answered' }),
      event(9500, 'iommu.page-request', { unit: 'viommu', ...key, address: '0x3000', outcome: 'queued' }),
    ]);
    const spans = entries.filter(({ ph }) => ph === 'b' || ph === 'e').map(({ ph, ts, id }) => [ph, ts, id]);
    const id = 'page request of the guest 8 3 1';
    // The last one is never answered: it ends with the run.
    expect(spans).toEqual([['b', 1, id], ['e', 9, id], ['b', 9.5, id], ['e', 9.501, id]]); // prettier-ignore
  });

  it('lets a second boot follow the first', () => {
    const entries = record([...invalidate, ...invalidate.map((one) => ({ ...one, time: 0 }))]);
    const times = entries.filter(({ ph, name }) => ph === 'X' && name === 'IOFENCE.C').map(({ ts }) => ts);
    expect(times[1]).toBeGreaterThan(times[0]!);
  });

  it('of a whole run has no slice that overlaps another of its track, and every arrow has both ends', () => {
    const { machine } = build();
    const pieces: string[] = [];
    const trace = new PerfettoTrace((text) => pieces.push(text));
    machine.trace.listen(trace.sink);
    machine.run({ event: 'nic.transmit' });
    trace.finish();
    const entries = (JSON.parse(pieces.join('')) as { traceEvents: Entry[] }).traceEvents;
    const tracks = new Map<string, Entry[]>();
    for (const entry of entries.filter(({ ph }) => ph === 'X')) {
      const key = `${entry.pid} ${entry.tid}`;
      tracks.set(key, [...(tracks.get(key) ?? []), entry]);
    }
    expect(tracks.size).toBeGreaterThan(6);
    for (const slices of tracks.values()) {
      const open: number[] = [];
      for (const { ts, dur } of slices.toSorted((a, b) => a.ts - b.ts || b.dur - a.dur)) {
        const from = Math.round(ts * 1000);
        while (open.length > 0 && open.at(-1)! <= from) open.pop();
        const end = from + Math.round(dur * 1000);
        // Inside what is open, or behind it.
        if (open.length > 0) expect(end).toBeLessThanOrEqual(open.at(-1)!);
        open.push(end);
      }
    }
    const ids = (phase: string) => entries.filter(({ ph }) => ph === phase).map(({ id }) => id);
    expect(ids('s').length).toBeGreaterThan(20);
    expect(ids('f')).toEqual(ids('s'));
    expect(arrows(entries)).toContain('IODIR.INVAL_DDT → viommu.context');
    expect(arrows(entries)).toContain('viommu.context → IOMMU_HWPT_ALLOC');
  });
});
