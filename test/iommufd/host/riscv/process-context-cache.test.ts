import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeDirectoryEntry, encodeProcessContext, iosatpMode, pdi, pdtpMode } from '#iommufd/arch/riscv/tables';
import { ProcessContextCache } from '#iommufd/host/riscv/process-context-cache';
import { guestGpa, GuestPages, GuestTable, Rig } from './rig.ts';

const context = fc.record({
  ens: fc.boolean(),
  sum: fc.boolean(),
  pscid: fc.nat(0xf_ffff),
  mode: fc.constantFrom(0, 8, 9, 10),
  ppn: fc.bigInt(0n, (1n << 44n) - 1n),
});
const operation = fc.oneof(
  fc.record({ do: fc.constant('put' as const), device: fc.nat(3), process: fc.nat(20), context }),
  fc.record({ do: fc.constant('delete' as const), device: fc.nat(3), process: fc.nat(20) }),
  fc.record({ do: fc.constant('deleteDevice' as const), device: fc.nat(3) }),
  fc.record({ do: fc.constant('clear' as const) }),
);
/** Ids as wide as they come. */
const deviceOf = (n: number): number => [0, 8, 0xffff, 0xff_ffff][n]!;
const processOf = (n: number): number => (n < 10 ? n : 0xf_ffff - n * 1024);

describe('the cache of process contexts', () => {
  it('serves what was put last and nothing that was taken away, and forgets only for want of room', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
        const cache = new ProcessContextCache(16);
        const model = new Map<string, object>();
        const key = (device: number, process: number): string => `${device} ${process}`;
        for (const one of operations) {
          if (one.do === 'put') {
            const { pscid, mode, ppn, ens, sum } = one.context;
            cache.put(deviceOf(one.device), processOf(one.process), pscid, mode, Number(ppn), ens, sum);
            model.set(key(one.device, one.process), one.context);
            // The youngest is always there.
            expect(cache.get(deviceOf(one.device), processOf(one.process))).toEqual(one.context);
          } else if (one.do === 'delete') {
            cache.delete(deviceOf(one.device), processOf(one.process));
            model.delete(key(one.device, one.process));
          } else if (one.do === 'deleteDevice') {
            cache.deleteDevice(deviceOf(one.device));
            for (const name of model.keys()) if (name.startsWith(`${one.device} `)) model.delete(name);
          } else {
            cache.clear();
            model.clear();
          }
          let found = 0;
          for (let device = 0; device < 4; device++)
            for (let process = 0; process <= 20; process++) {
              const has = cache.get(deviceOf(device), processOf(process));
              if (!has) continue;
              found++;
              expect(has).toEqual(model.get(key(device, process)));
            }
          expect(found).toBe(cache.size);
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('a port with processes', () => {
  /** A device with a PD20 directory in which each of `processes` has a page of its own at IOVA 0x1000. */
  const open = (processes: readonly number[]) => {
    const rig = new Rig();
    const pages = new GuestPages(rig.memory);
    const root = pages.take();
    const next = (table: number, index: number): number => {
      const at = pages.host(table) + 8 * index;
      const raw = rig.memory.view.getBigUint64(at, true);
      if (raw & 1n) return Number(raw >> 10n) - guestGpa / 4096;
      const page = pages.take();
      rig.set64(at, encodeDirectoryEntry(BigInt(guestGpa / 4096 + page)));
      return page;
    };
    const bind = (process: number, table: GuestTable | undefined): void => {
      const leaf = next(next(root, pdi(process, 2)), pdi(process, 1));
      const fsc = { MODE: BigInt(iosatpMode.Sv39), PPN: BigInt((table?.rootGpa ?? 0) / 4096) };
      const words = encodeProcessContext({ ta: { V: table ? 1n : 0n, PSCID: BigInt(process) }, fsc });
      words.forEach((word, i) => rig.set64(pages.host(leaf) + 16 * pdi(process, 0) + 8 * i, word));
    };
    rig.nest(guestGpa, { tc: { V: 1n, PDTV: 1n } });
    const at = rig.memory.view;
    // The rig writes a first stage; here it is a directory.
    const middle = Number(at.getBigUint64(rig.directory, true) >> 10n) * 4096;
    const leaf = Number(at.getBigUint64(middle, true) >> 10n) * 4096;
    rig.set64(leaf + rig.rid * 64 + 24, (BigInt(pdtpMode.PD20) << 60n) | BigInt(guestGpa / 4096 + root));
    const tables = processes.map((process, i) => {
      const table = new GuestTable(rig.memory, pages);
      table.map(0x1000, guestGpa / 4096 + 3000 + i);
      bind(process, table);
      return table;
    });
    const read = (process: number) => {
      const { count, offsets, faults } = rig.port.read(0, 0x1000, 64, process);
      return faults.length > 0 || count !== 1 ? undefined : (offsets[0]! - rig.memory.guestBase) / 4096;
    };
    return { rig, bind, tables, read };
  };

  it('keeps a process’s context until it is invalidated, whatever becomes of the others', () => {
    const { rig, bind, tables, read } = open([1, 2, 4097, 0xf_ffff]);
    expect([1, 2, 4097, 0xf_ffff].map(read)).toEqual([3000, 3001, 3002, 3003]);
    // Process 1 and 4097 share a place in what the port remembers.
    expect([1, 4097, 1].map(read)).toEqual([3000, 3002, 3000]);
    bind(1, tables[3]);
    bind(2, undefined);
    rig.command('IOTINVAL.VMA', { GV: 1n, GSCID: 1n });
    rig.command('IODIR.INVAL_PDT', { DV: 1n, DID: BigInt(rig.rid), PID: 4097n });
    expect([1, 2, 4097].map(read)).toEqual([3000, 3001, 3002]);
    rig.command('IODIR.INVAL_PDT', { DV: 1n, DID: BigInt(rig.rid + 8), PID: 1n });
    expect(read(1)).toBe(3000);
    rig.command('IOTINVAL.VMA', { GV: 1n, GSCID: 1n });
    rig.command('IODIR.INVAL_PDT', { DV: 1n, DID: BigInt(rig.rid), PID: 1n });
    expect([1, 2].map(read)).toEqual([3003, 3001]);
    rig.command('IODIR.INVAL_PDT', { DV: 1n, DID: BigInt(rig.rid), PID: 2n });
    expect(read(2)).toBeUndefined();
    expect(rig.faults.at(-1)).toMatchObject({ cause: 266 });
  });

  it('serves more processes than anything remembers, each its own page', () => {
    const processes = Array.from({ length: 40 }, (_, i) => 1 + i * 4096);
    const { read } = open(processes);
    for (let round = 0; round < 3; round++) expect(processes.map(read)).toEqual(processes.map((_, i) => 3000 + i));
  });
});
