import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { csrs } from '#vmm/cpu/riscv/csr';
import type { ImsicPort } from '#vmm/cpu/riscv/imsic-port';
import { board, csrr, csrw, li, li64, nop, op, ramBase, spin } from './assembler.ts';

const M = 3;
const S = 1;
const U = 0;
const handler = 0x1000;
const supervisorHandler = 0x1800;
const code = 0x2000;

/** Runs `words` at `code` in a mode, with handlers that stay where they are; M sees `medeleg` and `mideleg`. */
const inMode = (mode: number, words: readonly number[], setUp: Readonly<Record<string, bigint>> = {}, count = words.length) => {
  const b = board({ entryMode: 'm' });
  b.load(handler, spin);
  b.load(handler + 4, ...Array.from({ length: 16 }, () => spin));
  b.load(supervisorHandler, ...Array.from({ length: 16 }, () => spin));
  b.load(0, op('mret'));
  b.load(code, ...words, spin);
  b.hart.reset(ramBase, 0, 0);
  b.hart.setCsr('mtvec', BigInt(ramBase + handler));
  b.hart.setCsr('stvec', BigInt(ramBase + supervisorHandler));
  b.hart.setCsr('mepc', BigInt(ramBase + code));
  b.hart.setCsr('pmpaddr0', (1n << 54n) - 1n);
  b.hart.setCsr('pmpcfg0', 0x1fn);
  b.hart.setCsr('mcounteren', 7n);
  for (const [name, value] of Object.entries(setUp)) if (name !== 'mstatus') b.hart.setCsr(name, value);
  b.hart.setCsr('mstatus', (BigInt(mode) << 11n) | (setUp.mstatus ?? 0n));
  b.hart.run(1 + count);
  return b.hart;
}; // prettier-ignore

describe('traps', () => {
  it.each([
    ['an illegal instruction', [0x0000_0000], 2n, 0n],
    ['a reserved encoding', [0xffff_ffff], 2n, 0xffff_ffffn],
    ['ebreak', [op('ebreak')], 3n, BigInt(ramBase + code)],
    ['a load of nothing', [op('ld', { rd: 1, rs1: 0, imm: 8 })], 5n, 8n],
    ['a store to nothing', [op('sb', { rs1: 0, rs2: 0, imm: -1 })], 7n, (1n << 64n) - 1n],
    ['a misaligned atomic', [...li64(5, BigInt(ramBase + 2)), op('amoadd.w', { rs1: 5 })], 6n, BigInt(ramBase + 2)],
    ['a misaligned reservation', [...li64(5, BigInt(ramBase + 4)), op('lr.d', { rs1: 5 })], 4n, BigInt(ramBase + 4)],
    ['an atomic on a device', [op('amoadd.w', { rs1: 0 })], 7n, 0n],
    ['a jump to nothing', [op('jalr', { rs1: 0, imm: 64 })], 1n, 64n],
    [
      'a CSR that does not exist',
      [csrr(1, 'time') ^ (0x7ff << 20)],
      2n,
      BigInt((csrr(1, 'time') ^ (0x7ff << 20)) >>> 0),
    ],
    ['a write to a read-only CSR', [csrw('time', 0)], 2n, BigInt(csrw('time', 0))],
    ['floating point while FS is off', [op('fadd.d')], 2n, BigInt(op('fadd.d'))],
  ] as const)('on %s tell cause, value and pc', (_, words, cause, value) => {
    // One more: a jump retires, and only then the fetch fails.
    const hart = inMode(M, words, {}, words.length + 1);
    expect(hart.csr('mcause')).toBe(cause);
    expect(hart.csr('mtval')).toBe(value);
    expect(hart.csr('mepc')).toBe(cause === 1n ? value : BigInt(ramBase + code + 4 * (words.length - 1)));
    expect(hart.privilege).toBe(M);
  });

  it('do not retire', () => {
    const b = board({ entryMode: 'm' });
    b.load(0, ...li64(5, BigInt(ramBase + 0x100)), csrw('mtvec', 5), op('ecall'));
    b.load(0x100, csrr(10, 'minstret'), spin);
    b.hart.reset(ramBase, 0, 0);
    b.hart.run(40);
    expect(b.hart.x(10)).toBe(BigInt(li64(5, BigInt(ramBase + 0x100)).length + 1));
  });

  it.each([
    ['U', U, 8n],
    ['S', S, 9n],
    ['M', M, 11n],
  ] as const)('ecall from %s has its own cause', (_, mode, cause) => {
    const hart = inMode(mode, [op('ecall')]);
    expect([hart.csr('mcause'), hart.csr('mepc'), hart.csr('mtval')]).toEqual([cause, BigInt(ramBase + code), 0n]);
    expect((hart.csr('mstatus')! >> 11n) & 3n).toBe(BigInt(mode));
  });

  it('are delegated by medeleg, never upwards', () => {
    const hart = inMode(U, [op('ecall')], { medeleg: 0x100n });
    expect([hart.privilege, hart.csr('scause'), hart.csr('sepc')]).toEqual([S, 8n, BigInt(ramBase + code)]);
    const machine = inMode(M, [op('ebreak')], { medeleg: 0xffffn });
    expect([machine.privilege, machine.csr('mcause')]).toEqual([M, 3n]);
  });

  it('stack the interrupt enable and the mode, and returns unstack them', () => {
    const hart = inMode(S, [nop], { mstatus: 1n << 1n, medeleg: 4n }, 1);
    expect(hart.privilege).toBe(S);
    const trapped = inMode(S, [0], { mstatus: 1n << 1n, medeleg: 4n });
    // SIE → SPIE, SPP = S.
    expect(trapped.csr('sstatus')! & 0x122n).toBe(0x120n);
  });

  it.each([
    ['sret', { mstatus: 1n << 22n }],
    ['wfi', { mstatus: 1n << 21n }],
    ['sfence.vma', { mstatus: 1n << 20n }],
  ] as const)('%s from S traps when M says so', (name, setUp) => {
    expect(inMode(S, [op(name)], setUp).csr('mcause')).toBe(2n);
    expect(inMode(S, [name === 'sret' ? nop : op(name)]).csr('mcause')).toBe(0n);
    expect(inMode(U, [op(name)]).csr('mcause')).toBe(2n);
  });

  it('mret leaves M-mode only from M-mode, and clears MPRV on the way down', () => {
    expect(inMode(S, [op('mret')]).csr('mcause')).toBe(2n);
    expect(inMode(S, [nop], { mstatus: 1n << 17n }, 1).csr('mstatus')! & (1n << 17n)).toBe(0n);
  });
});

describe('the floating-point state', () => {
  const fs = (words: readonly number[]): bigint =>
    (inMode(S, words, { mstatus: 1n << 13n }).csr('mstatus')! >> 13n) & 3n;
  it('is dirty once an instruction may have changed it, and only then', () => {
    const base = li64(5, BigInt(ramBase + 0x4000));
    expect(fs([...base, op('fsd', { rs1: 5, rs2: 1 })])).toBe(1n);
    expect(fs([op('fmv.x.d', { rd: 5, rs1: 1 })])).toBe(1n);
    expect(fs([...base, op('fld', { rs1: 5, rd: 1 })])).toBe(3n);
    expect(fs([op('fadd.d', { rd: 1 })])).toBe(3n);
    expect(fs([op('csrrwi', { csr: 'fflags', imm: 1 })])).toBe(3n);
  });
});

describe('interrupts', () => {
  const pending = (bit: number) => 1n << BigInt(bit);
  it('come in the order of the specification', () => {
    const b = board({ entryMode: 'm' });
    for (const [bits, first] of [
      [[11, 3, 7], 11],
      [[3, 7], 3],
      [[7, 9], 7],
    ] as const) {
      b.load(0, nop, spin);
      b.load(handler, spin);
      b.hart.reset(ramBase, 0, 0);
      b.hart.setCsr('mtvec', BigInt(ramBase + handler));
      b.hart.setCsr('mie', 0xaaan);
      b.hart.setCsr('mstatus', 8n);
      for (const bit of bits) b.hart.setInterrupt(bit, true);
      b.hart.run(1);
      expect(b.hart.csr('mcause')).toBe((1n << 63n) | BigInt(first));
      for (const bit of bits) b.hart.setInterrupt(bit, false);
    }
  });

  it('go through a vector table where mtvec says so', () => {
    const b = board({ entryMode: 'm' });
    b.load(0, spin);
    b.load(handler, ...Array.from({ length: 16 }, () => spin));
    b.hart.reset(ramBase, 0, 0);
    b.hart.setCsr('mtvec', BigInt(ramBase + handler + 1));
    b.hart.setCsr('mie', pending(7));
    b.hart.setCsr('mstatus', 8n);
    b.hart.setInterrupt(7, true);
    b.hart.run(3);
    expect(b.hart.pc).toBe(BigInt(ramBase + handler + 4 * 7));
    b.hart.setInterrupt(7, false);
  });

  it('of S-mode do not disturb M-mode, and reach U-mode whatever SIE says', () => {
    const setUp = { mideleg: 0x222n, mie: 0x222n, mip: 2n };
    expect(inMode(M, [nop, nop], setUp).csr('scause')).toBe(0n);
    expect(inMode(S, [nop, nop], setUp).csr('scause')).toBe(0n);
    expect(inMode(S, [nop, nop], { ...setUp, mstatus: 2n }).csr('scause')).toBe((1n << 63n) | 1n);
    expect(inMode(U, [nop, nop], setUp).csr('scause')).toBe((1n << 63n) | 1n);
  });

  it('SEIP is what software wrote or the wire says, and a set or clear leaves the wire out', () => {
    const b = board({ entryMode: 'm' });
    b.load(0, op('csrrsi', { rd: 10, csr: 'mip', imm: 2 }), spin);
    b.hart.reset(ramBase, 0, 0);
    b.hart.setInterrupt(9, true);
    b.hart.run(2);
    expect(b.hart.x(10)).toBe(0x200n);
    b.hart.setInterrupt(9, false);
    expect(b.hart.csr('mip')).toBe(2n);
  });
});

describe('advanced interrupt architecture', () => {
  it('reaches the interrupt file through siselect, sireg and stopei', () => {
    const file = new Map<number, bigint>([[0x70, 0n]]);
    let claims = 0;
    const imsic: ImsicPort = {
      readIndirect: (select) => file.get(select),
      writeIndirect: (select, value) => file.has(select) && (file.set(select, BigInt(value)), true),
      topei: () => 0x5_0005,
      claim: () => claims++,
    };
    const b = board({ entryMode: 's', imsic });
    b.load(0, ...li64(5, BigInt(ramBase + handler)), csrw('stvec', 5), ...li(5, 0x70), csrw('siselect', 5), ...li(6, 0x1ff), csrw('sireg', 6), csrr(10, 'sireg'), op('csrrw', { rd: 11, csr: 'stopei' }), ...li(5, 0x71), csrw('siselect', 5), csrr(12, 'sireg')); // prettier-ignore
    b.load(handler, spin);
    b.hart.reset(ramBase, 0, 0);
    b.hart.run(60);
    expect([b.hart.x(10), b.hart.x(11), claims]).toEqual([0x1ffn, 0x5_0005n, 1]);
    // 0x71 exists on RV32 only: the port refused.
    expect(b.hart.csr('scause')).toBe(2n);
  });

  it('stopi names the first interrupt that is pending and enabled', () => {
    const setUp = { mideleg: 0x222n, mie: 0x202n, mip: 0x222n };
    const hart = inMode(S, [csrr(10, 'stopi'), op('csrrci', { csr: 'sie', imm: 2 }), op('csrrc', { csr: 'sie', rs1: 5 }), csrr(11, 'stopi')], setUp); // prettier-ignore
    expect(hart.x(10)).toBe(0x9_0001n);
    expect(hart.x(11)).toBe(0x9_0001n);
  });
});

describe('control and status registers', () => {
  const wide = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
  it('have one row each, in a range that their name implies', () => {
    expect(new Set(csrs.map((row) => row.number)).size).toBe(csrs.length);
    for (const row of csrs) if (row.name.startsWith('s') || row.name === 'satp') expect((row.number >>> 8) & 3).toBe(1);
  });

  it.each(
    csrs.filter((row) => !['sireg', 'stopei', 'stopi'].includes(row.name)).map((row) => [row.name, row] as const),
  )('%s is legal after any write, and keeps what it reads back', (name, row) => {
    const b = board({ entryMode: 'm' });
    fc.assert(
      fc.property(wide, (value) => {
        b.hart.reset(ramBase, 0, 0);
        b.hart.setCsr('mstatus', 0x6000n);
        b.hart.setCsr('mideleg', 0x222n);
        b.hart.setCsr(name, value);
        const first = b.hart.csr(name)!;
        if (row.number >>> 10 !== 3 || row.write) b.hart.setCsr(name, first);
        if (!/cycle|instret/.test(name)) expect(b.hart.csr(name)).toBe(first);
        if (row.mask !== undefined) expect(first & ~row.mask).toBe(0n);
      }),
      { numRuns: 20 },
    );
  });

  it('keep mstatus, satp, the vectors and the PMP legal', () => {
    const b = board({ entryMode: 'm' });
    fc.assert(
      fc.property(wide, (value) => {
        b.hart.reset(ramBase, 0, 0);
        for (const name of ['mstatus', 'satp', 'mtvec', 'stvec', 'mepc', 'pmpcfg0', 'misa']) b.hart.setCsr(name, value);
        const mstatus = b.hart.csr('mstatus')!;
        expect((mstatus >> 11n) & 3n).not.toBe(2n);
        expect((mstatus >> 32n) & 15n).toBe(10n);
        expect(mstatus >> 63n).toBe((mstatus >> 13n) & 3n ? ((mstatus >> 13n) & 3n) / 3n : 0n);
        expect([0n, 8n, 9n, 10n]).toContain(b.hart.csr('satp')! >> 60n);
        expect([0n, 1n]).toContain(b.hart.csr('mtvec')! & 3n);
        expect(b.hart.csr('mepc')! & 1n).toBe(0n);
        for (let i = 0n; i < 8n; i++) {
          const config = (b.hart.csr('pmpcfg0')! >> (8n * i)) & 0xffn;
          expect(config & 0x60n).toBe(0n);
          expect(config & 3n).not.toBe(2n);
          expect((config >> 3n) & 3n).not.toBe(2n);
        }
        expect(b.hart.csr('misa')).toBe((2n << 62n) | 0x14112dn);
      }),
      { numRuns: 200 },
    );
  });

  it('give the counters to lower modes only as far as both enables allow', () => {
    expect(inMode(S, [csrr(10, 'cycle')], { mcounteren: 0n }).csr('mcause')).toBe(2n);
    expect(inMode(S, [csrr(10, 'cycle')], { mcounteren: 1n }).csr('mcause')).toBe(0n);
    expect(inMode(U, [csrr(10, 'cycle')], { mcounteren: 1n }).csr('mcause')).toBe(2n);
    expect(inMode(U, [csrr(10, 'cycle')], { mcounteren: 1n, scounteren: 1n }).csr('mcause')).toBe(0n);
    expect(inMode(S, [csrr(10, 'stimecmp')]).csr('mcause')).toBe(2n);
    expect(inMode(S, [csrr(10, 'stimecmp')], { menvcfg: 1n << 63n }).csr('mcause')).toBe(0n);
  });

  it('let nobody see those of a higher mode', () => {
    for (const row of csrs) {
      const level = (row.number >>> 8) & 3;
      if (level > U)
        expect(inMode(U, [op('csrrs', { rd: 1, csr: row.number })], {}, 1).csr('mcause'), row.name).toBe(2n);
      if (level > S)
        expect(inMode(S, [op('csrrs', { rd: 1, csr: row.number })], {}, 1).csr('mcause'), row.name).toBe(2n);
    }
  });
});
