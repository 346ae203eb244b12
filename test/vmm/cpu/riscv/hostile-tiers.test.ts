/** What no sane program does, in both tiers: the VMM lives, and both harts are the same to the bit. */
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { csrs } from '#vmm/cpu/riscv/csr';
import type { Hart } from '#vmm/cpu/riscv/hart';
import { instructions } from '#vmm/cpu/riscv/instructions';
import { translationSlots } from '#vmm/cpu/engine/layout';
import { csrw, op, ramBase, spin } from './assembler.ts';
import { type Random, randomFrom, rowsOf, Units } from './torture-program.ts';
import { Twins } from './twins.ts';

const pageBytes = 4096;
const shared = new Map<string, Twins>();
const twins = (entryMode: 's' | 'm', guestBytes = 4 << 20): Twins => {
  const key = `${entryMode} ${guestBytes}`;
  const bus = {
    read: (address: number, bytes: number) => (address % 3 === 0 ? undefined : bytes === 8 ? 5n : 5),
    write: (address: number) => address % 2 === 0,
  };
  const made = shared.get(key) ?? new Twins({ entryMode, guestBytes, bus });
  shared.set(key, made);
  return made;
};
/** More of them by hand: HOSTILE=1000. */
const seeds = Number(process.env.HOSTILE ?? 20);

/** Random but mostly legal code, with jumps, CSR writes and stores over itself. */
const anyWord = (random: Random): number => {
  const bits = random(2 ** 32);
  switch (random(8)) {
    case 0:
      return bits;
    case 1: {
      const name = ['csrrw', 'csrrs', 'csrrc', 'csrrwi', 'csrrsi', 'csrrci'][random(6)]!;
      return op(name, { csr: csrs[random(csrs.length)]!.number, rd: random(32), [name.endsWith('i') ? 'imm' : 'rs1']: random(32) }); // prettier-ignore
    }
    case 2:
      return op('jal', { rd: random(2), imm: 2 * (random(120) - 60) });
    case 3:
      return op('beq', { rs1: random(32), rs2: random(32), imm: 2 * (random(60) - 30) });
    case 4:
      return op(random(2) ? 'sw' : 'sd', { rs1: 2 * random(16), rs2: random(32), imm: random(256) - 128 });
    default: {
      const { encoding } = instructions[random(instructions.length)]!;
      return ((bits & ~encoding.mask) | encoding.match) >>> 0;
    }
  }
};

describe.each(['m', 's'] as const)('nonsense in entry mode %s', (entryMode) => {
  it('is the same nonsense in both tiers', () => {
    const pair = twins(entryMode);
    const { regions } = pair.translated;
    for (let seed = 1; seed <= seeds; seed++) {
      const random = randomFrom(seed + (entryMode === 'm' ? 0 : 1000));
      const words = Array.from({ length: 40 + random(200) }, () => anyWord(random));
      pair.reset(ramBase);
      pair.words(0, words);
      pair.words(0x1000 - 4 * random(20), words);
      const values = Array.from({ length: 31 }, (_, i) => {
        const value = (BigInt(random(2 ** 32)) << 32n) | BigInt(random(2 ** 32));
        // Most point somewhere into RAM, many of them to the code.
        return i % 2 ? value : BigInt(ramBase) + (value & (random(2) ? 0x1fffn : 0x3f_ffffn));
      });
      pair.both((hart) => {
        for (const vector of ['stvec', 'mtvec']) hart.setCsr(vector, BigInt(ramBase + 0x1000));
        hart.setCsr('mstatus', hart.csr('mstatus')! | 0x6000n);
        values.forEach((value, i) => hart.setX(i + 1, value));
      });
      try {
        for (let i = 0; i < 25; i++) {
          const before = pair.harts[0].instret;
          const budget = 1 + random([5, 60, 700][random(3)]!);
          const reason = pair.run(budget);
          expect(['budget', 'wfi', 'crash', 'event', 'halted']).toContain(reason);
          expect(pair.harts[0].instret - before).toBeLessThanOrEqual(budget);
          if (reason !== 'crash') continue;
          // On with another place.
          pair.both((hart) => (hart.pc = BigInt(ramBase + 2 * (seed % 60))));
        }
        pair.compare();
      } catch (error) {
        throw new Error(`seed ${seed}`, { cause: error });
      }
    }
    expect(pair.translated.regions - regions).toBeGreaterThan(seeds);
  });
});

/** Sv39 tables in RAM: root, then two levels for the 2 MiB at `window`, of which programs use some pages. */
const window = 0x4000_0000;
const tables = 0x20_0000;
const codeAt = 0x10_0000;
const codePages = 10;
const v = 1;
const [r, w, x, u, a, d] = [2, 4, 8, 16, 64, 128];

class Chaos {
  readonly #pair: Twins;
  readonly #random: Random;
  constructor(pair: Twins, random: Random) {
    this.#pair = pair;
    this.#random = random;
  }
  #entry(at: number, value: bigint): void {
    this.#pair.write(at, new Uint8Array(BigUint64Array.of(value).buffer));
  }
  /** Page `at` of the window, of address space 0 or 1, is some page of code, with some rights; or nothing at all. */
  map(space: number, at: number): void {
    const random = this.#random;
    const page = BigInt((ramBase + codeAt + pageBytes * random(codePages)) / pageBytes);
    const user = random(8) === 0 ? u : 0;
    const rights = random(10) === 0 ? [0, r, x, r | w, r | x][random(5)]! : r | w | x;
    const flags = rights | user | (random(10) ? a | d : [0, a][random(2)]!) | (random(12) ? v : 0);
    this.#entry(tables + 0x10000 * space + 2 * pageBytes + 8 * at, (page << 10n) | BigInt(flags));
  }
  space(space: number): void {
    const base = tables + 0x10000 * space;
    const pointer = (offset: number): bigint => (BigInt((ramBase + offset) / pageBytes) << 10n) | BigInt(v);
    this.#entry(base + 8 * (window / 2 ** 30), pointer(base + pageBytes));
    this.#entry(base + pageBytes, pointer(base + 2 * pageBytes));
    // The first GiB of RAM, as it is.
    this.#entry(base + 8 * 2, (BigInt(ramBase / pageBytes) << 10n) | BigInt(v | r | w | x | a | d));
    for (let at = 0; at < codePages; at++) this.map(space, at);
  }
  satp(space: number): bigint {
    return (8n << 60n) | (BigInt(space) << 44n) | BigInt((ramBase + tables + 0x10000 * space) / pageBytes);
  }
  /** A page of code that goes to other pages all the time. */
  page(): number[] {
    const random = this.#random;
    const units = new Units(
      random,
      rowsOf(['I', 'M'], (name) => /^(fence|l|s[bhwd]$|auipc|b|j|e)/.test(name)),
    );
    const out: number[] = [];
    const turns: readonly [number, () => number][] = [
      [30, () => op('beq', { rs1: random(32), rs2: random(32), imm: 2 * (random(200) - 100) })],
      [20, () => op('jal', { rd: random(3) ? 0 : 1, imm: pageBytes * (random(5) - 2) + 2 * random(8) })],
      [10, () => op('lw', { rd: 8, rs1: 2, imm: 4 * random(500) })],
      [10, () => op('sw', { rs1: 2, rs2: random(32), imm: random(2000) })],
      [3, () => op('sfence.vma', { rs1: random(2) ? 0 : 2, rs2: random(3) ? 0 : 16 })],
      [2, () => op('fence.i')],
      [1, () => csrw('satp', 16 + random(2))],
    ];
    while (out.length < pageBytes / 2 - 24) {
      for (const half of units.some(3)) out.push(half);
      let at = random(100);
      const chosen = turns.find(([weight]) => (at -= weight) < 0);
      if (!chosen) continue;
      const word = chosen[1]();
      out.push(word & 0xffff, word >>> 16);
    }
    // On into the next page.
    while (out.length < pageBytes / 2) out.push(1);
    if (random(2)) {
      const word = op('addi', { rd: 8, rs1: 8, imm: 1 });
      out.splice(-1, 1, word & 0xffff);
    }
    return out;
  }
  /** What happens between two slices. */
  step(): void {
    const random = this.#random;
    const pair = this.#pair;
    for (let i = random(4); i > 0; i--) {
      const at = random(codePages);
      switch (random(9)) {
        case 0:
        case 1:
          this.map(random(2), at);
          break;
        case 2:
          this.map(0, at);
          pair.both((hart) => hart.flushTranslations());
          break;
        case 3:
          pair.both((hart) => hart.fenceCode());
          break;
        case 4: {
          const value = this.satp(random(2));
          pair.both((hart) => hart.setCsr('satp', value));
          break;
        }
        case 5: {
          // A device writes code, with or without a fence.
          const bytes = Uint8Array.from({ length: 2 + 2 * random(8) }, () => random(256));
          pair.write(codeAt + pageBytes * at + 2 * random(1900), bytes);
          break;
        }
        case 6:
          pair.words(codeAt + pageBytes * at + 2 * random(1000), [op('addi', { rd: 8, rs1: 8, imm: random(2000) })]);
          pair.both((hart) => hart.fenceCode());
          break;
        case 7: {
          const [mask, on] = [[1n << 19n, 1n << 18n, 1n << 8n][random(3)]!, random(2)];
          pair.both((hart) => hart.setCsr('mstatus', on ? hart.csr('mstatus')! | mask : hart.csr('mstatus')! & ~mask));
          break;
        }
        default:
          this.go(at);
      }
    }
  }
  /** To a place that may be the middle of an instruction. */
  go(at: number): void {
    const pc = BigInt(window + pageBytes * at + 2 * this.#random(60));
    const far = BigInt(window + pageBytes * this.#random(codePages) + 2 * this.#random(100));
    this.#pair.both((hart) => {
      hart.pc = pc;
      hart.setX(2, far);
    });
  }
}

describe('mappings that change while translations exist', () => {
  it('mean the same in both tiers, fenced or not', () => {
    const pair = twins('s');
    const { regions } = pair.translated;
    for (let seed = 1; seed <= seeds; seed++) {
      const random = randomFrom(seed + 5000);
      const chaos = new Chaos(pair, random);
      pair.reset(ramBase);
      for (const space of [0, 1]) chaos.space(space);
      for (let page = 0; page < codePages; page++)
        pair.write(codeAt + pageBytes * page, new Uint8Array(Uint16Array.from(chaos.page()).buffer));
      // What traps goes on two bytes further, after so many in a row somewhere else.
      const handler = [
        op('csrrs', { rd: 30, csr: 'sepc' }),
        op('addi', { rd: 30, rs1: 30, imm: 2 }),
        op('addi', { rd: 29, rs1: 29, imm: 1 }),
        op('andi', { rd: 28, rs1: 29, imm: 15 }),
        op('bne', { rs1: 28, imm: 24 }),
        op('slli', { rd: 28, rs1: 29, imm: 8 }),
        op('lui', { rd: 30, imm: window }),
        op('lui', { rd: 27, imm: 0x7000 }),
        op('and', { rd: 28, rs1: 28, rs2: 27 }),
        op('add', { rd: 30, rs1: 30, rs2: 28 }),
        csrw('sepc', 30),
        op('sret'),
      ];
      pair.words(0, handler);
      const [satp, other] = [chaos.satp(0), chaos.satp(1)];
      pair.both((hart: Hart) => {
        hart.setCsr('stvec', BigInt(ramBase));
        hart.setCsr('satp', satp);
        hart.setCsr('menvcfg', (BigInt(seed % 2) << 61n) | (1n << 63n));
        hart.setCsr('mstatus', hart.csr('mstatus')! | 0x6000n | (1n << 18n));
        hart.setX(16, satp);
        hart.setX(17, other);
      });
      chaos.go(0);
      try {
        for (let i = 0; i < 60; i++) {
          const reason = pair.run(1 + random([5, 100, 1500][random(3)]!));
          if (reason === 'crash') chaos.go(random(codePages));
          chaos.step();
        }
        pair.compare();
      } catch (error) {
        throw new Error(`seed ${seed}`, { cause: error });
      }
    }
    expect(pair.translated.regions - regions).toBeGreaterThan(10 * seeds);
  });
});

describe('more code than there is room for', () => {
  const guestBytes = 24 << 20;
  afterAll(() => shared.delete(`m ${guestBytes}`));

  it('makes room for pages of code and in the table of translations', () => {
    const pages = 4500;
    const pair = twins('m', guestBytes);
    pair.reset(ramBase);
    for (let i = 0; i < pages; i++)
      pair.words(pageBytes * i, [
        op('addi', { rd: 6, imm: 4 }),
        op('addi', { rd: 7, rs1: 7, imm: 1 }),
        op('addi', { rd: 6, rs1: 6, imm: -1 }),
        op('bne', { rs1: 6, imm: -8 }),
        op('lui', { rd: 5, imm: i + 1 < pages ? pageBytes : -pageBytes * (pages - 1) }),
        op('auipc', { rd: 8 }),
        op('add', { rd: 8, rs1: 8, rs2: 5 }),
        op('jalr', { rs1: 8, imm: -20 }),
      ]);
    const before = { ...pair.translated };
    for (let i = 0; pair.translated.regions - before.regions <= translationSlots + 2000; i++) {
      expect(i).toBeLessThan(200);
      pair.run(17 * 500 + (i % 13));
    }
    pair.compare();
    expect(pair.harts[0].x(7)).toBeGreaterThan(2n * 4n * BigInt(pages));
    expect(pair.translated.dropped - before.dropped).toBeGreaterThan(translationSlots / 2);
  });

  it('translates a little at a time when everything becomes hot at once', () => {
    const places = 40_000;
    const pair = twins('m', guestBytes);
    pair.reset(ramBase);
    for (let i = 0; i < places; i++)
      pair.words(16 * i, [
        op('addi', { rd: 7, rs1: 7, imm: 1 }),
        op('xor', { rd: 8, rs1: 8, rs2: 7 }),
        op('jal', { imm: i + 1 < places ? 8 : -(16 * i + 8) }),
        spin,
      ]);
    const before = { ...pair.translated };
    for (let i = 0; i < 6; i++) pair.run(3 * places);
    pair.compare();
    expect(pair.harts[0].x(7)).toBe(BigInt(6 * places));
    const translated = pair.translated.instructions - before.instructions;
    expect(translated).toBeGreaterThan(0);
    expect(translated).toBeLessThan(6 * 60_000);
  });
});

describe('the end of memory, and of patience', () => {
  it('is met by hot code as by any other', () => {
    const pair = twins('m');
    const last = (4 << 20) - 32;
    pair.reset(ramBase + last);
    // A loop that reads further and further, then runs off RAM; the handler goes back to it.
    pair.words(last, [
      op('addi', { rd: 6, imm: 9 }),
      op('lw', { rd: 8, rs1: 5 }),
      op('addi', { rd: 5, rs1: 5, imm: 4 }),
      op('addi', { rd: 6, rs1: 6, imm: -1 }),
      op('bne', { rs1: 6, imm: -12 }),
      op('addi', { rd: 7, rs1: 7, imm: 1 }),
      op('addi', { rd: 7, rs1: 7, imm: 1 }),
      op('addi', { rd: 7, rs1: 7, imm: 1 }),
    ]);
    pair.words(0x100, [
      op('csrrs', { rd: 30, csr: 'mcause' }),
      op('add', { rd: 9, rs1: 9, rs2: 30 }),
      op('csrrs', { rd: 30, csr: 'mtval' }),
      op('xor', { rd: 10, rs1: 10, rs2: 30 }),
      op('slli', { rd: 10, rs1: 10, imm: 1 }),
      csrw('mepc', 11),
      op('mret'),
    ]);
    pair.both((hart) => {
      hart.setCsr('mtvec', BigInt(ramBase + 0x100));
      hart.setX(5, ramBase + last - 40);
      hart.setX(11, ramBase + last);
    });
    for (let i = 0; i < 400; i++) {
      pair.run(1 + (i % 97));
      if (i % 50 === 0) pair.both((hart) => hart.setX(5, ramBase + last - 40));
    }
    pair.compare();
    expect(pair.harts[0].x(7)).toBeGreaterThan(40n);
    expect(pair.harts[0].x(9)).toBeGreaterThan(40n);
  });

  it('ends in a crash where the handler of traps traps, out of hot code too', () => {
    const pair = twins('m');
    pair.reset(ramBase);
    const loop = [op('addi', { rd: 6, rs1: 6, imm: -1 }), op('bne', { rs1: 6, imm: -4 })];
    pair.words(0, [...loop, op('ld', { rd: 8 })]);
    pair.words(0x100, [op('lw', { rd: 8 }), spin]);
    pair.both((hart) => {
      hart.setCsr('mtvec', BigInt(ramBase + 0x100));
      hart.setX(6, 300);
    });
    let reason = '';
    for (let i = 0; i < 100 && reason !== 'crash'; i++) reason = pair.run(37);
    expect(reason).toBe('crash');
    pair.compare();
    const crash = { cause: 5n, tval: 0n, pc: BigInt(ramBase + 4 * loop.length) };
    expect(pair.harts.map((hart) => hart.crash)).toEqual([crash, crash]);
  });
});

describe('any sequence of words', () => {
  it('never throws out of the translator', () => {
    const pair = twins('m');
    fc.assert(
      fc.property(fc.uint32Array({ minLength: 8, maxLength: 40 }), fc.nat({ max: 60 }), (words, at) => {
        pair.reset(ramBase + 2 * at);
        pair.write(0, new Uint8Array(words.slice().buffer));
        pair.words(4 * words.length, [op('jal', { imm: -4 * words.length })]);
        pair.both((hart) => hart.setCsr('mtvec', BigInt(ramBase + 4 * words.length)));
        for (let i = 0; i < 8; i++) if (pair.run(7 + 20 * i) === 'crash') break;
        pair.compare();
      }),
      { numRuns: 60 },
    );
  });
});
