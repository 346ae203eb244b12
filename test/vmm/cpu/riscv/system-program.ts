/**
 * Random machine-mode programs: units that enter U-, S- or M-mode with random status, delegation and page tables, do
 * what traps or does not, and come back. The handlers of both modes log cause, value, pc and status. A list of units is
 * run through in rounds, so that it becomes hot.
 */
import { invariant } from '#vmm/base/invariant';
import { csrw, li, li64, op, ramBase } from './assembler.ts';
import { type Random, randomFrom } from './torture-program.ts';

/** Offsets into RAM: superpages of code and of data, which holds tables, what is accessed, what is called, and the log. */
const data = 0x20_0000;
const tablesAt = (space: number): number => data + 0x8000 * space;
/** By space: the table of the lowest level that maps the window. */
const leafTable = (space: number): number => tablesAt(space) + (spaces[space]!.levels - 1) * 0x1000;
const accessed = data + 0x4_0000;
const called = data + 0x6_0000;
export const logAt = data + 0x8_0000;
export const guestBytes = 4 << 20;
const logEntry = 40;

/** The window of 2 MiB whose pages have random entries, and where user mode finds the code. */
const window = 0x2_0000_0000;
const userCode = 0x1_0000_0000;
/** Neither machine has anything here. */
const nowhere = 0x0180_0000;
const [v, r, w, x, u, a, d] = [1, 2, 4, 8, 16, 64, 128];
const spaces = [
  { mode: 8, levels: 3, asid: 1 },
  { mode: 9, levels: 4, asid: 2 },
] as const;
/** What the pages of the window are for. */
const [plainPages, calledPages, emptyPages] = [24, 8, 4];

/**
 * What may be compared of each CSR, and why not the rest. Written are random values with `written` alone of their bits.
 */
interface Compared {
  readonly csr: string | number;
  readonly mask: bigint;
  readonly written?: bigint;
  readonly why?: string;
}
const all = (1n << 64n) - 1n;
const even = all ^ 1n;
/** SIE, MIE, SPIE, MPIE, SPP, MPP, FS, MPRV, SUM, MXR, TVM, TW, TSR, SD. */
const statusBits = 0x8000_0000_007e_79aan;
// prettier-ignore
const comparedCsrs: readonly Compared[] = [
  { csr: 'mscratch', mask: statusBits, why: 'handlers keep status there, of which UXL and SXL may be read-only' },
  { csr: 'sscratch', mask: statusBits, why: 'as mscratch' }, { csr: 'mcause', mask: all }, { csr: 'scause', mask: all },
  { csr: 'mtval', mask: 0n, why: 'it may hold what an ebreak left; what traps leave is in the log' }, { csr: 'stval', mask: 0n, why: 'as mtval' },
  { csr: 'mepc', mask: even, written: even, why: 'QEMU 7.2 keeps bit 0, which is always 0 (privileged ISA §3.1.14)' },
  { csr: 'sepc', mask: even, written: even, why: 'as mepc' },
  { csr: 'sstatus', mask: 0x8000_0000_000c_6122n, written: 0x000c_6122n, why: 'UXL is WARL, and in QEMU 7.2 there is a 32-bit user mode' },
  { csr: 'medeleg', mask: 0xb1ffn, written: 0xb1ffn, why: 'which exceptions can be delegated is WARL; bit 9 is the way back to M-mode' },
  { csr: 'mideleg', mask: 0x222n, written: 0x222n, why: 'which interrupts there are is WARL' },
  { csr: 'mcounteren', mask: 7n, written: 7n, why: 'which hpmcounters there are is WARL' },
  { csr: 'scounteren', mask: 7n, written: 7n, why: 'as mcounteren' },
  { csr: 'fflags', mask: all }, { csr: 'frm', mask: all }, { csr: 'fcsr', mask: all },
  { csr: 'pmpaddr5', mask: 0x3f_ffff_ffff_fc00n, why: 'the grain of PMP is WARL (privileged ISA §3.7.1)' },
  { csr: 'satp', mask: 0n, written: 0n, why: 'another mode would take the code away; whether the access is legal is seen' },
  { csr: 'cycle', mask: 0n, why: 'counts differ; whether the access is legal is seen' },
  { csr: 'time', mask: 0n, why: 'as cycle' }, { csr: 'instret', mask: 0n, why: 'as cycle' },
  { csr: 'mhartid', mask: all },
  { csr: 0x5c0, mask: 0n, why: 'there is none' }, { csr: 0x7c0, mask: 0n, why: 'there is none' }, { csr: 0x8ff, mask: 0n, why: 'there is none' }, { csr: 0xbc0, mask: 0n, why: 'there is none' },
];
/** x27 points behind the log, x26 to the next unit, x25 counts traps of a unit, x24 rounds; x28 … x31 are the handlers'. */
const [log, next, patience, rounds] = [27, 26, 25, 24];
const [link, value, address, sum, magicRegister] = [1, 8, 9, 10, 17];
const magic = 0x5a5;

class Code {
  readonly words: number[] = [];
  readonly #fixes: { at: number; to: string; make: (distance: number) => number }[] = [];
  readonly #labels = new Map<string, number>();
  get at(): number {
    return 4 * this.words.length;
  }
  add(...words: readonly number[]): this {
    this.words.push(...words);
    return this;
  }
  label(name: string): this {
    this.#labels.set(name, this.at);
    return this;
  }
  branch(name: string, to: string, rs1: number, rs2: number): this {
    this.#fixes.push({ at: this.at, to, make: (imm) => op(name, { rs1, rs2, imm }) });
    return this.add(0);
  }
  /** The address of a label. */
  la(rd: number, to: string): this {
    const at = this.at;
    this.#fixes.push({ at: at + 4, to, make: (imm) => op('addi', { rd, rs1: rd, imm: ((imm + 4) << 20) >> 20 }) });
    this.#fixes.push({ at, to, make: (imm) => op('auipc', { rd, imm: (imm - ((imm << 20) >> 20)) | 0 }) });
    return this.add(0, 0);
  }
  jump(to: string): this {
    this.#fixes.push({ at: this.at, to, make: (imm) => op('jal', { imm }) });
    return this.add(0);
  }
  finish(): number[] {
    for (const { at, to, make } of this.#fixes) {
      const target = this.#labels.get(to);
      invariant(target !== undefined, `no label ${to}`);
      this.words[at / 4] = make(target - at);
    }
    return this.words;
  }
}
const store = (rs2: number, imm: number): number => op('sd', { rs1: log, rs2, imm });
const csrr = (rd: number, csr: string): number => op('csrrs', { rd, csr });
const constant = (rd: number, wanted: bigint): number[] =>
  BigInt.asIntN(32, wanted) === wanted ? li(rd, Number(wanted)) : li64(rd, BigInt.asUintN(64, wanted));

/** Both handlers log the same; `mark` tells them apart. */
const logging = (code: Code, mode: 'm' | 's', mark: number): Code =>
  code
    .add(csrr(30, `${mode}cause`), op('addi', { rd: 28, rs1: 30, imm: mark }), store(28, 0))
    .add(csrr(29, `${mode}tval`), op('addi', { rd: 28, imm: 3 }))
    // What an ebreak leaves there is the implementation's (privileged ISA §3.1.16).
    .add(op('bne', { rs1: 30, rs2: 28, imm: 8 }), op('addi', { rd: 29 }), store(29, 8))
    // Constants go through x31.
    .add(csrr(29, `${mode}epc`), store(29, 16), ...constant(28, statusBits), csrr(31, `${mode}scratch`))
    .add(op('and', { rd: 28, rs1: 28, rs2: 31 }), store(28, 24), store(sum, 32))
    .add(op('addi', { rd: log, rs1: log, imm: logEntry }), op('addi', { rd: patience, rs1: patience, imm: -1 }));

const handlers = (code: Code): void => {
  code.label('machine').add(csrr(31, 'mstatus'), ...li(30, 1 << 17), op('csrrc', { csr: 'mstatus', rs1: 30 }));
  logging(code.add(csrw('mscratch', 31)), 'm', 0);
  code.branch('beq', 'over', patience, 0);
  code.add(op('addi', { rd: 28, rs1: 30, imm: -8 }), op('sltiu', { rd: 28, rs1: 28, imm: 4 }));
  code.add(op('addi', { rd: 29, rs1: magicRegister, imm: -magic }), op('sltiu', { rd: 29, rs1: 29, imm: 1 }));
  code.add(op('and', { rd: 28, rs1: 28, rs2: 29 })).branch('bne', 'over', 28, 0);
  code.add(csrr(29, 'mepc'), op('addi', { rd: 29, rs1: 29, imm: 4 }));
  for (const cause of [1, 12])
    code.add(op('addi', { rd: 28, imm: cause }), op('bne', { rs1: 28, rs2: 30, imm: 8 }), op('addi', { rd: 29, rs1: link })); // prettier-ignore
  code.add(csrw('mepc', 29), csrr(31, 'mscratch'), csrw('mstatus', 31), op('mret'));
  code.label('over').add(op('jalr', { rs1: next }));

  code.label('supervisor').add(csrr(31, 'sstatus'), csrw('sscratch', 31));
  logging(code, 's', 0x100);
  code.branch('beq', 'give up', patience, 0);
  code.add(op('addi', { rd: 28, rs1: 30, imm: -8 }), op('sltiu', { rd: 28, rs1: 28, imm: 2 }));
  code.add(op('addi', { rd: 29, rs1: magicRegister, imm: -magic }), op('sltiu', { rd: 29, rs1: 29, imm: 1 }));
  code.add(op('and', { rd: 28, rs1: 28, rs2: 29 })).branch('bne', 'give up', 28, 0);
  code.add(csrr(29, 'sepc'), op('addi', { rd: 29, rs1: 29, imm: 4 }));
  for (const cause of [1, 12])
    code.add(op('addi', { rd: 28, imm: cause }), op('bne', { rs1: 28, rs2: 30, imm: 8 }), op('addi', { rd: 29, rs1: link })); // prettier-ignore
  code.add(csrw('sepc', 29), op('sret'));
  code.label('give up').add(...li(magicRegister, magic), op('ecall'));
};

export interface SystemProgram {
  /** From the start of RAM on, all of it but the log. */
  readonly memory: Uint8Array;
}

export interface SystemOptions {
  readonly units: number;
  readonly turns: number;
}

class Generator {
  readonly #random: Random;
  readonly #code = new Code();
  readonly #memory = new Uint8Array(logAt);
  readonly #view = new DataView(this.#memory.buffer);

  constructor(random: Random) {
    this.#random = random;
  }
  #one<T>(of: readonly T[]): T {
    return of[this.#random(of.length)]!;
  }
  #random64(): bigint {
    return (BigInt(this.#random(2 ** 32)) << 32n) | BigInt(this.#random(2 ** 32));
  }

  /** An entry for a page of the window; what is called is never stored to, and what is nowhere never called. */
  #entry(page: number): bigint {
    const random = this.#random;
    const isCalled = page >= plainPages && page < plainPages + calledPages;
    const isEmpty = page >= plainPages + calledPages;
    const to = isEmpty ? nowhere : ramBase + (isCalled ? called : accessed) + 0x1000 * random(isCalled ? 4 : 16);
    const rights = random(3) ? r | w | x : this.#one([0, r, x, r | w, r | x, w, w | x, w | r | x]);
    const flags = rights | (random(2) ? u : 0) | (random(3) ? a : 0) | (random(3) ? d : 0) | (random(10) ? v : 0);
    const reserved = random(24) === 0 ? 1n << BigInt(54 + random(7)) : 0n;
    return reserved | (BigInt(to >>> 12) << 10n) | BigInt(flags | (random(4) << 8));
  } // prettier-ignore
  #tables(): void {
    const set = (at: number, wanted: bigint): void => this.#view.setBigUint64(at, BigInt.asUintN(64, wanted), true);
    const pointer = (to: number, flags = v): bigint => (BigInt((ramBase + to) >>> 12) << 10n) | BigInt(flags);
    spaces.forEach(({ levels }, space) => {
      let table = tablesAt(space);
      const spare = table + 0x1000 * levels;
      if (levels === 4) {
        set(table, pointer(table + 0x1000));
        table += 0x1000;
      }
      // Level 2 (1 GiB each): the window, RAM as it is, and code for user mode, the latter two by 2 MiB.
      set(table + 8 * (window / 2 ** 30), pointer(table + 0x1000));
      set(table + 8 * 2, pointer(spare));
      set(table + 8 * 4, pointer(spare + 0x1000));
      // Leaves that are none: misaligned, and with flags of a leaf in a pointer. A pointer that leads nowhere is an access
      // fault (privileged ISA §4.3.2), for QEMU 7.2 a page fault.
      set(table + 8 * 5, pointer(0x1000, v | r | w | x | a | d));
      set(table + 8 * 6, pointer(spare, v | a));
      set(table + 0x1000, pointer(leafTable(space)));
      set(spare, pointer(0, v | r | w | x | a | d));
      set(spare + 8, pointer(data, v | r | w | a | d));
      set(spare + 0x1000, pointer(0, v | r | x | u | a | d));
      for (let page = 0; page < 512; page++)
        set(leafTable(space) + 8 * page, page < plainPages + calledPages + emptyPages ? this.#entry(page) : 0n);
    });
    for (let at = accessed; at < called; at += 8) set(at, this.#random64());
    for (let at = called; at < logAt; at += 8) {
      this.#view.setUint32(at, op('addi', { rd: value, rs1: value, imm: 1 }), true);
      this.#view.setUint32(at + 4, op('jalr', { rs1: link }), true);
    }
  }

  /** Adds what an instruction found to what the handlers log. */
  #noted(mask = all): void {
    const code = this.#code;
    if (mask === 0n) return;
    if (mask !== all) code.add(...constant(12, mask), op('and', { rd: value, rs1: value, rs2: 12 }));
    code.add(op('slli', { rd: 12, rs1: sum, imm: 5 }), op('add', { rd: sum, rs1: sum, rs2: 12 }));
    code.add(op('add', { rd: sum, rs1: sum, rs2: value }));
  }
  /** Where nothing translates addresses nothing is at them: misaligned and atomic accesses there end as one likes. */
  #access(isMapped: boolean): void {
    const random = this.#random;
    const code = this.#code;
    const kind = random(12);
    const page = random(plainPages + emptyPages);
    const isEmpty = page >= plainPages;
    const bytes = this.#one([1, 2, 4, 8]);
    const letter = { 1: 'b', 2: 'h', 4: 'w', 8: 'd' }[bytes];
    const at = window + 0x1000 * (isEmpty ? page + calledPages : page);
    const aligned = bytes * random(4096 / bytes);
    const misaligned = random(6) === 0 ? 4096 - 1 - random(7) : random(4088);
    const where = isEmpty || !isMapped || random(2) ? aligned : misaligned;
    const elsewhere = this.#one([0x1_4000_0000, 0x1_8000_0000, 0x1_c000_0000, 2 ** 38, 2 ** 47, -4096]);
    code.add(...constant(address, BigInt(kind === 0 ? elsewhere : at + where)));
    code.add(op('addi', { rd: value, imm: random(2000) }));
    if (kind < 6) code.add(op(`l${letter}${bytes < 8 && random(2) ? 'u' : ''}`, { rd: value, rs1: address }));
    else if (kind < 9 || isEmpty || !isMapped) code.add(op(`s${letter}`, { rs1: address, rs2: sum }));
    else {
      const size = this.#one(['w', 'd']);
      const name = this.#one(['amoadd', 'amoswap', 'amomaxu', 'lr']);
      // Aligned, as a rule.
      const rest = random(4) ? op('andi', { rd: address, rs1: address, imm: -8 }) : op('addi');
      code.add(rest, op(`${name}.${size}`, { rd: value, rs1: address, ...(name === 'lr' ? {} : { rs2: sum }) }));
    }
    this.#noted();
  }
  #csr(): void {
    const code = this.#code;
    const { csr, mask, written = all } = this.#one(comparedCsrs);
    const name = written === 0n ? 'csrrs' : this.#one(['csrrw', 'csrrs', 'csrrc', 'csrrs']);
    const isRead = written === 0n || this.#random(3) === 0;
    code.add(op('addi', { rd: value }));
    if (!isRead) code.add(...constant(13, BigInt.asIntN(64, this.#random64() & written)));
    code.add(op(isRead ? 'csrrs' : name, { csr, rd: mask === 0n ? 0 : value, rs1: isRead ? 0 : 13 }));
    this.#noted(mask);
    // What a write left is read back.
    if (!isRead && mask !== 0n) {
      code.add(op('addi', { rd: value }), op('csrrs', { csr, rd: value }));
      this.#noted(mask);
    }
  }
  #body(mode: number, isTranslated: boolean): void {
    const random = this.#random;
    const code = this.#code;
    for (let i = 1 + random(5); i > 0; i--) {
      switch (random(12)) {
        case 0:
          code.add(op(this.#one(['ecall', 'ebreak'])));
          break;
        case 1:
          code.add(this.#one([0xffff_ffff, 0x0000_00ff, 0x0000_7073, 0x5a00_0033]));
          break;
        case 2:
        case 3:
        case 4:
          this.#csr();
          break;
        case 5: {
          if (!isTranslated || mode === 3) break;
          // Not from where nothing is: QEMU 7.2 reads ones there.
          const page = plainPages + random(calledPages);
          code.add(...constant(address, BigInt(window + 0x1000 * page + 8 * random(500) + 4 * random(2))));
          code.add(op('addi', { rd: value }), op('jalr', { rd: link, rs1: address }));
          this.#noted();
          break;
        }
        case 6:
          code.add(op('sfence.vma', { rs1: this.#one([0, address]), rs2: this.#one([0, 14]) }));
          break;
        case 7:
          code.add(op('fadd.d', { rd: 1, rs1: 1, rs2: 2, rm: this.#one([0, 1, 5, 7]) }));
          break;
        case 8:
          if (mode !== 0) {
            // To U-mode or S-mode, behind this.
            const label = `sret ${code.at}`;
            code.la(value, label).add(csrw('sepc', value)).add(op('sret')).label(label);
          } else code.add(op('sret'));
          break;
        case 9:
          if (mode !== 3) code.add(op('mret'));
          else {
            // In M-mode with the rights of another.
            code.add(...li(13, 3 << 11), op('csrrc', { csr: 'mstatus', rs1: 13 }));
            code.add(...li(13, (1 << 17) | (random(2) << 11)), op('csrrs', { csr: 'mstatus', rs1: 13 }));
            this.#access(isTranslated);
            code.add(...li(13, 1 << 17), op('csrrc', { csr: 'mstatus', rs1: 13 }));
          }
          break;
        default:
          this.#access(isTranslated && mode !== 3);
      }
    }
  }
  #unit(index: number): void {
    const random = this.#random;
    const code = this.#code;
    const mode = this.#one([0, 1, 1, 3]);
    const space = random(3);
    const [here, behind] = [`body ${index}`, `unit ${index + 1}`];
    if (random(3) === 0) {
      // An entry changes, and a fence tells of it.
      const changed = random(2);
      const page = random(plainPages + calledPages + emptyPages);
      code.add(...constant(15, BigInt.asIntN(64, this.#entry(page))), ...constant(address, BigInt(ramBase + leafTable(changed) + 8 * page)));
      code.add(op('sd', { rs1: address, rs2: 15 }));
      code.add(...constant(address, BigInt(window + 0x1000 * page)), ...constant(14, BigInt(spaces[changed]!.asid)));
      code.add(op('sfence.vma', { rs1: this.#one([0, address]), rs2: this.#one([0, 14]) }));
    } // prettier-ignore
    const mpp = BigInt(mode) << 11n;
    const status = (this.#random64() & 0x007e_61aan & ~((1n << 17n) | (3n << 11n))) | mpp;
    code.la(next, behind).add(...li(patience, 16));
    code.add(...constant(13, status), csrw('mstatus', 13), ...constant(13, this.#random64() & 0xb1ffn), csrw('medeleg', 13)); // prettier-ignore
    const chosen = spaces[space];
    const satp = chosen ? (BigInt(chosen.mode) << 60n) | (BigInt(chosen.asid) << 44n) | BigInt((ramBase + tablesAt(space)) >>> 12) : 0n; // prettier-ignore
    code.add(...constant(13, BigInt.asIntN(64, satp)), csrw('satp', 13), ...constant(14, BigInt(chosen?.asid ?? 0)));
    // Calls that lead nowhere come back into this unit.
    code.la(link, here).la(13, here);
    if (mode === 0 && chosen) code.add(...constant(12, BigInt(userCode - ramBase)), op('add', { rd: 13, rs1: 13, rs2: 12 })); // prettier-ignore
    code.add(csrw('mepc', 13), op('addi', { rd: magicRegister }), op('mret')).label(here);
    this.#body(mode, chosen !== undefined);
    code.add(...li(magicRegister, magic), op('ecall')).label(behind);
  }

  run({ units, turns }: SystemOptions): SystemProgram {
    this.#tables();
    const code = this.#code;
    // Another hart has nothing to do here.
    code.add(csrr(5, 'mhartid'), op('beq', { rs1: 5, imm: 12 }), op('wfi'), op('jal', { imm: -4 }));
    // PMP lets everything pass; a little of what other modes may read.
    code.add(...constant(5, (1n << 54n) - 1n), csrw('pmpaddr0', 5), ...li(5, 0x1f), csrw('pmpcfg0', 5));
    code.la(5, 'machine').add(csrw('mtvec', 5)).la(5, 'supervisor').add(csrw('stvec', 5));
    code.add(...constant(log, BigInt(ramBase + logAt)), ...li(rounds, turns)).jump('unit 0');
    handlers(code);
    code.label('unit 0');
    for (let index = 0; index < units; index++) this.#unit(index);
    code
      .add(op('addi', { rd: rounds, rs1: rounds, imm: -1 }))
      .branch('beq', 'end', rounds, 0)
      .jump('unit 0');
    code.label('end').add(...li(5, 1 << 17), op('csrrc', { csr: 'mstatus', rs1: 5 }));
    // Bytes of the tables and of the log go out over the UART; then the finisher ends it.
    code.add(...constant(6, BigInt(ramBase + data)), ...li(7, 0x1000_0000));
    code.label('byte').add(op('lbu', { rd: 8, rs1: 6 }));
    code.label('wait').add(op('lbu', { rd: 9, rs1: 7, imm: 5 }), op('andi', { rd: 9, rs1: 9, imm: 0x20 }));
    code.branch('beq', 'wait', 9, 0).add(op('sb', { rs1: 7, rs2: 8 }), op('addi', { rd: 6, rs1: 6, imm: 1 }));
    code.add(...constant(9, BigInt(ramBase + data + 0x1_0000))).branch('bne', 'not yet', 6, 9);
    code.add(...constant(6, BigInt(ramBase + logAt)));
    code.label('not yet').branch('bne', 'byte', 6, log);
    code.add(...li(7, 0x10_0000), ...li(8, 0x5555), op('sw', { rs1: 7, rs2: 8 }), op('jal', { imm: 0 }));
    const words = code.finish();
    invariant(4 * words.length <= data, `a program of ${units} units`);
    this.#memory.set(new Uint8Array(Uint32Array.from(words).buffer));
    return { memory: this.#memory };
  }
}

export const systemProgram = (seed: number, options: SystemOptions): SystemProgram =>
  new Generator(randomFrom(seed ^ 0x7777)).run(options);

/** What was sent: tables, then the log an entry a line. */
export const readLog = (sent: Uint8Array): { readonly tables: Uint8Array; readonly entries: readonly string[] } => {
  const view = new DataView(sent.buffer, sent.byteOffset, sent.byteLength);
  const entries: string[] = [];
  for (let at = 0x1_0000; at + logEntry <= sent.length; at += logEntry) {
    const [cause, tval, epc, status, total] = [0, 8, 16, 24, 32].map((offset) => view.getBigUint64(at + offset, true).toString(16)); // prettier-ignore
    entries.push(`cause ${cause} tval ${tval} epc ${epc} status ${status} sum ${total}`);
  }
  return { tables: sent.subarray(0, 0x1_0000), entries };
};
