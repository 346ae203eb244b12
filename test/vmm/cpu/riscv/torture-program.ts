/**
 * Random programs as a function of a seed: a body of units that is run through in rounds, so that it becomes hot. A unit
 * is a few instructions with a purpose of its own and may be left out: the others do not notice.
 */
import { invariant } from '#vmm/base/invariant';
import { compressed, expand } from '#vmm/cpu/riscv/compressed';
import { encodeOperands, type Operands } from '#vmm/cpu/riscv/encoding';
import { type Instruction, instructions } from '#vmm/cpu/riscv/instructions';
import { li, li64, op, ramBase, spin } from './assembler.ts';

/** Below `below`, 32 bits at most. */
export type Random = (below: number) => number;
/** xorshift: a program is a function of its seed. */
export const randomFrom = (seed: number): Random => {
  let state = (seed * 2_654_435_761 + 1) >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
};

/** Offset into RAM, behind the code: two pages that programs load from and store to; then a log. */
export const buffer = 0x10_0000;
export const pageBytes = 4096;
/** Words of a body times its rounds, at most: of each, inner loops log 24 bytes at most. */
const longest = 100_000;
const loggedBytes = 24;
/**
 * x9 points to the first page's middle, x2 to its start, x6 to where atomics go, x21 to where the pages meet, x3 behind
 * the log; x4 counts rounds, x15 turns of an inner loop; x1, x5 and x19 hold return addresses. x7 is anyone's.
 */
const [middle, start, atomic, edge, log, rounds, counter, scratch] = [9, 2, 6, 21, 3, 4, 15, 7];
const links = [1, 5, 19] as const;
const reserved = new Set([0, middle, start, atomic, edge, log, rounds, counter, ...links]);
/** From the page's middle. */
export const dumpX = 1024;
export const dumpF = dumpX + 32 * 8;
export const dumpFcsr = dumpF + 32 * 8;

/** 16 bits each. */
export type Halves = readonly number[];
const halves = (words: readonly number[]): number[] => words.flatMap((word) => [word & 0xffff, word >>> 16]);
const shortRows = new Map(compressed.map((row) => [row.name, row]));
const short = (name: string, operands: Operands = {}): number[] => {
  const row = shortRows.get(name);
  invariant(row, `no instruction ${name}`);
  return [encodeOperands(row.encoding, operands)];
};
const nop = short('c.addi')[0]!;

export interface Unit {
  readonly kind: string;
  /** From the start of RAM, in bytes. */
  readonly at: number;
  readonly code: Halves;
}
/** What takes a unit's place when it is left out. */
export const leftOut = ({ code }: Unit): Halves => code.map(() => nop);

export interface Program {
  /** From the start of RAM on. */
  readonly code: Uint16Array;
  /** What may be left out. */
  readonly units: readonly Unit[];
  /** Of both pages and the log. */
  readonly bufferBytes: number;
  /** What the pages hold at first. */
  readonly page: BigUint64Array;
  /** Where the program ends, from the start of RAM. */
  readonly end: number;
  /** After so many it is lost. */
  readonly mostInstructions: number;
}

const special = [0n, 1n, -1n, 1n << 63n, (1n << 63n) - 1n, 0x7ff0_0000_0000_0000n, 0xfff0_0000_0000_0001n, 0x7ff8_0000_0000_0000n, 1n << 52n, 0x3ff0_0000_0000_0000n, 0x000f_ffff_ffff_ffffn, 0x7fef_ffff_ffff_ffffn, 0x8000_0000_0000_0001n, 0x4330_0000_0000_0001n, 0x43e0_0000_0000_0000n, 0xc3e0_0000_0000_0000n, 0x41df_ffff_ffe0_0000n, 0x36a0_0000_0000_0000n, 0x3810_0000_0000_0001n, 0xffff_ffff_3f80_0000n, 0xffff_ffff_7f80_0001n, 0xffff_ffff_0000_0001n, 0xffff_ffff_7f7f_ffffn, 0xffff_ffff_8000_0000n, 0xffff_ffff_0080_0000n, 0xffff_ffff_007f_ffffn, 0xffff_ffff_4f00_0000n, 0xffff_ffff_df00_0000n, 0xffff_ffff_7fc0_0000n, 0x8000_0000n, 0x7fff_ffffn]; // prettier-ignore
const contents = (seed: number): BigUint64Array => {
  const random = randomFrom(seed ^ 0x5555);
  return BigUint64Array.from(
    { length: (2 * pageBytes) / 8 },
    () =>
    BigInt.asUintN(64, random(2) ? special[random(special.length)]! : (BigInt(random(2 ** 32)) << 32n) | BigInt(random(2 ** 32))), // prettier-ignore
  );
};

const widthOf: Readonly<Record<string, 4 | 8>> = { w: 4, d: 8 };
const logged = (stored: number): number[] => [stored, op('addi', { rd: log, rs1: log, imm: 8 })];
const jumpsOrTraps = /^(ecall|ebreak|jalr?|b(eq|ne|lt|ge)u?|sc\..|lr\..)$/;

interface Function {
  readonly at: number;
  readonly link: number;
  /** Bytes behind the call that it comes back to. */
  readonly skips: number;
}

/** Draws units from the rows of some extensions. */
export class Units {
  readonly #random: Random;
  readonly #rows: readonly Instruction[];

  constructor(random: Random, rows: readonly Instruction[]) {
    this.#random = random;
    this.#rows = rows.filter(({ name }) => !jumpsOrTraps.test(name));
  }

  #one<T>(of: readonly T[]): T {
    return of[this.#random(of.length)]!;
  }
  /** A register that a program may change. */
  free(): number {
    for (;;) {
      const rd = this.#random(32);
      if (!reserved.has(rd) || rd === 0) return rd;
    }
  }

  /** One instruction of any row, with what it needs around it and the log of its result. */
  any(): number[] {
    const random = this.#random;
    const row = this.#one(this.#rows);
    const out: Record<string, number> = {};
    for (const { operand } of row.encoding.pieces) {
      if (operand === 'rd') out.rd = row.encoding.isFloatRd ? random(32) : this.free();
      else if (operand === 'rm') out.rm = this.#one([0, 1, 2, 3, 4, 7, 7, 7]);
      else if (operand === 'imm') out.imm = random(2 ** 31) | 0;
      else out[operand] = random(32);
    }
    if (/^(l[bhwd]u?|s[bhwd]|fl[wd]|fs[wd])$/.test(row.name)) {
      // Aligned or not, and now and then on both pages.
      const where = random(4) ? { rs1: middle, imm: random(2000) - 1000 } : { rs1: edge, imm: random(24) - 12 };
      return [encodeOperands(row.encoding, { ...out, ...where })];
    }
    if (row.extension === 'A' || row.extension === 'Zicboz')
      return [encodeOperands(row.encoding, { ...out, rs1: atomic })];
    if (row.extension !== 'F' && row.extension !== 'D')
      return [encodeOperands(row.encoding, out), ...(random(2) ? logged(op('sd', { rs1: log, rs2: out.rd! })) : [])];
    // Fresh operands, or results would soon be nothing but NaNs; and the flags of this instruction alone.
    const fresh = (['rs1', 'rs2', 'rs3'] as const)
      .filter((operand) => out[operand] !== undefined && random(2) === 0)
      .map((operand) => op('fld', { rd: out[operand]!, rs1: middle, imm: 8 * random(130) - 2048 }));
    const result = op(row.encoding.isFloatRd ? 'fsd' : 'sd', { rs1: log, rs2: out.rd! });
    const flags = [op('csrrci', { rd: scratch, csr: 'fflags', imm: 31 }), ...logged(op('sd', { rs1: log, rs2: scratch }))];
    return [...fresh, encodeOperands(row.encoding, out), ...logged(result), ...(random(2) ? flags : [])];
  } // prettier-ignore

  /** A compressed instruction that neither jumps nor touches memory elsewhere. */
  short(): number[] {
    for (;;) {
      const half = this.#random(0x10000);
      const found = (half & 3) === 3 ? undefined : expand(half);
      if (!found || jumpsOrTraps.test(found.row.expands)) continue;
      const { rd, rs1 }: Operands = found.operands;
      const isMemory = /^[fls]/.test(found.row.expands) && !/^(s[lru]|sub)/.test(found.row.expands);
      if (isMemory && rs1 !== start && rs1 !== middle) continue;
      if (rd !== undefined && !found.row.expands.startsWith('f') && reserved.has(rd) && rd !== 0) continue;
      return [half];
    }
  }
  /** A short instruction, or a long one of the base that touches no memory. */
  simple(): number[] {
    if (this.#random(2)) return this.short();
    const [rd, rs1, rs2] = [this.free(), this.#random(32), this.#random(32)];
    return halves([
      this.#one([
        op('add', { rd, rs1, rs2 }),
        op('sltu', { rd, rs1, rs2 }),
        op('mul', { rd, rs1, rs2 }),
        op('srai', { rd, rs1, imm: this.#random(64) }),
        op('xori', { rd, rs1, imm: this.#random(4096) - 2048 }),
        op('lui', { rd, imm: this.#random(2 ** 31) | 0 }),
        op('addiw', { rd, rs1, imm: this.#random(4096) - 2048 }),
        op('auipc', { rd, imm: this.#random(2 ** 31) | 0 }),
      ]),
    ]);
  }
  some(most: number): number[] {
    return Array.from({ length: 1 + this.#random(most) }, () => this.simple()).flat();
  }

  atomics(): number[] {
    const size = this.#one(['w', 'd']);
    const bytes = widthOf[size]!;
    const at = this.#random(4) === 0 ? 16 : 0;
    return halves([
      op('addi', { rd: scratch, rs1: atomic, imm: at * bytes }),
      op(`lr.${size}`, { rd: this.free() || 8, rs1: this.#random(4) ? scratch : atomic, aq: this.#random(4) }),
      ...(this.#random(2) ? [op('xor', { rd: 8, rs1: 8, rs2: this.#random(32) })] : []),
      op(`sc.${size}`, { rd: 11, rs1: atomic, rs2: this.#random(32), aq: this.#random(4) }),
      ...logged(op('sd', { rs1: log, rs2: 11 })),
      // A reservation is spent.
      op(`sc.${size}`, { rd: 12, rs1: atomic, rs2: this.#random(32) }),
      ...logged(op('sd', { rs1: log, rs2: 12 })),
    ]);
  }
  /** Past some instructions, if two registers say so. */
  forward(): number[] {
    const skipped = this.some(4);
    const name = this.#one(['beq', 'bne', 'blt', 'bge', 'bltu', 'bgeu']);
    const isShort = this.#random(3) === 0;
    const branch = isShort
      ? short(this.#one(['c.beqz', 'c.bnez']), { rs1: 8 + this.#random(8), imm: 2 * skipped.length + 2 })
      : halves([op(name, { rs1: this.#random(32), rs2: this.#random(32), imm: 2 * skipped.length + 4 })]);
    return [...branch, ...skipped];
  }
  /** Either of two ways, which meet again. */
  fork(): number[] {
    const [one, other] = [this.some(3), this.some(3)];
    const over = halves([op('jal', { imm: 2 * other.length + 4 })]);
    const branch = op('blt', { rs1: this.#random(32), rs2: this.#random(32), imm: 2 * (one.length + over.length) + 4 });
    return [...halves([branch]), ...one, ...over, ...other];
  }
  /** An inner loop, out of which another way may lead. */
  loop(): number[] {
    const body = this.#random(2) ? this.some(4) : halves(this.any());
    const out = this.#random(2) ? halves([op('beq', { rs1: this.#random(32), rs2: this.#random(32), imm: 0 })]) : [];
    const down = this.#random(2) ? short('c.addi', { rd: counter, imm: -1 }) : halves([op('addi', { rd: counter, rs1: counter, imm: -1 })]);
    const length = 2 * (out.length + body.length + down.length);
    const isShort = length < 200 && this.#random(2) === 0;
    const again = isShort ? short('c.bnez', { rs1: counter, imm: -length }) : halves([op('bne', { rs1: counter, imm: -length })]);
    if (out.length > 0) {
      const word = out[0]! | (out[1]! << 16);
      const away = op('beq', { imm: length + 2 * again.length });
      out.splice(0, 2, ...halves([(word | away) >>> 0]));
    }
    return [...halves([op('addi', { rd: counter, imm: 1 + this.#random(6) })]), ...out, ...body, ...down, ...again];
  } // prettier-ignore
  /** Into one of four places, by a register. */
  table(): number[] {
    const register = this.#one([20, 22, 8]);
    const cases = Array.from({ length: 4 }, () => {
      const code = this.simple();
      return [...code, ...(code.length === 1 ? [nop] : [])];
    });
    const head = [
      op('andi', { rd: scratch, rs1: this.#random(32), imm: 3 }),
      op('slli', { rd: scratch, rs1: scratch, imm: 3 }),
      op('auipc', { rd: register }),
      op('add', { rd: register, rs1: register, rs2: scratch }),
      op('jalr', { rd: this.#random(3) ? 0 : 1, rs1: register, imm: 12 }),
    ];
    return [
      ...halves(head),
      ...cases.flatMap((code, i) => [...code, ...halves([op('jal', { imm: 8 * (cases.length - i) - 4 })])]),
    ];
  }
  call(at: number, callee: Function): number[] {
    const { link } = callee;
    const behind = callee.skips === 0 ? [] : callee.skips === 2 ? this.short() : halves([op('xori', { rd: 8, rs1: this.#random(32), imm: 5 })]); // prettier-ignore
    const far = (from: number): { high: number; low: number } => {
      const distance = callee.at - from;
      const low = (distance << 20) >> 20;
      return { high: (distance - low) | 0, low };
    };
    const { high, low } = far(at);
    switch (this.#random(4)) {
      case 0: {
        const register = this.#one([link, scratch, 20]);
        const pair = [op('auipc', { rd: register, imm: high }), op('jalr', { rd: link, rs1: register, imm: low })];
        return [...halves(pair), ...behind];
      }
      case 1: {
        const address = [op('auipc', { rd: scratch, imm: high }), op('addi', { rd: scratch, rs1: scratch, imm: low })];
        const jump = link === 1 ? short('c.jalr', { rs1: scratch }) : halves([op('jalr', { rd: link, rs1: scratch })]);
        return [...halves(address), ...jump, ...behind];
      }
      case 2: {
        // The link is what the jump reads.
        const address = [op('auipc', { rd: link, imm: high }), op('addi', { rd: link, rs1: link, imm: low })];
        return [...halves([...address, op('jalr', { rd: link, rs1: link, imm: 1 })]), ...behind];
      }
      default:
        return [...halves([op('jal', { rd: link, imm: callee.at - at })]), ...behind];
    }
  }
  /** A function, which calls one of those before it or not. */
  callee(at: number, link: number, inner: Function | undefined): { made: Function; code: number[] } {
    const code = this.some(4);
    if (inner) code.push(...this.call(at + 2 * code.length, inner));
    if (this.#random(2)) code.push(...this.forward());
    const skips = this.#one([0, 0, 0, 2, 4]);
    if (skips > 0 && this.#random(2)) code.push(...halves([op('addi', { rd: link, rs1: link, imm: skips })]), ...this.#return(link, 0));
    else code.push(...this.#return(link, skips));
    return { made: { at, link, skips }, code };
  } // prettier-ignore
  #return(link: number, skips: number): number[] {
    return skips === 0 && this.#random(2)
      ? short('c.jr', { rs1: link })
      : halves([op('jalr', { rs1: link, imm: skips })]);
  }
  /** Writes an instruction over another one, which is not executed before a fence.i. */
  rewrite(): number[] {
    const word = op('addi', { rd: 8, rs1: 8, imm: this.#random(2048) });
    const other = op('xori', { rd: 8, rs1: 8, imm: this.#random(2048) });
    const toggle = [op('auipc', { rd: scratch }), op('lwu', { rd: 20, rs1: scratch, imm: 0 }), ...li(22, word ^ other)];
    const target = 4 * (toggle.length + 3);
    toggle[1] = op('lwu', { rd: 20, rs1: scratch, imm: target });
    return halves([
      ...toggle,
      op('xor', { rd: 20, rs1: 20, rs2: 22 }),
      op('sw', { rs1: scratch, rs2: 20, imm: target }),
      op('fence.i'),
      word,
      ...logged(op('sd', { rs1: log, rs2: 8 })),
    ]);
  }
  /** The compressed instruction in the second half of a long one, and the long one. */
  overlap(): number[] {
    // lui's upper half is a short instruction whose lowest bits are the immediate's.
    const [half] = this.short();
    const word = op('lui', { rd: this.free() }) | (half! << 16);
    return halves([op('blt', { rs1: this.#random(32), rs2: this.#random(32), imm: 6 }), word >>> 0]);
  }

  unit(at: number, functions: readonly Function[], rewrites: boolean): Unit {
    const random = this.#random;
    const kinds: Readonly<Record<string, () => number[]>> = {
      frm: () => halves([op('csrrwi', { rd: scratch, csr: 'frm', imm: random(5) })]),
      fflags: () => halves([op('csrrwi', { rd: 8, csr: 'fflags', imm: random(32) })]),
      atomics: () => this.atomics(),
      short: () => Array.from({ length: 1 + random(3) }, () => this.short()).flat(),
      forward: () => this.forward(),
      fork: () => this.fork(),
      loop: () => this.loop(),
      table: () => this.table(),
      call: () => this.call(at, this.#one(functions)),
      overlap: () => this.overlap(),
      rewrite: () => (rewrites ? this.rewrite() : this.short()),
      any: () => halves(this.any()),
    };
    const kind = this.#one(often);
    return { kind, at, code: kinds[kind]!() };
  }
}
/** Kinds of units, each as often as it is to come. */
const often = ['frm', 'fflags', 'atomics', 'short', 'short', 'forward', 'fork', 'loop', 'table', 'call', 'call', 'overlap', 'rewrite', ...Array.from({ length: 12 }, () => 'any')]; // prettier-ignore

/** @param length about so many words of the body, run through `turns` times */
export const makeProgram = (
  seed: number,
  { length, turns, rows }: { readonly length: number; readonly turns: number; readonly rows: readonly Instruction[] },
): Program => {
  const random = randomFrom(seed);
  const units = new Units(random, rows);
  const registers = Array.from({ length: 32 }, (_, i) => i);
  const code: number[] = [];
  const at = (): number => 2 * code.length;
  const pad = (most: number): void => {
    for (let left = random(most); left > 0; left--) code.push(nop);
  };
  code.push(
    ...halves([
      ...li64(middle, BigInt(ramBase + buffer + pageBytes / 2)),
      ...registers.filter((i) => !reserved.has(i)).map((i) => op('ld', { rd: i, rs1: middle, imm: 8 * i - 2048 })),
      ...registers.map((i) => op('fld', { rd: i, rs1: middle, imm: 8 * i - 1792 })),
      op('addi', { rd: start, rs1: middle, imm: -2048 }),
      op('addi', { rd: atomic, rs1: middle, imm: 512 }),
      op('addi', { rd: edge, rs1: middle, imm: 2047 }),
      op('addi', { rd: edge, rs1: edge, imm: 1 }),
      op('addi', { rd: log, rs1: edge, imm: 2047 }),
      op('addi', { rd: log, rs1: log, imm: 2047 }),
      op('addi', { rd: log, rs1: log, imm: 2 }),
      ...li(rounds, turns),
      ...links.map((rd) => op('addi', { rd })),
      op('addi', { rd: counter, imm: 1 }),
    ]),
  );
  const entry = code.length;
  code.push(0, 0);
  // Functions, the innermost first; each kind of link calls the kinds before it.
  const functions: Function[] = [];
  for (const link of [...links].reverse())
    for (let i = 0; i < 3; i++) {
      pad(8);
      const inner = functions.filter((one) => one.link !== link);
      const chosen = random(2) && inner.length > 0 ? inner[random(inner.length)] : undefined;
      const { made, code: body } = units.callee(at(), link, chosen);
      functions.push(made);
      code.push(...body);
    }
  pad(pageBytes / 2);
  const body = at();
  const jump = halves([op('jal', { imm: body - 2 * entry })]);
  code.splice(entry, 2, ...jump);
  const made: Unit[] = [];
  const rewrites = seed % 4 === 0;
  while (at() - body < 4 * length) {
    const unit = units.unit(at(), functions, rewrites);
    made.push(unit);
    code.push(...unit.code);
  }
  code.push(...halves([op('addi', { rd: rounds, rs1: rounds, imm: -1 }), op('beq', { rs1: rounds, imm: 8 })]));
  code.push(...halves([op('jal', { imm: body - at() })]));
  const words = ((at() - body) / 4) * turns;
  invariant(words <= 1.1 * longest, `a program of ${length} words, ${turns} times`);
  const bufferBytes = 2 * pageBytes + Math.ceil((loggedBytes * words) / pageBytes) * pageBytes;
  code.push(
    ...halves([
      ...registers.map((i) => op('sd', { rs1: middle, rs2: i, imm: dumpX + 8 * i })),
      ...registers.map((i) => op('fsd', { rs1: middle, rs2: i, imm: dumpF + 8 * i })),
      op('csrrs', { rd: 31, csr: 'fcsr' }),
      op('sd', { rs1: middle, rs2: 31, imm: dumpFcsr }),
      // write(1, buffer, bufferBytes), exit(0)
      ...li(10, 1),
      op('addi', { rd: 11, rs1: start }),
      ...li(12, bufferBytes),
      ...li(17, 64),
      op('ecall'),
      ...li(10, 0),
      ...li(17, 93),
      op('ecall'),
    ]),
  );
  const end = at();
  code.push(...halves([spin]));
  return {
    code: Uint16Array.from(code),
    units: made,
    bufferBytes,
    page: contents(seed),
    end,
    mostInstructions: 20 * words + 10_000,
  };
};

/** The program without some of its units. */
export const without = (program: Program, gone: ReadonlySet<Unit>): Program => {
  const code = program.code.slice();
  for (const unit of gone) code.set(leftOut(unit), unit.at / 2);
  return { ...program, code };
};

export const rowsOf = (extensions: readonly string[], except: (name: string) => boolean): readonly Instruction[] =>
  instructions.filter(({ name, extension }) => extensions.includes(extension) && !except(name));
