import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type CommandContext,
  type CommandName,
  commands,
  decodeCommand,
  encodeCommand,
} from '#iommufd/arch/riscv/commands';
import { causes, pageRequestPayload, pageResponsePayload } from '#iommufd/arch/riscv/faults';
import { decodeCapabilities, iohpmctrOffset, iohpmevtOffset, offsets, registerFile, registerPageBytes } from '#iommufd/arch/riscv/registers'; // prettier-ignore
import { ddi, deviceIdBits, encodeDeviceContext, encodeProcessContext, pdi } from '#iommufd/arch/riscv/tables';

const everything = decodeCapabilities((1n << 56n) - 1n);
const context = (over: Partial<CommandContext> = {}): CommandContext => ({ features: everything, wired: true, deviceIdBits: 24, ...over }); // prettier-ignore

describe('the register file', () => {
  it('covers the page without overlap, each register naturally aligned', () => {
    let end = 0;
    for (const row of registerFile) {
      expect(row.offset).toBeGreaterThanOrEqual(end);
      expect(row.offset % (row.register.width / 8)).toBe(0);
      end = row.offset + row.register.width / 8;
    }
    expect(end).toBeLessThanOrEqual(registerPageBytes);
  });

  it('has the offsets of §5.1', () => {
    expect(offsets).toMatchObject({ ddtp: 16, cqb: 24, cqcsr: 72, ipsr: 84, tr_req_iova: 600, iommu_qosid: 624, icvec: 760 }); // prettier-ignore
    const at = new Map(registerFile.map((row) => [row.name, row.offset]));
    expect([at.get('iohpmctr1'), at.get('iohpmctr31'), at.get('iohpmevt1'), at.get('iohpmevt31')]).toEqual([104, 344, 352, 592]); // prettier-ignore
    expect([iohpmctrOffset(31), iohpmevtOffset(31), at.get('msi_vec_ctl_15')]).toEqual([344, 592, 0x3fc]);
  });
});

describe('the cause table', () => {
  it('names each cause once, with the numbers of §3.2', () => {
    const numbers = Object.values(causes).map((row) => row.cause);
    expect(new Set(numbers).size).toBe(numbers.length);
    // prettier-ignore
    expect([...numbers].sort((a, b) => a - b)).toEqual([1, 4, 5, 6, 7, 12, 13, 15, 20, 21, 23, ...Array.from({ length: 19 }, (_, i) => 256 + i)]);
  });

  it('DTF hides all but seven', () => {
    const shown = Object.values(causes).filter((row) => row.despiteDtf).map((row) => row.cause); // prettier-ignore
    expect(shown).toEqual([256, 257, 258, 259, 268, 272, 273]);
  });
});

describe('commands', () => {
  it.each(Object.entries(commands))('%s survives encoding and decoding', (name, row) => {
    const fields = [...row.low.fields, ...row.high.fields].filter(([field]) => field !== 'opcode' && field !== 'func3');
    const operands = fc.record(Object.fromEntries(fields.map(([field, { hi, lo }]) => [field, fc.bigInt(0n, (1n << BigInt(hi - lo + 1)) - 1n)]))); // prettier-ignore
    fc.assert(
      fc.property(operands, (given) => {
        const wanted = { ...given } as Record<string, bigint>;
        // What each command demands besides.
        if (name === 'IOTINVAL.GVMA') wanted['PSCV'] = 0n;
        if (name === 'IODIR.INVAL_DDT') wanted['PID'] = 0n;
        if (name === 'IODIR.INVAL_PDT') wanted['DV'] = 1n;
        const [low, high] = encodeCommand(name as CommandName, wanted);
        const decoded = decodeCommand(low, high, context());
        expect(decoded?.name).toBe(name);
        expect(decoded?.operands).toMatchObject(wanted);
      }),
      { numRuns: 50 },
    );
  });

  it('reserved bits, opcodes and functions are illegal', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, (1n << 64n) - 1n), fc.bigInt(0n, (1n << 64n) - 1n), (low, high) => {
        const row = Object.values(commands).find((one) => one.opcode === Number(low & 127n) && one.func3 === Number((low >> 7n) & 7n)); // prettier-ignore
        const decoded = decodeCommand(low, high, context());
        if (!row || low & row.low.reserved || high & row.high.reserved) expect(decoded).toBeUndefined();
      }),
    );
  });

  const none = decodeCapabilities(0n);
  // prettier-ignore
  it.each([
    ['IOTINVAL.VMA', { NL: 1n }, { features: none }], ['IOTINVAL.VMA', { S: 1n }, { features: none }],
    ['IOTINVAL.GVMA', { PSCV: 1n }, {}], ['IOFENCE.C', { WSI: 1n }, { wired: false }],
    ['IODIR.INVAL_DDT', { PID: 1n }, {}], ['IODIR.INVAL_DDT', { DV: 1n, DID: 0x40n }, { deviceIdBits: 6 }],
    ['IODIR.INVAL_PDT', { DV: 0n }, {}], ['IODIR.INVAL_PDT', { DV: 1n, PID: 0x100n }, { features: none }],
    ['ATS.INVAL', {}, { features: none }], ['ATS.PRGR', {}, { features: none }],
  ] as const)('%s with %o is illegal under %o', (name, operands, over) => {
    const [low, high] = encodeCommand(name, operands);
    expect(decodeCommand(low, high, context(over))).toBeUndefined();
  });
});

describe('tables', () => {
  it('splits device ids as §2.3 does', () => {
    const id = 0xabcdef;
    expect([0, 1, 2].map((i) => ddi(id, i as 0 | 1 | 2, false))).toEqual([id & 127, (id >> 7) & 511, id >> 16]);
    expect([0, 1, 2].map((i) => ddi(id, i as 0 | 1 | 2, true))).toEqual([id & 63, (id >> 6) & 511, id >> 15]);
    expect([1, 2, 3].map((levels) => deviceIdBits(levels as 1 | 2 | 3, false))).toEqual([7, 16, 24]);
    expect([1, 2, 3].map((levels) => deviceIdBits(levels as 1 | 2 | 3, true))).toEqual([6, 15, 24]);
    expect([0, 1, 2].map((i) => pdi(0xfabcd, i as 0 | 1 | 2))).toEqual([0xcd, 0x1ab, 7]);
  });

  it('builds contexts of both formats', () => {
    const dc = { tc: { V: 1n, PDTV: 1n }, iohgatp: { MODE: 8n, GSCID: 3n, PPN: 0x1234n }, fsc: { MODE: 1n, PPN: 5n } };
    expect(encodeDeviceContext(dc, false)).toEqual([0x21n, 0x8000_3000_0000_1234n | (3n << 44n), 0n, (1n << 60n) | 5n]);
    expect(encodeDeviceContext(dc, true)).toHaveLength(8);
    expect(() => encodeDeviceContext({ fsc: { MODE: 16n, PPN: 0n } }, false)).toThrow(RangeError);
    expect(encodeProcessContext({ ta: { V: 1n, ENS: 1n, PSCID: 9n }, fsc: { MODE: 8n, PPN: 2n } })).toEqual([0x9003n, (8n << 60n) | 2n]); // prettier-ignore
  });

  it('spells messages as PCIe does', () => {
    expect(pageRequestPayload.decode(0x1234_5000_0000_000fn)).toMatchObject({ R: 1n, W: 1n, L: 1n, PRGI: 1n });
    expect(pageResponsePayload.encode({ PRGI: 1n, code: 1n, destination: 0x18n })).toBe(0x0018_1001_0000_0000n);
  });
});
