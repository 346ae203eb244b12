import { describe, expect, it } from 'vitest';
import { Trace, type TraceEvent } from '#vmm/base/events';
import { GuestPages, GuestTable, guestGpa, Rig } from './rig.ts';

const segments = (result: { count: number; offsets: Float64Array; lengths: Int32Array }): [number, number][] =>
  Array.from({ length: result.count }, (_, i) => [result.offsets[i]!, result.lengths[i]!]);

const nested = (): { rig: Rig; table: GuestTable; host: (page: number) => number } => {
  const rig = new Rig();
  const pages = new GuestPages(rig.memory);
  const table = new GuestTable(rig.memory, pages);
  for (let i = 0; i < 8; i++) table.map(0x1000_0000 + i * 4096, guestGpa / 4096 + 1024 + (i ^ 1));
  rig.nest(table.rootGpa);
  return { rig, table, host: (page) => rig.memory.guestBase + page * 4096 };
};

describe('a device behind the IOMMU', () => {
  it('reaches scattered guest pages through both stages, segment by segment', () => {
    const { rig, host } = nested();
    const found = segments(rig.port.read(0, 0x1000_0800, 3 * 4096));
    expect(found).toEqual([
      [host(1025) + 0x800, 0x800],
      [host(1024), 0x1000],
      [host(1027), 0x1000],
      [host(1026), 0x800],
    ]);
    expect(rig.port.counters).toMatchObject({ reads: 1, bytesRead: 3 * 4096, faults: 0 });
  });

  it('merges pages that are neighbours in memory', () => {
    const { rig, table, host } = nested();
    for (let i = 0; i < 4; i++) table.map(0x2000_0000 + i * 4096, guestGpa / 4096 + 2048 + i);
    expect(segments(rig.port.write(0, 0x2000_0000, 4 * 4096))).toEqual([[host(2048), 4 * 4096]]);
  });

  it('serves the second access from the IOTLB, until an invalidation names the page', () => {
    const { rig, table, host } = nested();
    rig.port.read(0, 0x1000_0000, 64);
    const { statistics } = rig.iommu;
    expect(statistics).toMatchObject({ hits: 0, misses: 1 });
    table.map(0x1000_0000, guestGpa / 4096 + 3000);
    expect(segments(rig.port.read(0, 0x1000_0000, 64))).toEqual([[host(1025), 64]]);
    expect(statistics).toMatchObject({ hits: 1, misses: 1 });
    rig.command('IOTINVAL.VMA', { GV: 1n, GSCID: 1n, PSCV: 1n, PSCID: 5n, AV: 1n, ADDR: 0x10001n });
    expect(segments(rig.port.read(0, 0x1000_0000, 64))).toEqual([[host(1025), 64]]);
    rig.command('IOTINVAL.VMA', { GV: 1n, GSCID: 1n, PSCV: 1n, PSCID: 5n, AV: 1n, ADDR: 0x10000n });
    expect(segments(rig.port.read(0, 0x1000_0000, 64))).toEqual([[host(3000), 64]]);
  });

  // prettier-ignore
  it.each([
    ['IOTINVAL.VMA', {}, false], ['IOTINVAL.VMA', { GV: 1n, GSCID: 1n }, true], ['IOTINVAL.VMA', { GV: 1n, GSCID: 2n }, false],
    ['IOTINVAL.VMA', { GV: 1n, GSCID: 1n, PSCV: 1n, PSCID: 6n }, false],
    ['IOTINVAL.VMA', { GV: 1n, GSCID: 1n, AV: 1n, ADDR: 0x10003n, S: 1n }, true],
    ['IOTINVAL.VMA', { GV: 1n, GSCID: 1n, AV: 1n, ADDR: 0x10008n, S: 1n }, false],
    ['IOTINVAL.GVMA', {}, true], ['IOTINVAL.GVMA', { GV: 1n, GSCID: 1n }, true], ['IOTINVAL.GVMA', { GV: 1n, GSCID: 7n }, false],
    ['IOTINVAL.GVMA', { GV: 1n, GSCID: 1n, AV: 1n, ADDR: BigInt(guestGpa / 4096 + 1025) }, true],
    ['IOTINVAL.GVMA', { GV: 1n, GSCID: 1n, AV: 1n, ADDR: BigInt(guestGpa / 4096 + 1024) }, false],
    ['IODIR.INVAL_DDT', {}, false], ['IODIR.INVAL_PDT', { DV: 1n, DID: 0x18n }, false],
  ] as const)('%s %o drops the entry: %s', (name, operands, drops) => {
    const { rig } = nested();
    rig.port.read(0, 0x1000_0000, 64);
    rig.command(name, operands);
    const { misses } = rig.iommu.statistics;
    rig.port.read(0, 0x1000_0000, 64);
    expect(rig.iommu.statistics.misses - misses).toBe(drops ? 1 : 0);
  });

  it('reports the faulted part of a request, once a run, and serves the rest', () => {
    const { rig, host } = nested();
    const result = rig.port.read(0, 0x1000_6000, 5 * 4096);
    expect(segments(result)).toEqual([
      [host(1031), 4096],
      [host(1030), 4096],
    ]);
    expect(result.faults).toEqual([{ first: 8192, last: 5 * 4096 - 1, status: 'unsupported-request' }]);
    expect(rig.faults).toEqual([{ cause: 13, iotval: 0x1000_8000n, iotval2: 0n }]);
  });

  it('names the guest page where the second stage is missing', () => {
    const { rig, table } = nested();
    table.map(0x1000_0000, 0x1234);
    const result = rig.port.write(0, 0x1000_0010, 16);
    expect(result.faults).toHaveLength(1);
    expect(rig.faults).toEqual([{ cause: 23, iotval: 0x1000_0010n, iotval2: 0x123_4010n }]);
  });

  it('keeps a read-only page from writes, and lets a stale context live until IODIR', () => {
    const { rig, table } = nested();
    table.map(0x1000_0000, guestGpa / 4096 + 1025, 0x53);
    expect(rig.port.read(0, 0x1000_0000, 4).faults).toHaveLength(0);
    expect(rig.port.write(0, 0x1000_0000, 4).faults).toHaveLength(1);
    rig.setContext(rig.rid, {});
    expect(rig.port.read(0, 0x1000_0000, 4).faults).toHaveLength(0);
    rig.command('IODIR.INVAL_DDT', { DV: 1n, DID: BigInt(rig.rid) });
    expect(rig.port.read(0, 0x1000_0000, 4).faults).toHaveLength(1);
    expect(rig.faults.at(-1)).toMatchObject({ cause: 258 });
  });

  it('has nothing for a device without a context, and everything in Bare mode', () => {
    const { rig } = nested();
    expect(rig.iommu.port(0x99).read(0, 0x1000_0000, 4).faults).toHaveLength(1);
    rig.iommu.registers.write(0x10, 8, 1n);
    const base = rig.memory.guestBase;
    expect(segments(rig.iommu.port(0x99).read(0, base + 12, 8192))).toEqual([[base + 12, 8192]]);
    expect(rig.port.read(0xffff, 0, 4).faults).toEqual([{ first: 0, last: 3, status: 'completer-abort' }]);
  });

  it('sends an MSI to an interrupt file through both stages', () => {
    const { rig, table } = nested();
    const stored: number[][] = [];
    const page = rig.memory.attachMmio({
      read: () => 0,
      write: (offset, bytes, value) => stored.push([offset, bytes, Number(value)]),
      reset: () => {},
    });
    rig.stage2.map(0x2800_0000 / 4096, page, 1, 3);
    table.map(0xfee0_0000, 0x28000);
    expect(rig.port.message(0, 0xfee0_0000, 33)).toBe(true);
    expect(stored).toEqual([[0, 4, 33]]);
    expect(rig.port.message(0, 0xfee0_1000, 33)).toBe(false);
    expect(rig.port.read(0, 0xfee0_0000, 4).faults).toEqual([{ first: 0, last: 3, status: 'completer-abort' }]);
  });

  it('files an MSI in a memory-resident interrupt file, and sends the notice when it is enabled', () => {
    const { rig, table } = nested();
    const stored: number[] = [];
    const notice = rig.memory.attachMmio({ read: () => 0, write: (_o, _b, value) => stored.push(Number(value)), reset: () => {} }); // prettier-ignore
    const msiTable = rig.memory.allocatePages()!;
    const mrif = rig.memory.allocatePages()!;
    rig.set64(msiTable, (BigInt(mrif / 512) << 7n) | 3n);
    rig.set64(msiTable + 8, (BigInt(notice / 4096) << 10n) | 77n);
    rig.nest(table.rootGpa, { msiptp: { MODE: 1n, PPN: BigInt(msiTable / 4096) }, msi_addr_pattern: 0x28000n });
    table.map(0xfee0_0000, 0x28000);
    expect(rig.port.message(0, 0xfee0_0000, 70)).toBe(true);
    expect(rig.memory.view.getBigUint64(mrif + 16, true)).toBe(1n << 6n);
    expect(stored).toEqual([]);
    rig.set64(mrif + 24, 1n << 6n);
    expect(rig.port.message(0, 0xfee0_0000, 70)).toBe(true);
    expect(stored).toEqual([77]);
  });

  it('traces what it did only while somebody listens', () => {
    const trace = new Trace(() => 7);
    const rig = new Rig({ trace });
    const pages = new GuestPages(rig.memory);
    const table = new GuestTable(rig.memory, pages);
    table.map(0x1000, guestGpa / 4096 + 99);
    rig.nest(table.rootGpa);
    const events: TraceEvent[] = [];
    const stop = trace.listen((event) => events.push(event));
    rig.port.read(0, 0x1000, 64);
    rig.command('IOTINVAL.VMA', { GV: 1n, GSCID: 1n });
    stop();
    rig.port.read(0, 0x1000, 64);
    expect(events.map((event) => event.name)).toEqual([
      'iommu.walk',
      'dma.read',
      'iommu.register',
      'iommu.invalidate',
      'iommu.command',
    ]);
    expect(events.find((event) => event.name === 'iommu.walk')?.fields).toMatchObject({ references: 11, shift: 12 });
  });
});
