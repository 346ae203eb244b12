import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { board, type Board, nop, op, ramBase, spin } from './assembler.ts';

const [V, R, W, X, U, A, D] = [1n, 2n, 4n, 8n, 16n, 64n, 128n];
const all = V | R | W | X | A | D;
const code = 0x2000;
const handler = 0x3000;
const tables = 0x10_0000;
const data = 0x20_0000;
const modes = { Sv39: { mode: 8n, levels: 3 }, Sv48: { mode: 9n, levels: 4 }, Sv57: { mode: 10n, levels: 5 } } as const;
type Mode = keyof typeof modes;
const pteOf = (offset: number, flags: bigint): bigint => ((BigInt(ramBase + offset) >> 12n) << 10n) | flags;

/** Builds tables: the code's page one to one, and what a test maps. */
class Space {
  readonly board: Board;
  readonly #mode: Mode;
  #next = tables + 4096;
  constructor(target: Board, mode: Mode) {
    this.board = target;
    this.#mode = mode;
  }
  /** Puts an entry for `virtual` at `level` (0 = a page of 4 KiB). */
  put(virtual: bigint, entry: bigint, level = 0): void {
    let table = tables;
    for (let at = modes[this.#mode].levels - 1; ; at--) {
      const slot = table + 8 * Number((virtual >> BigInt(12 + 9 * at)) & 511n);
      if (at === level) return this.board.write64(slot, entry);
      let next = this.board.read64(slot);
      if (!(next & V)) {
        next = pteOf(this.#next, V);
        this.#next += 4096;
        this.board.write64(slot, next);
      }
      table = Number((next >> 10n) << 12n) - ramBase;
    }
  }
}

interface Trial {
  readonly mode?: Mode;
  readonly priv?: 0 | 1;
  readonly setUp?: Readonly<Record<string, bigint>>;
  readonly map: (space: Space) => void;
  /** x5 and x6 before the instruction. */
  readonly x5: bigint;
  readonly x6?: bigint;
  readonly run: readonly number[];
}
/** Runs the instructions under translation; traps end at `handler`. */
const attempt = ({ mode = 'Sv39', priv = 1, setUp = {}, map, x5, x6 = 0n, run }: Trial) => {
  const b = board({ entryMode: 'm' });
  const { hart } = b;
  b.load(0, op('mret'));
  b.load(code, ...run, spin);
  b.load(handler, spin);
  const space = new Space(b, mode);
  space.put(BigInt(ramBase + code), pteOf(code, all | (priv === 0 ? U : 0n)));
  map(space);
  hart.reset(ramBase, 0, 0);
  hart.setCsr('mtvec', BigInt(ramBase + handler));
  hart.setCsr('mepc', BigInt(ramBase + code));
  hart.setCsr('pmpaddr0', (1n << 54n) - 1n);
  hart.setCsr('pmpcfg0', 0x1fn);
  hart.setCsr('satp', (modes[mode].mode << 60n) | BigInt((ramBase + tables) / 4096));
  for (const [name, value] of Object.entries(setUp)) if (name !== 'mstatus') hart.setCsr(name, value);
  hart.setCsr('mstatus', (BigInt(priv) << 11n) | (setUp.mstatus ?? 0n));
  hart.setX(5, x5);
  hart.setX(6, x6);
  hart.run(1 + run.length);
  return { board: b, hart, cause: hart.csr('mcause')!, tval: hart.csr('mtval')!, trapped: hart.privilege === 3 };
};
const ld = op('ld', { rd: 10, rs1: 5 });
const sd = op('sd', { rs1: 5, rs2: 6 });
const page = 0x12_3456_7000n;

describe.each(Object.keys(modes) as Mode[])('%s', (mode) => {
  const { levels } = modes[mode];
  it('translates at every leaf size', () => {
    for (let level = 0; level < levels; level++) {
      // A leaf larger than RAM maps the aligned block around it.
      const bytes = 1n << BigInt(12 + 9 * level);
      const physical = (BigInt(ramBase + data) / bytes) * bytes;
      const virtual = (1n << BigInt(10 + 9 * levels)) & ~(bytes - 1n);
      const {
        board: b,
        hart,
        trapped,
      } = attempt({
        mode,
        map: (space) => {
          space.board.write64(data + 8, 0x1122_3344_5566_7788n);
          space.put(virtual, ((physical >> 12n) << 10n) | all, level);
        },
        x5: virtual + BigInt(ramBase + data) - physical + 8n,
        x6: 0xabcn,
        run: [ld, sd],
      });
      expect(trapped).toBe(false);
      expect(hart.x(10)).toBe(0x1122_3344_5566_7788n);
      expect(b.read64(data + 8)).toBe(0xabcn);
    }
  });

  it('faults on an address that is not sign-extended', () => {
    const bits = BigInt(12 + 9 * levels);
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), (address) => {
        const canonical = BigInt.asUintN(64, BigInt.asIntN(Number(bits), address)) === address;
        fc.pre(!canonical);
        const result = attempt({ mode, map: () => undefined, x5: address & ~7n, run: [ld] });
        expect([result.cause, result.tval]).toEqual([13n, address & ~7n]);
      }),
      { numRuns: 10 },
    );
  });
});

describe('permissions', () => {
  const faults = (flags: bigint, rest: Partial<Trial> & Pick<Trial, 'run'>): bigint => {
    const result = attempt({ map: (space) => space.put(page, pteOf(data, flags)), x5: page, ...rest });
    return result.trapped ? result.cause : 0n;
  };
  it.each([
    ['nothing there', 0n, [ld], 13n],
    ['not valid', all & ~V, [sd], 15n],
    ['write without read', V | W | A | D, [ld], 13n],
    ['read-only stored to', V | R | A | D, [sd], 15n],
    ['read-only loaded', V | R | A | D, [ld], 0n],
    ['execute-only loaded', V | X | A | D, [ld], 13n],
    ['a reserved bit', all | (1n << 60n), [ld], 13n],
    ['PBMT without Svpbmt', all | (1n << 61n), [ld], 13n],
    ['N without Svnapot', all | (1n << 63n), [ld], 13n],
    ['a table at the last level', V, [ld], 13n],
    ['A clear', all & ~A, [ld], 13n],
    ['D clear, loaded', all & ~D, [ld], 0n],
    ['D clear, stored to', all & ~D, [sd], 15n],
    ['an atomic on a read-only page', V | R | A | D, [op('amoadd.d', { rs1: 5 })], 15n],
    ['a reservation on a page that is not there', 0n, [op('lr.d', { rs1: 5 })], 13n],
    ['a page of U from S', all | U, [ld], 13n],
  ] as const)('%s', (_, flags, run, cause) => {
    expect(faults(flags, { run })).toBe(cause);
  });

  it('SUM lets S load from U pages, never fetch', () => {
    expect(faults(all | U, { run: [ld], setUp: { mstatus: 1n << 18n } })).toBe(0n);
    const jump = { run: [op('jalr', { rs1: 5 }), nop], setUp: { mstatus: 1n << 18n } };
    expect(faults(all | U, jump)).toBe(12n);
  });
  it('MXR makes executable pages readable', () => {
    expect(faults(V | X | A | D, { run: [ld], setUp: { mstatus: 1n << 19n } })).toBe(0n);
  });
  it('U sees only pages of U', () => {
    expect(faults(all, { run: [ld], priv: 0 })).toBe(13n);
    expect(faults(all | U, { run: [ld], priv: 0 })).toBe(0n);
  });
  it('a change of SUM takes effect at once', () => {
    const result = attempt({
      map: (space) => space.put(page, pteOf(data, all | U)),
      x5: page,
      x6: 1n << 18n,
      run: [op('csrrs', { csr: 'sstatus', rs1: 6 }), ld, op('csrrc', { csr: 'sstatus', rs1: 6 }), ld, nop],
    });
    expect([result.trapped, result.hart.csr('mepc')]).toEqual([true, BigInt(ramBase + code + 12)]);
  });
  it('MPRV loads as the previous mode, and fetches as M', () => {
    const b = attempt({ map: (space) => space.put(page, pteOf(data, all)), x5: page, run: [nop] }).board;
    b.write64(data, 42n);
    b.load(0x500, ld, spin);
    b.hart.pc = BigInt(ramBase + 0x500);
    b.hart.reset(ramBase + 0x500, 0, 0);
    b.hart.setCsr('satp', (8n << 60n) | BigInt((ramBase + tables) / 4096));
    b.hart.setCsr('pmpaddr0', (1n << 54n) - 1n);
    b.hart.setCsr('pmpcfg0', 0x1fn);
    b.hart.setCsr('mstatus', (1n << 17n) | (1n << 11n));
    b.hart.setX(5, page);
    b.hart.run(2);
    expect(b.hart.x(10)).toBe(42n);
  });
  it('hardware sets A and D where menvcfg.ADUE asks for it', () => {
    const entry = () => attempt({ map: (space) => space.put(page, pteOf(data, V | R | W)), x5: page, run: [sd], setUp: { menvcfg: 1n << 61n } }); // prettier-ignore
    const { board: b, trapped } = entry();
    expect(trapped).toBe(false);
    const root = tables + 8 * Number((page >> 30n) & 511n);
    const middle = Number((b.read64(root) >> 10n) << 12n) - ramBase + 8 * Number((page >> 21n) & 511n);
    const leaf = Number((b.read64(middle) >> 10n) << 12n) - ramBase + 8 * Number((page >> 12n) & 511n);
    expect(b.read64(leaf) & 0xffn).toBe(V | R | W | A | D);
  });
  it('a superpage must be aligned, and tables hold no A, D or U', () => {
    const misaligned = attempt({ map: (s) => s.put(0x4000_0000n, pteOf(0x1000, all), 1), x5: 0x4000_0000n, run: [ld] });
    expect(misaligned.cause).toBe(13n);
    const flagged = attempt({ map: (s) => { s.put(page, pteOf(data, all)); s.put(page, pteOf(tables + 0x3000, V | A), 1); }, x5: page, run: [ld] }); // prettier-ignore
    expect(flagged.cause).toBe(13n);
  });
  it('a table outside RAM is an access fault', () => {
    const result = attempt({ map: (s) => s.put(0x4000_0000n, (0x1000n << 10n) | V, 2), x5: 0x4000_0000n, run: [ld] });
    expect([result.cause, result.tval]).toEqual([5n, 0x4000_0000n]);
  });
});

describe('accesses on two pages', () => {
  const bytes = fc.uint8Array({ minLength: 16, maxLength: 16 });
  const cases = [
    ['lh', 'sh', 2],
    ['lw', 'sw', 4],
    ['ld', 'sd', 8],
  ] as const;
  it.each(cases)('%s and %s join both halves', (load, store, size) => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: size - 1 }), bytes, fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), (before, content, value) => {
        const { board: b, hart, trapped } = attempt({
          map: (space) => {
            space.put(page, pteOf(data, all));
            // Not contiguous in physical memory.
            space.put(page + 4096n, pteOf(data + 0x5000, all));
            const { bytes: memory, guestBase } = space.board.group.memory;
            memory.set(content.subarray(0, 8), guestBase + data + 4088);
            memory.set(content.subarray(8), guestBase + data + 0x5000);
          },
          x5: page + 4096n - BigInt(before),
          x6: value,
          run: [op(load, { rd: 10, rs1: 5 }), op(store, { rs1: 5, rs2: 6 }), op(load, { rd: 11, rs1: 5 })],
        });
        expect(trapped).toBe(false);
        let wanted = 0n;
        for (let i = size - 1; i >= 0; i--) wanted = (wanted << 8n) | BigInt(content[8 - before + i]!);
        const extend = (x: bigint): bigint => BigInt.asUintN(64, BigInt.asIntN(8 * size, x));
        expect(hart.x(10)).toBe(extend(wanted));
        expect(hart.x(11)).toBe(extend(value));
        expect(b.group.memory.bytes[b.group.memory.guestBase + data + 4095 - before]).toBe(content[7 - before]);
      }),
      { numRuns: 15 },
    );
  }); // prettier-ignore

  it('fault with the address of the half that is missing, and store nothing', () => {
    const second = attempt({ map: (s) => s.put(page, pteOf(data, all)), x5: page + 4092n, x6: -1n, run: [sd] });
    expect([second.cause, second.tval]).toEqual([15n, page + 4096n]);
    expect(second.board.read64(data + 4088)).toBe(0n);
    const first = attempt({ map: (s) => s.put(page + 4096n, pteOf(data, all)), x5: page + 4092n, run: [ld] });
    expect([first.cause, first.tval]).toEqual([13n, page + 4092n]);
  });
});

describe('an instruction on two pages', () => {
  it('faults with the address of the page that is missing, at the instruction that begins on the other', () => {
    const result = attempt({
      map: ({ board: b }) => {
        const { view, guestBase } = b.group.memory;
        view.setUint16(guestBase + code + 0xffe, op('addi', { rd: 10, imm: 1 }) & 0xffff, true);
      },
      x5: 0n,
      run: [op('jal', { imm: 0xffe }), nop],
    });
    expect(result.cause).toBe(12n);
    expect(result.tval).toBe(BigInt(ramBase + code + 0x1000));
    expect(result.hart.csr('mepc')).toBe(BigInt(ramBase + code + 0xffe));
  });
});

describe('sfence.vma', () => {
  const remap = (fence: readonly number[]) =>
    attempt({
      map: (space) => {
        space.put(page, pteOf(data, all));
        space.board.write64(data, 1n);
        space.board.write64(data + 0x1000, 2n);
        // The tables are reachable too.
        for (let i = 0; i < 8; i++) space.put(0x5000_0000n + BigInt(i) * 4096n, pteOf(tables + i * 4096, all));
      },
      x5: page,
      run: [op('ld', { rd: 10, rs1: 5 }), ...fence, op('ld', { rd: 11, rs1: 5 })],
    });
  it.each([
    ['of everything', op('sfence.vma')],
    ['of the address', op('sfence.vma', { rs1: 5 })],
    ['of the address space', op('sfence.vma', { rs2: 7 })],
    ['of an address in it', op('sfence.vma', { rs1: 5, rs2: 7 })],
  ])('%s makes a changed entry visible', (_, fence) => {
    const probe = remap([]);
    expect(probe.trapped).toBe(false);
    const b = probe.board;
    const root = tables + 8 * Number((page >> 30n) & 511n);
    const middle = Number((b.read64(root) >> 10n) << 12n) - ramBase + 8 * Number((page >> 21n) & 511n);
    const table = Number((b.read64(middle) >> 10n) << 12n) - ramBase;
    const at = 0x5000_0000n + BigInt(table - tables) + 8n * ((page >> 12n) & 511n);
    const { hart, trapped } = remap([
      // x8 = the entry's address, x9 = the new entry.
      ...[at].flatMap((address) => [op('lui', { rd: 8, imm: Number(address & ~0xfffn) }), op('addi', { rd: 8, rs1: 8, imm: Number(address & 0x7ffn) }), ...(address & 0x800n ? [op('addi', { rd: 8, rs1: 8, imm: 0x7ff }), op('addi', { rd: 8, rs1: 8, imm: 1 })] : [])]), // prettier-ignore
      op('ld', { rd: 9, rs1: 8 }),
      op('addi', { rd: 9, rs1: 9, imm: 0x400 }),
      op('sd', { rs1: 8, rs2: 9 }),
      fence,
    ]);
    expect(trapped).toBe(false);
    expect([hart.x(10), hart.x(11)]).toEqual([1n, 2n]);
  });
});

describe('physical memory protection', () => {
  it('denies S what no entry allows, and what an entry withholds', () => {
    const outcome = (pmp: Readonly<Record<string, bigint>>, run: readonly number[]): bigint => {
      const result = attempt({ map: (s) => s.put(page, pteOf(data, all)), x5: page, run, setUp: pmp });
      return result.trapped ? result.cause : 0n;
    };
    const dataPage = (BigInt(ramBase + data) >> 2n) | 0x1ffn;
    const everything = (1n << 54n) - 1n;
    // Entry 0: the data page read-only; entry 1: all.
    const readOnly = { pmpaddr0: dataPage, pmpaddr1: everything, pmpcfg0: 0x1f19n };
    expect(outcome(readOnly, [ld])).toBe(0n);
    expect(outcome(readOnly, [sd])).toBe(7n);
    expect(outcome({ pmpcfg0: 0n }, [ld])).toBe(1n);
    // TOR: everything below the data page, and nothing of it.
    const below = { pmpaddr0: BigInt(ramBase + data) >> 2n, pmpcfg0: 0x0fn };
    expect(outcome(below, [ld])).toBe(5n);
  });

  it('binds M only by locked entries, which stay', () => {
    const b = board({ entryMode: 'm' });
    b.load(0, ld, spin);
    b.load(handler, spin);
    for (const [config, cause] of [[0x18n, 0n], [0x98n, 5n]] as const) {
      b.hart.reset(ramBase, 0, 0);
      b.hart.setCsr('mtvec', BigInt(ramBase + handler));
      b.hart.setCsr('pmpaddr0', (BigInt(ramBase + data) >> 2n) | 0x1ffn);
      b.hart.setCsr('pmpcfg0', config);
      b.hart.setX(5, ramBase + data);
      b.hart.run(1);
      expect(b.hart.csr('mcause')).toBe(cause);
      b.hart.setCsr('pmpcfg0', 0n);
      expect(b.hart.csr('pmpcfg0')).toBe(config & 0x80n ? config : 0n);
    }
  }); // prettier-ignore
});
