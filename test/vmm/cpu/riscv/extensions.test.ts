import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HostMemory } from '#vmm/base/memory';
import { engineBytes } from '#vmm/cpu/engine/layout';
import { allExtensions, extensionNames, type OptionalExtension } from '#vmm/base/isa-extensions';
import { Hart, HartGroup } from '#vmm/cpu/riscv/hart';
import { instructions } from '#vmm/cpu/riscv/instructions';
import { board, csrw, li, op, ramBase, run, spin } from './assembler.ts';

const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
const s64 = (value: bigint): bigint => BigInt.asIntN(64, value);
const u32 = (value: bigint): bigint => BigInt.asUintN(32, value);
const sext32 = (value: bigint): bigint => BigInt.asIntN(32, value);
const rotate = (value: bigint, by: bigint, width: bigint): bigint =>
  BigInt.asUintN(Number(width), (value << (by % width)) | (value >> ((width - (by % width)) % width)));
const ror = (value: bigint, by: bigint, width: bigint): bigint => rotate(value, width - (by % width), width);
const binary = (value: bigint, width: number): string => value.toString(2).padStart(width, '0');
const leading = (value: bigint, width: number): bigint => BigInt(`${binary(value, width)}1`.indexOf('1'));
const trailing = (value: bigint, width: number): bigint =>
  BigInt(`${[...binary(value, width)].toReversed().join('')}1`.indexOf('1'));
const ones = (value: bigint): bigint => BigInt([...value.toString(2)].filter((bit) => bit === '1').length);
const bytesOf = (value: bigint): bigint[] => Array.from({ length: 8 }, (_, i) => (value >> BigInt(8 * i)) & 255n);
const fromBytes = (bytes: readonly bigint[]): bigint =>
  bytes.reduce((sum, byte, i) => sum | (byte << BigInt(8 * i)), 0n);
const bit = (b: bigint): bigint => 1n << (b & 63n);

/** What each computes of rs1 and rs2 (or the immediate), both unsigned. */
const models: Readonly<Record<string, (a: bigint, b: bigint) => bigint>> = {
  sh1add: (a, b) => (a << 1n) + b,
  sh2add: (a, b) => (a << 2n) + b,
  sh3add: (a, b) => (a << 3n) + b,
  'sh1add.uw': (a, b) => (u32(a) << 1n) + b,
  'sh2add.uw': (a, b) => (u32(a) << 2n) + b,
  'sh3add.uw': (a, b) => (u32(a) << 3n) + b,
  'add.uw': (a, b) => u32(a) + b,
  'slli.uw': (a, b) => u32(a) << b,
  andn: (a, b) => a & ~b,
  orn: (a, b) => a | ~b,
  xnor: (a, b) => ~(a ^ b),
  clz: (a) => leading(a, 64),
  ctz: (a) => trailing(a, 64),
  cpop: ones,
  clzw: (a) => leading(u32(a), 32),
  ctzw: (a) => trailing(u32(a), 32),
  cpopw: (a) => ones(u32(a)),
  'sext.b': (a) => BigInt.asIntN(8, a),
  'sext.h': (a) => BigInt.asIntN(16, a),
  'zext.h': (a) => a & 0xffffn,
  min: (a, b) => (s64(a) < s64(b) ? a : b),
  minu: (a, b) => (a < b ? a : b),
  max: (a, b) => (s64(a) > s64(b) ? a : b),
  maxu: (a, b) => (a > b ? a : b),
  rol: (a, b) => rotate(a, b & 63n, 64n),
  ror: (a, b) => ror(a, b & 63n, 64n),
  rori: (a, b) => ror(a, b, 64n),
  rolw: (a, b) => sext32(rotate(u32(a), b & 31n, 32n)),
  rorw: (a, b) => sext32(ror(u32(a), b & 31n, 32n)),
  roriw: (a, b) => sext32(ror(u32(a), b, 32n)),
  'orc.b': (a) => fromBytes(bytesOf(a).map((byte) => (byte === 0n ? 0n : 255n))),
  rev8: (a) => fromBytes(bytesOf(a).toReversed()),
  bclr: (a, b) => a & ~bit(b),
  bclri: (a, b) => a & ~bit(b),
  bext: (a, b) => (a >> (b & 63n)) & 1n,
  bexti: (a, b) => (a >> b) & 1n,
  binv: (a, b) => a ^ bit(b),
  binvi: (a, b) => a ^ bit(b),
  bset: (a, b) => a | bit(b),
  bseti: (a, b) => a | bit(b),
  'czero.eqz': (a, b) => (b === 0n ? 0n : a),
  'czero.nez': (a, b) => (b === 0n ? a : 0n),
};
const computing = instructions.filter(({ extension }) => ['Zba', 'Zbb', 'Zbs', 'Zicond'].includes(extension));
const awkward = [0n, 1n, 0x7fn, 0x80n, 0x8000n, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn, 1n << 63n, (1n << 63n) - 1n, u64(-1n)]; // prettier-ignore
const operand = fc.oneof(fc.constantFrom(...awkward), fc.bigInt({ min: 0n, max: u64(-1n) }));

describe('bit manipulation and conditional operations', () => {
  it('have a model each', () => {
    expect(computing.map(({ name }) => name).toSorted()).toEqual(Object.keys(models).toSorted());
  });

  it.each(computing.map((row) => [row.name, row] as const))('%s', (name, row) => {
    const b = board({ entryMode: 'm' });
    const width = row.encoding.pieces.find((piece) => piece.operand === 'imm')?.width;
    fc.assert(
      fc.property(operand, operand, fc.constantFrom(10, 11, 12), (x, y, rd) => {
        const imm = width === undefined ? undefined : Number(y % 2n ** BigInt(width));
        b.load(0, op(name, { rd, rs1: 11, rs2: 12, ...(imm === undefined ? {} : { imm }) }));
        b.hart.reset(ramBase, 0, 0);
        b.hart.setX(11, x);
        b.hart.setX(12, y);
        b.hart.run(1);
        expect(b.hart.x(rd)).toBe(u64(models[name]!(x, imm === undefined ? y : BigInt(imm))));
      }),
      { numRuns: 60 },
    );
  });
});

/** Where traps lead: a jump to itself. */
const handler = ramBase + 0x800;
/** A hart with these extensions alone. */
const hartWith = (entryMode: 's' | 'm', ...extensions: OptionalExtension[]) => {
  const guestBytes = 1 << 20;
  const memory = new HostMemory({ engineBytes: engineBytes({ harts: 1, guestBytes }), poolBytes: 0, guestBytes });
  const group = new HartGroup({ memory, ramBase, harts: 1, extensions: new Set(extensions) });
  const hart = new Hart({ group, id: 0, entryMode, bus: { read: () => undefined, write: () => false } });
  const start = (...words: readonly number[]): Hart => {
    words.forEach((word, i) => memory.view.setUint32(memory.guestBase + 4 * i, word, true));
    memory.view.setUint32(memory.guestBase + handler - ramBase, spin, true);
    hart.reset(ramBase, 0, 0);
    return hart;
  };
  return { hart, memory, start };
};

describe('extensions that are off', () => {
  const none = hartWith('m');
  const optional = instructions.filter(({ extension }) =>
    (extensionNames as readonly string[]).includes(extension.toLowerCase()),
  );
  it.each(optional.map(({ name, encoding }) => [name, encoding.match] as const))('%s is illegal', (_, word) => {
    const hart = none.start(word);
    hart.setCsr('mtvec', BigInt(handler));
    hart.run(1);
    expect(hart.csr('mcause')).toBe(2n);
    expect(hart.csr('mepc')).toBe(BigInt(ramBase));
  });

  it('have no bits in menvcfg and senvcfg', () => {
    none.start();
    none.hart.setCsr('menvcfg', -1n);
    none.hart.setCsr('senvcfg', -1n);
    expect(none.hart.csr('menvcfg')).toBe((1n << 63n) | 1n);
    expect(none.hart.csr('senvcfg')).toBe(1n);
    const all = hartWith('m', ...allExtensions).hart;
    all.setCsr('menvcfg', -1n);
    all.setCsr('senvcfg', -1n);
    expect(all.csr('menvcfg')).toBe((7n << 61n) | (1n << 7n) | 1n);
    expect(all.csr('senvcfg')).toBe((1n << 7n) | 1n);
  });
});

describe('cbo.zero', () => {
  it('zeroes the block around an address and nothing else', () => {
    const b = board({ entryMode: 'm' });
    for (let at = 0x1000; at < 0x1100; at += 8) b.write64(at, -1n);
    const hart = run(
      b,
      [...li(5, 0x1000 + 0x7b), op('add', { rd: 5, rs1: 5, rs2: 10 }), op('cbo.zero', { rs1: 5 })],
      0,
    );
    hart.setX(10, ramBase);
    hart.run(4);
    const words = Array.from({ length: 32 }, (_, i) => b.read64(0x1000 + 8 * i));
    expect(words.findIndex((word) => word === 0n)).toBe(8);
    expect(words.filter((word) => word === 0n)).toHaveLength(8);
  });

  it('traps where menvcfg forbids it, and faults as a store does', () => {
    const s = hartWith('s', 'zicboz');
    const attempt = (at: bigint, mask: bigint): bigint => {
      s.start(op('cbo.zero', { rs1: 5 }));
      s.hart.setCsr('menvcfg', mask);
      s.hart.setCsr('stvec', BigInt(handler));
      s.hart.setX(5, at);
      s.hart.run(1);
      return s.hart.csr('scause')!;
    };
    expect(attempt(BigInt(ramBase + 0x1000), 1n << 7n)).toBe(0n);
    expect(attempt(BigInt(ramBase + 0x1000), 0n)).toBe(2n);
    expect(attempt(0x1040n, 1n << 7n)).toBe(7n);
    expect(s.hart.csr('stval')).toBe(0x1040n);
  });
});

describe('pages', () => {
  const pte = { V: 1n, R: 2n, W: 4n, X: 8n, A: 64n, D: 128n, N: 1n << 63n };
  const flags = pte.V | pte.R | pte.W | pte.A | pte.D;
  /** Three levels at 0x4000, 0x5000, 0x6000 of RAM; `leaf` for the 16 pages at virtual 0x10000; loads from `address`. */
  const load = (
    target: ReturnType<typeof hartWith>,
    leaf: bigint,
    address: bigint,
    environment: bigint,
  ): { cause: bigint; value: bigint } => {
    const { hart, memory } = target;
    const store = (offset: number, value: bigint): void =>
      memory.view.setBigUint64(memory.guestBase + offset, value, true);
    const table = (offset: number): bigint => ((BigInt(ramBase + offset) >> 12n) << 10n) | pte.V;
    target.start(op('ld', { rd: 6, rs1: 5 }));
    store(0x4000, table(0x5000));
    store(0x5000, table(0x6000));
    for (let page = 16; page < 32; page++) store(0x6000 + 8 * page, leaf);
    // The code's own gigapage is mapped as it is.
    store(0x4000 + 8 * 2, ((BigInt(ramBase) >> 12n) << 10n) | flags | pte.X);
    for (let page = 0; page < 16; page++) store(0x20000 + page * 4096 + 8, BigInt(page + 1));
    hart.setCsr('menvcfg', environment);
    hart.setCsr('stvec', BigInt(handler));
    hart.setCsr('satp', (8n << 60n) | (BigInt(ramBase + 0x4000) >> 12n));
    hart.setX(5, address);
    hart.setX(6, 0);
    hart.run(1);
    return { cause: hart.csr('scause')!, value: hart.x(6) };
  };
  const napotLeaf = (ppnLow: bigint): bigint => pte.N | (((BigInt(ramBase + 0x20000) >> 12n) | ppnLow) << 10n) | flags;
  const all = hartWith('s', ...allExtensions);
  const none = hartWith('s');

  it('of 64 KiB: all 16 lead to their own memory', () => {
    for (let page = 0n; page < 16n; page++)
      expect(load(all, napotLeaf(8n), 0x10008n + page * 4096n, 0n)).toEqual({ cause: 0n, value: page + 1n });
    expect(load(all, napotLeaf(4n), 0x10008n, 0n).cause).toBe(13n);
    expect(load(all, napotLeaf(9n), 0x10008n, 0n).cause).toBe(13n);
    expect(load(none, napotLeaf(8n), 0x10008n, 0n).cause).toBe(13n);
  });

  it('with memory types: 3 is reserved, and all are without menvcfg.PBMTE', () => {
    const leaf = (type: bigint): bigint => (type << 61n) | ((BigInt(ramBase + 0x20000) >> 12n) << 10n) | flags;
    const enabled = 1n << 62n;
    expect([0n, 1n, 2n, 3n].map((type) => load(all, leaf(type), 0x10008n, enabled).cause)).toEqual([0n, 0n, 0n, 13n]);
    expect([0n, 1n, 2n, 3n].map((type) => load(all, leaf(type), 0x10008n, 0n).cause)).toEqual([0n, 13n, 13n, 13n]);
    expect([0n, 1n, 2n, 3n].map((type) => load(none, leaf(type), 0x10008n, enabled).cause)).toEqual([
      0n,
      13n,
      13n,
      13n,
    ]);
  });

  it('have A and D set by the hart only with Svadu and menvcfg.ADUE', () => {
    const leaf = ((BigInt(ramBase + 0x20000) >> 12n) << 10n) | pte.V | pte.R;
    expect(load(all, leaf, 0x10008n, 1n << 61n)).toEqual({ cause: 0n, value: 1n });
    expect(load(all, leaf, 0x10008n, 0n).cause).toBe(13n);
    expect(load(none, leaf, 0x10008n, 1n << 61n).cause).toBe(13n);
  });
});

it('wrs ends at once', () => {
  const b = board({ entryMode: 'm' });
  const hart = run(b, [op('wrs.nto'), op('wrs.sto'), csrw('mscratch', 0)]);
  expect(hart.pc).toBe(BigInt(ramBase + 12));
});
