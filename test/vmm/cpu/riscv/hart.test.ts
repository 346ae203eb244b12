import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Hart } from '#vmm/cpu/riscv/hart';
import { board, csrr, csrw, li, li64, nop, op, ramBase, run, spin } from './assembler.ts';

const snapshot = (hart: Hart): bigint[] => [
  ...Array.from({ length: 32 }, (_, i) => hart.x(i)),
  ...Array.from({ length: 32 }, (_, i) => hart.f(i)),
  hart.pc,
  BigInt(hart.instret),
  ...['mstatus', 'mcause', 'mepc', 'mtval', 'scause', 'sepc', 'stval', 'fcsr'].map((name) => hart.csr(name) ?? -1n),
];

describe('running', () => {
  it('computes a sum in a loop and counts every instruction', () => {
    const b = board({ entryMode: 'm' });
    const words = [
      ...li(10, 0),
      ...li(11, 100),
      op('add', { rd: 10, rs1: 10, rs2: 11 }),
      op('addi', { rd: 11, rs1: 11, imm: -1 }),
      op('bne', { rs1: 11, imm: -8 }),
    ];
    const hart = run(b, words, 302);
    expect(hart.x(10)).toBe(5050n);
    expect(hart.instret).toBe(302);
    expect(hart.pc).toBe(BigInt(ramBase + 4 * words.length));
  });

  it('never changes x0', () => {
    const hart = run(board({ entryMode: 'm' }), [
      op('addi', { rd: 0, imm: 5 }),
      op('addi', { rd: 10, rs1: 0, imm: 1 }),
    ]);
    expect(hart.x(0)).toBe(0n);
    expect(hart.x(10)).toBe(1n);
  });

  it('is the same however its run is cut into slices', () => {
    const b = board({ entryMode: 'm' });
    const words = [
      ...li(5, ramBase + 0x1000),
      csrw('mtvec', 5),
      ...li(10, 12345),
      op('mul', { rd: 10, rs1: 10, rs2: 10 }),
      op('addi', { rd: 10, rs1: 10, imm: 7 }),
      op('sd', { rs1: 2, rs2: 10, imm: 0 }),
      op('ecall'),
      op('jal', { imm: -16 }),
    ];
    const handler = [
      csrr(6, 'mepc'),
      op('addi', { rd: 6, rs1: 6, imm: 4 }),
      csrw('mepc', 6),
      csrr(7, 'minstret'),
      op('mret'),
    ];
    const start = (): Hart => {
      b.load(0, ...words);
      b.load(0x1000, ...handler);
      b.hart.reset(ramBase, 0, 0);
      return b.hart;
    };
    const whole = start();
    whole.run(500);
    const wanted = snapshot(whole);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 120 }), { minLength: 3, maxLength: 50 }), (cuts) => {
        const hart = start();
        for (const cut of cuts) if (hart.instret < 500) hart.run(Math.min(cut, 500 - hart.instret));
        if (hart.instret < 500) hart.run(500 - hart.instret);
        expect(snapshot(hart)).toEqual(wanted);
      }),
      { numRuns: 40 },
    );
  });

  it('continues over a page boundary, also inside an instruction', () => {
    const b = board({ entryMode: 'm' });
    // c.nop makes the following 32-bit instruction straddle the page.
    b.load(0xff8, nop, 0x0001_0001);
    const crossing = op('addi', { rd: 10, rs1: 10, imm: 77 });
    b.group.memory.view.setUint16(b.group.memory.guestBase + 0xffc, 1, true);
    b.group.memory.view.setUint32(b.group.memory.guestBase + 0xffe, crossing, true);
    b.load(0x1002 + 2, spin);
    b.group.memory.view.setUint16(b.group.memory.guestBase + 0x1002, 1, true);
    b.hart.reset(ramBase + 0xff8, 0, 0);
    b.hart.run(4);
    expect(b.hart.x(10)).toBe(77n);
    expect(b.hart.pc).toBe(BigInt(ramBase + 0x1004));
    // Its second half changes.
    b.group.memory.view.setUint32(b.group.memory.guestBase + 0xffe, op('addi', { rd: 10, rs1: 10, imm: 5 }), true);
    b.hart.reset(ramBase + 0xff8, 0, 0);
    b.hart.run(4);
    expect(b.hart.x(10)).toBe(5n);
  });

  it('stops at wfi unless an interrupt is pending', () => {
    const b = board({ entryMode: 'm' });
    b.load(0, ...li(5, 0x200), csrw('mie', 5), op('wfi'), nop, op('wfi'), spin);
    b.hart.reset(ramBase, 0, 0);
    expect(b.hart.run(100)).toBe('wfi');
    expect(b.hart.instret).toBe(3);
    b.hart.setInterrupt(9, true);
    expect(b.hart.run(100)).toBe('budget');
    expect(b.hart.pc).toBe(BigInt(ramBase + 20));
    b.hart.setInterrupt(9, false);
  });

  it('reports a hart that traps for ever', () => {
    const b = board({ entryMode: 's' });
    b.load(0, 0xffff_ffff);
    b.hart.reset(ramBase, 0, 0);
    expect(b.hart.run(1000)).toBe('crash');
    expect(b.hart.crash).toEqual({ cause: 2n, tval: 0xffff_ffffn, pc: BigInt(ramBase) });
  });
});

describe('time', () => {
  it('takes the timer interrupt at exactly the instruction that stimecmp names', () => {
    const b = board({ entryMode: 's' });
    const words = [...li64(5, BigInt(ramBase + 0x1000)), csrw('stvec', 5), ...li(5, 20), csrw('stimecmp', 5), ...li(5, 0x20), csrw('sie', 5), op('csrrsi', { csr: 'sstatus', imm: 2 }), spin]; // prettier-ignore
    b.load(0, ...words);
    b.load(0x1000, op('csrrs', { rd: 10, csr: 'instret' }), csrr(11, 'time'), spin);
    b.hart.setTimeBase(0);
    b.hart.reset(ramBase, 0, 0);
    b.hart.run(5000);
    // Tick 20 is at 2000 ns, and an instruction takes one.
    expect(b.hart.x(10)).toBe(2000n);
    expect(b.hart.x(11)).toBe(20n);
    expect(b.hart.csr('scause')).toBe((1n << 63n) | 5n);
  });

  it('skips while the hart waits', () => {
    const b = board({ entryMode: 's' });
    b.load(0, ...li(5, 1000), csrw('stimecmp', 5), ...li(5, 0x20), csrw('sie', 5), op('wfi'), csrr(10, 'time'), spin);
    b.hart.setTimeBase(0);
    b.hart.reset(ramBase, 0, 0);
    expect(b.hart.run(1000)).toBe('wfi');
    b.hart.skipTime(100_000);
    b.hart.run(10);
    expect(b.hart.x(10)).toBe(1000n);
  });
});

describe('atomics', () => {
  it('fails a store-conditional without a reservation, or after another hart ran', () => {
    const b = board({ entryMode: 'm' });
    const base = [...li64(5, BigInt(ramBase + 0x2000))];
    const lr = op('lr.w', { rd: 10, rs1: 5 });
    const sc = op('sc.w', { rd: 11, rs1: 5, rs2: 5 });
    expect(run(b, [...base, sc]).x(11)).toBe(1n);
    expect(run(b, [...base, lr, sc]).x(11)).toBe(0n);
    expect(run(b, [...base, lr, sc, sc]).x(11)).toBe(1n);
    b.load(0, ...base, lr, sc);
    b.hart.reset(ramBase, 0, 0);
    b.hart.run(base.length + 1);
    b.group.code.lastHart = 1;
    b.hart.run(1);
    expect(b.hart.x(11)).toBe(1n);
  });

  it.each([
    ['amoadd.d', (a: bigint, b: bigint) => a + b],
    ['amoswap.d', (_: bigint, b: bigint) => b],
    ['amoxor.d', (a: bigint, b: bigint) => a ^ b],
    ['amomax.d', (a: bigint, b: bigint) => (BigInt.asIntN(64, a) > BigInt.asIntN(64, b) ? a : b)],
    ['amominu.d', (a: bigint, b: bigint) => (a < b ? a : b)],
  ] as const)('%s returns the old value and stores the new', (name, f) => {
    const b = board({ entryMode: 'm' });
    const wide = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
    fc.assert(
      fc.property(wide, wide, (old, operand) => {
        b.load(0, op(name, { rd: 10, rs1: 5, rs2: 6 }), spin);
        b.hart.reset(ramBase, 0, 0);
        b.write64(0x2000, old);
        b.hart.setX(5, ramBase + 0x2000);
        b.hart.setX(6, operand);
        b.hart.run(1);
        expect(b.hart.x(10)).toBe(old);
        expect(b.read64(0x2000)).toBe(BigInt.asUintN(64, f(old, operand)));
      }),
      { numRuns: 50 },
    );
  });
});

describe('code that changes', () => {
  const set = (value: number): number => op('addi', { rd: 10, imm: value });

  it('is executed anew after fence.i', () => {
    const b = board({ entryMode: 'm' });
    // Calls the routine at 0x100, overwrites its first instruction, fences, calls again.
    const words = [
      ...li64(5, BigInt(ramBase + 0x100)),
      ...li64(6, BigInt(set(2))),
      op('jalr', { rd: 1, rs1: 5 }),
      op('addi', { rd: 11, rs1: 10 }),
      op('sw', { rs1: 5, rs2: 6 }),
      op('fence.i'),
      op('jalr', { rd: 1, rs1: 5 }),
      spin,
    ];
    for (let i = 0; i < 3; i++) {
      b.load(0x100, set(1), op('jalr', { rs1: 1 }));
      run(b, words, words.length + 10);
      expect([b.hart.x(11), b.hart.x(10)]).toEqual([1n, 2n]);
    }
  });

  it('is executed anew after DMA and fence.i', () => {
    const b = board({ entryMode: 'm' });
    b.load(0, set(1), op('fence.i'), op('jal', { imm: -8 }));
    b.hart.reset(ramBase, 0, 0);
    b.hart.run(30);
    expect(b.hart.x(10)).toBe(1n);
    b.load(0, set(9));
    b.hart.run(6);
    expect(b.hart.x(10)).toBe(9n);
  });

  it('is found again when there is more of it than fits the cache', () => {
    const b = board({ entryMode: 'm' });
    const pages = (4 << 20) / 4096;
    for (let page = 0; page < pages; page++) {
      const jump = page === pages - 1 ? spin : op('jal', { imm: 4096 - 4 });
      b.load(page * 4096, op('addi', { rd: 10, rs1: 10, imm: 1 }), jump);
    }
    b.hart.reset(ramBase, 0, 0);
    b.hart.run(2 * pages);
    expect(b.hart.x(10)).toBe(BigInt(pages));
  });
});

describe('the bus', () => {
  it('takes what is not RAM, in the widths of the access, and may refuse', () => {
    const seen: [string, number, number, unknown][] = [];
    const b = board({
      entryMode: 'm',
      bus: {
        read: (address, bytes) => {
          seen.push(['read', address, bytes, undefined]);
          return address === 0x1000_0000 ? 0xfffe_dcba : bytes === 8 ? 0xffee_ddcc_bbaa_9988n : undefined;
        },
        write: (address, bytes, value) => {
          seen.push(['write', address, bytes, value]);
          return address !== 0x1000_0008;
        },
      },
    });
    const words = [
      ...li64(6, BigInt(ramBase + 0x1000)),
      csrw('mtvec', 6),
      ...li(5, 0x1000_0000),
      op('lw', { rd: 10, rs1: 5 }),
      op('lhu', { rd: 11, rs1: 5 }),
      op('ld', { rd: 12, rs1: 5, imm: 16 }),
      op('sd', { rs1: 5, rs2: 12, imm: 16 }),
      op('sb', { rs1: 5, rs2: 12, imm: 1 }),
      op('sw', { rs1: 5, rs2: 12, imm: 8 }),
    ];
    b.load(0x1000, spin);
    run(b, words, words.length);
    expect([b.hart.x(10), b.hart.x(11), b.hart.x(12)]).toEqual([
      0xffff_ffff_fffe_dcban,
      0xdcban,
      0xffee_ddcc_bbaa_9988n,
    ]);
    expect(seen).toEqual([
      ['read', 0x1000_0000, 4, undefined],
      ['read', 0x1000_0000, 2, undefined],
      ['read', 0x1000_0010, 8, undefined],
      ['write', 0x1000_0010, 8, 0xffee_ddcc_bbaa_9988n],
      ['write', 0x1000_0001, 1, 0x88],
      ['write', 0x1000_0008, 4, 0xbbaa_9988],
    ]);
    // The last was refused.
    expect([b.hart.csr('mcause'), b.hart.csr('mtval')]).toEqual([7n, 0x1000_0008n]);
  });

  it('may end the run', () => {
    const ender: { hart?: Hart } = {};
    const b = board({ entryMode: 'm', bus: { read: () => undefined, write: () => (ender.hart?.requestStop(), true) } });
    ender.hart = b.hart;
    b.load(0, ...li(5, 0x1000_0000), op('sw', { rs1: 5 }), nop, spin);
    b.hart.reset(ramBase, 0, 0);
    expect(b.hart.run(100)).toBe('event');
    expect(b.hart.instret).toBe(li(5, 0x1000_0000).length + 1);
    expect(b.hart.run(100)).toBe('budget');
  });

  it('reports stores to a watched page', () => {
    let count = 0;
    const b = board({ entryMode: 'm', onWatchedStore: () => count++ });
    const words = [...li64(5, BigInt(ramBase + 0x3000)), op('sd', { rs1: 5 }), op('sd', { rs1: 5, imm: 8 }), op('ld', { rd: 6, rs1: 5 }), spin]; // prettier-ignore
    b.load(0, ...words);
    b.hart.reset(ramBase, 0, 0);
    b.hart.watchStore(ramBase + 0x3000);
    b.hart.run(words.length);
    expect(count).toBe(2);
  });

  it('tells who stores to pages of a group, with address and pc, and nobody else', () => {
    const stores: [number, bigint][] = [];
    const b = board({ entryMode: 'm', onStore: (physical, pc) => stores.push([physical - ramBase, pc]) });
    const page = li64(5, BigInt(ramBase + 0x3000));
    const words = [...page, op('sd', { rs1: 5, imm: 16 }), op('amoadd.d', { rd: 6, rs1: 5, rs2: 5 }), op('ld', { rd: 6, rs1: 5 }), op('sd', { rs1: 5, imm: -8 }), op('sd', { rs1: 5 }), spin]; // prettier-ignore
    b.load(0, ...words);
    b.hart.reset(ramBase, 0, 0);
    b.hart.run(words.length);
    expect(stores).toEqual([]);
    b.group.watchStores(ramBase + 0x3abc);
    b.hart.reset(ramBase, 0, 0);
    b.hart.run(words.length);
    const at = (index: number): bigint => BigInt(ramBase + 4 * (page.length + index));
    expect(stores).toEqual([[0x3010, at(0)], [0x3000, at(1)], [0x3000, at(4)]]); // prettier-ignore
    expect(b.read64(0x3010)).toBe(0n);
  });
});
