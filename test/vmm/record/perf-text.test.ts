import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { FieldValue, TraceEvent } from '#vmm/base/events';
import { catalogue, eventFilter } from '#vmm/record/catalogue';
import { jsonLine } from '#vmm/record/jsonl';
import { PerfTrace, summaryRows } from '#vmm/record/perf-text';
import { TraceFormatError, TraceReader } from '#vmm/record/trace-reader';

const event = (time: number, name: string, fields: Record<string, FieldValue>): TraceEvent => ({ time, name, fields });
const all = (globs = ['*'], errorsOnly = false) => new PerfTrace({ wants: eventFilter(globs), errorsOnly });

const ioctl = (time: number, name: string, result: string): TraceEvent =>
  event(time, 'iommufd.ioctl', { name, in: 'hwpt_id=5 entry_num=2', out: '', result });

describe('a trace in the manner of perf trace', () => {
  it('tells who called what with what, and how it came out', () => {
    const perf = all();
    const lines = [
      ioctl(512_000, 'IOMMU_HWPT_INVALIDATE', '0'),
      event(1_000_000, 'iommufd.ioctl', { name: 'IOMMU_IOAS_ALLOC', in: '', out: 'out_ioas_id=1', result: '0' }),
      event(1_000_500, 'iommu.command', { unit: 'viommu', command: 'IOFENCE.C', operands: 'PR=0x1 PW=0x1', outcome: 'done' }),
      event(2_000_000, 'exerciser.transaction', { device: 'ex0', operation: 'read', tag: 7, status: 'ok', bytes: 64, fault_offset: 0, latency_ns: 3000 }),
      event(3_000_000, 'pci.bar', { function: 8, name: 'nvme0', bar: 0, address: 0x4000_0000, bytes: 16384 }),
    ].map((one) => perf.line(one)); // prettier-ignore
    expect(lines).toEqual([
      '     0.512 (         ): vmm/iommufd IOMMU_HWPT_INVALIDATE(hwpt_id: 5, entry_num: 2) = 0',
      '     1.000 (         ): vmm/iommufd IOMMU_IOAS_ALLOC() = 0 {out_ioas_id: 1}',
      '     1.000 (         ): guest/viommu IOFENCE.C(PR: 0x1, PW: 0x1) = done',
      '     2.000 ( 0.003 ms): guest/ex0 read(tag: 7, bytes: 64, fault_offset: 0) = ok',
      '     3.000 (         ): guest/00:01.0 pci.bar(function: 00:01.0, name: nvme0, bar: 0, address: 0x40000000, bytes: 16.0 KiB)',
    ]);
  });

  it('says how long a page request took, from the first of its group to the answer', () => {
    const perf = all(['viommu.page-response']);
    const key = { rid: 8, pasid: 3, group: 1 };
    for (const time of [1000, 2000])
      expect(perf.line(event(time, 'iommu.page-request', { unit: 'viommu', ...key, address: '0x1000', outcome: 'queued' }))).toBeUndefined();
    const answer = { ...key, code: 0, outcome: 'answered' };
    expect(perf.line(event(51_000, 'viommu.page-response', answer))).toContain('( 0.050 ms)');
    // Nobody asked for this one.
    expect(perf.line(event(60_000, 'viommu.page-response', answer))).toContain('(         )');
  }); // prettier-ignore

  it('filters by the name of the event or of the call, and by errors', () => {
    const calls = [ioctl(0, 'IOMMU_HWPT_ALLOC', '0'), ioctl(1, 'IOMMU_HWPT_ALLOC', 'EINVAL'), ioctl(2, 'IOMMU_DESTROY', 'EBUSY')];
    const seen = (perf: PerfTrace) => calls.filter((one) => perf.matches(one)).map(({ time }) => time);
    expect(seen(all(['IOMMU_HWPT_*']))).toEqual([0, 1]);
    expect(seen(all(['iommufd.*']))).toEqual([0, 1, 2]);
    expect(seen(all(['*'], true))).toEqual([1, 2]);
    expect(seen(all(['nvme.*']))).toEqual([]);
    const errors = all(['*'], true);
    expect(errors.matches(event(0, 'iommu.fault', { unit: 'host', cause: 15 }))).toBe(true);
    expect(errors.matches(event(0, 'dma.read', { faults: 1 }))).toBe(true);
    expect(errors.matches(event(0, 'dma.read', { faults: 0 }))).toBe(false);
    for (const [name, row] of catalogue)
      if (row.level === 'warning') expect(errors.matches(event(0, name, {})), name).toBe(true);
  }); // prettier-ignore

  it('sums up calls, errors and times', () => {
    const perf = all();
    for (let i = 0; i < 10; i++) {
      perf.add(ioctl(i, 'IOMMU_HWPT_INVALIDATE', i === 3 ? 'EIO' : '0'));
      perf.add(event(i, 'exerciser.transaction', { operation: 'read', status: 'ok', latency_ns: 1000 * i }));
    }
    perf.add(ioctl(11, 'IOMMU_DESTROY', '0'));
    expect(summaryRows(perf.summary())).toEqual([
      ['EVENT', 'CALL', 'CALLS', 'ERRORS', 'TOTAL ms', 'AVG ms'],
      ['iommufd.ioctl', 'IOMMU_HWPT_INVALIDATE', '10', '1', '', ''],
      ['exerciser.transaction', 'read', '10', '0', '0.045', '0.004'],
      ['iommufd.ioctl', 'IOMMU_DESTROY', '1', '0', '', ''],
    ]);
  });

  it('keeps a bounded number of sums and spans, whatever a guest makes up', () => {
    const perf = all();
    for (let i = 0; i < 80_000; i++) {
      perf.add(event(i, 'iommu.command', { unit: 'viommu', command: `0x${i}`, operands: '', outcome: 'illegal' }));
      perf.add(event(i, 'iommu.page-request', { unit: 'viommu', rid: i, pasid: -1, group: 0, outcome: 'queued' }));
    }
    expect(perf.summary().length).toBeLessThan(4200);
    expect(perf.summary().reduce((sum, one) => sum + one.calls, 0)).toBe(160_000);
  });
});

describe('the reader of JSON lines', () => {
  const fields = fc.dictionary(
    // Names of fields are ours: no character of them is escaped.
    fc.stringMatching(/^[a-z][a-z_]{0,6}$/),
    fc.oneof(fc.integer(), fc.string({ unit: 'binary', maxLength: 10 })),
    { maxKeys: 4 },
  );
  const events = fc.array(fc.record({ time: fc.nat(), name: fc.constantFrom(...catalogue.keys()), fields }));

  it('reads what was written, cut into pieces anywhere', () => {
    fc.assert(
      fc.property(events, fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (written, sizes) => {
        const text = written.map((one) => `${jsonLine(one)}\n`).join('');
        const read: TraceEvent[] = [];
        const reader = new TraceReader((one) => read.push(one));
        for (let at = 0, i = 0; at < text.length; i++) {
          const size = sizes[i % sizes.length]!;
          reader.push(text.slice(at, at + size));
          at += size;
        }
        expect(reader.finish()).toBe(true);
        expect(read.map((one) => jsonLine(one))).toEqual(written.map((one) => jsonLine(one)));
      }),
      { numRuns: 50 },
    );
  });

  it.each(['{', '[]', '1', '{"time":"1","event":"a","properties":{}}', '{"time":1,"event":"a"}', '{"time":1,"event":"a","properties":{"x":{}}}'])(
    'says in which line it found %s',
    (line) => {
      const reader = new TraceReader(() => {});
      reader.push('{"time":1,"event":"a.b","properties":{}}\n');
      let thrown: unknown;
      try {
        reader.push(`${line}\n`);
      } catch (error) {
        thrown = error;
      }
      expect(thrown).toBeInstanceOf(TraceFormatError);
      expect((thrown as TraceFormatError).line).toBe(2);
    },
  ); // prettier-ignore

  it('takes a last line that was cut off, and no line without end', () => {
    const reader = new TraceReader(() => {});
    reader.push('{"time":1,"ev');
    expect(reader.finish()).toBe(false);
    expect(() => new TraceReader(() => {}).push('x'.repeat(3 << 20))).toThrow(TraceFormatError);
  });
});
