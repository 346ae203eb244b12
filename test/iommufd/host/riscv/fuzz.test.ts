import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { commands } from '#iommufd/arch/riscv/commands';
import { offsets } from '#iommufd/arch/riscv/registers';
import { GuestPages, GuestTable, guestGpa, Rig } from './rig.ts';

const word = fc.oneof(fc.bigInt(0n, (1n << 64n) - 1n), fc.bigInt(0n, 0xffffn));
const operation = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('register' as const), offset: fc.nat(0x3ff), bytes: fc.constantFrom(4, 8), value: word }) }, // prettier-ignore
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('command' as const), row: fc.nat(6), low: word, high: word }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('table' as const), page: fc.nat(15), index: fc.nat(511), value: word }) }, // prettier-ignore
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('dma' as const), hi: fc.constantFrom(0, 0x3f, -1), lo: fc.integer(), length: fc.integer({ min: 1, max: 70_000 }), pasid: fc.constantFrom(-1, 0, 5, 0xfffff), rid: fc.constantFrom(0x18, 0xffff) }) }, // prettier-ignore
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('ats' as const), iova: word, noWrite: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('page' as const), payload: word }) },
);

describe('hostile software', () => {
  it('never makes the IOMMU throw, or reach beyond RAM', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const rig = new Rig();
        const pages = new GuestPages(rig.memory);
        const table = new GuestTable(rig.memory, pages);
        for (let i = 0; i < 4; i++) table.map(i * 4096, guestGpa / 4096 + 100 + i);
        rig.nest(table.rootGpa);
        const ports = new Map([0x18, 0xffff].map((rid) => [rid, rig.iommu.port(rid)]));
        const engine = rig.memory.bytes.slice(0, rig.memory.engineBytes);
        for (const op of operations) {
          if (op.kind === 'register') {
            // Large queues are only slow.
            const value = [offsets.cqb, offsets.cqb + 4].includes(op.offset) ? op.value & ~0x18n : op.value;
            rig.iommu.registers.write(op.offset, op.bytes as 4 | 8, op.bytes === 4 ? Number(value & 0xffff_ffffn) : value); // prettier-ignore
            rig.iommu.registers.read(op.offset, op.bytes as 4 | 8);
          } else if (op.kind === 'command') {
            const row = Object.values(commands)[op.row]!;
            const base = rig.queue;
            const tail = rig.iommu.registers.read(offsets.cqt, 4) as number;
            const low = (op.low & ~0x3ffn & ~(op.row % 2 ? row.low.reserved : 0n)) | BigInt(row.opcode | (row.func3 << 7));
            rig.set64(base + (tail % 256) * 16, low);
            rig.set64(base + (tail % 256) * 16 + 8, op.high & ~row.high.reserved);
            rig.iommu.registers.write(offsets.cqt, 4, (tail + 1) % 256);
          } else if (op.kind === 'table') {
            rig.set64(rig.memory.poolBase + op.page * 4096 + op.index * 8, op.value);
            rig.set64(pages.host(16 + (op.page % 8)) + op.index * 8, op.value);
          } else if (op.kind === 'dma') {
            const result = ports.get(op.rid)!.read(op.hi, op.lo, op.length, op.pasid);
            let covered = 0;
            for (let i = 0; i < result.count; i++) {
              expect(rig.memory.isRam(result.offsets[i]!, result.lengths[i]!)).toBe(true);
              covered += result.lengths[i]!;
            }
            for (const { first, last } of result.faults) covered += last - first + 1;
            expect(covered).toBe(op.length);
            ports.get(op.rid)!.message(op.hi, op.lo & ~3, 5);
          } else if (op.kind === 'ats')
            rig.iommu.atsRequest({ deviceId: 0x18, processIdValid: false, processId: 0, supervisor: false, execute: false, write: false, type: 'ats', noWrite: op.noWrite, iova: op.iova }); // prettier-ignore
          else
            rig.iommu.pageRequest({ rid: 0x18, segment: undefined, processIdValid: true, processId: 3, supervisor: false, execute: false, payload: op.payload }); // prettier-ignore
        }
        expect(Buffer.compare(rig.memory.bytes.subarray(0, rig.memory.engineBytes), engine)).toBe(0);
      }),
      { numRuns: 150 },
    );
  });
});
