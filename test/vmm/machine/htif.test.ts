import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { csrr, li, op, spin } from '#test/vmm/cpu/riscv/assembler';
import { elf64Header, elf64ProgramHeader } from '#vmm/boot/elf';
import { elf64SectionHeader, elf64Symbol, findSymbols } from '#vmm/boot/elf-symbols';
import { Machine, MachineError, type MachineConfigInput, parseConfig } from '../../../index.ts';

const base = 0x8000_0000;
const tohost = base + 0x1000;
const fromhost = tohost + 0x40;
const text = base + 0x2000;

/** A program of one segment at the start of RAM, with a symbol table. */
const elf = (words: readonly number[], symbols: Readonly<Record<string, number>>): Uint8Array => {
  const names = Object.keys(symbols);
  const strings = new TextEncoder().encode(`\0${names.map((name) => `${name}\0`).join('')}`);
  const code = elf64Header.size + elf64ProgramHeader.size;
  const segmentBytes = 0x2100;
  const [symtab, strtab] = [code + segmentBytes, code + segmentBytes + (names.length + 1) * elf64Symbol.size];
  const sections = (strtab + strings.length + 7) & ~7;
  const file = new Uint8Array(sections + 3 * elf64SectionHeader.size);
  const view = new DataView(file.buffer);
  // prettier-ignore
  elf64Header.encodeInto(file, {
    e_ident: Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2, 1, 1), e_type: 2, e_machine: 243, e_version: 1, e_entry: BigInt(base),
    e_phoff: BigInt(elf64Header.size), e_shoff: BigInt(sections), e_ehsize: 64, e_phentsize: 56, e_phnum: 1,
    e_shentsize: elf64SectionHeader.size, e_shnum: 3,
  });
  // prettier-ignore
  elf64ProgramHeader.encodeInto(file, {
    p_type: 1, p_flags: 7, p_offset: BigInt(code), p_vaddr: BigInt(base), p_paddr: BigInt(base),
    p_filesz: BigInt(segmentBytes), p_memsz: BigInt(segmentBytes), p_align: 4096n,
  }, elf64Header.size);
  words.forEach((word, i) => view.setUint32(code + 4 * i, word, true));
  file.set(new TextEncoder().encode('hello\n'), code + text - base);
  names.forEach((name, i) => {
    const st_name = 1 + names.slice(0, i).reduce((sum, other) => sum + other.length + 1, 0);
    elf64Symbol.encodeInto(file, { st_name, st_shndx: 1, st_value: BigInt(symbols[name]!) }, symtab + (i + 1) * elf64Symbol.size); // prettier-ignore
  });
  file.set(strings, strtab);
  // prettier-ignore
  elf64SectionHeader.encodeInto(file, {
    sh_type: 2, sh_link: 2, sh_offset: BigInt(symtab), sh_size: BigInt((names.length + 1) * elf64Symbol.size),
  }, sections + elf64SectionHeader.size);
  elf64SectionHeader.encodeInto(
    file,
    { sh_type: 3, sh_offset: BigInt(strtab), sh_size: BigInt(strings.length) },
    sections + 2 * elf64SectionHeader.size,
  );
  return file;
};

const [a, v, r] = [5, 6, 7];
const address = (rd: number, target: number): number[] => [
  op('lui', { rd, imm: target - base }),
  ...li(31, 1),
  op('slli', { rd: 31, rs1: 31, imm: 31 }),
  op('add', { rd, rs1: rd, rs2: 31 }),
];
const store = (value: readonly number[]): number[] => [
  ...address(a, tohost),
  ...value,
  op('sd', { rs1: a, rs2: v, imm: tohost & 0xfff }),
];
const say = (character: string): number[] =>
  store([
    ...li(v, 0x0101),
    op('slli', { rd: v, rs1: v, imm: 48 }),
    op('addi', { rd: v, rs1: v, imm: character.charCodeAt(0) }),
  ]);

const run = (words: readonly number[], keys: MachineConfigInput = {}, symbols = { tohost, fromhost }) => {
  const parsed = parseConfig({ 'entry-mode': 'm', htif: true, memory: '16M', ...keys });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.issues));
  let console = '';
  const machine = Machine.create(parsed.config, {
    image: elf(words, symbols),
    openDisk: () => {
      throw new Error('no disks');
    },
    console: (bytes) => {
      console += new TextDecoder().decode(bytes);
    },
  });
  const result = machine.run({ instructions: 100_000 });
  return { machine, result, console };
};

describe('symbols', () => {
  it('are found by name, and only what is there', () => {
    const file = elf([spin], { tohost, to: 1, host: 2, fromhost });
    expect(findSymbols(file, ['tohost', 'host', 'fromhost', 'ost'])).toEqual({
      tohost: BigInt(tohost),
      host: 2n,
      fromhost: BigInt(fromhost),
    });
  });

  it('no bytes whatever make the search throw', () => {
    const good = elf([spin], { tohost, fromhost });
    const headers = [...Array(64).keys(), ...Array.from({ length: 280 }, (_, i) => good.length - 280 + i)];
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom(...headers), fc.nat(255)), { maxLength: 8 }), (changes) => {
        const file = good.slice();
        for (const [at, value] of changes) file[at] = value;
        for (const value of Object.values(findSymbols(file, ['tohost']))) expect(typeof value).toBe('bigint');
      }),
      { numRuns: 500 },
    );
  });
});

describe('--htif', () => {
  it.each([
    [1, { outcome: 'passed' }],
    [(7 << 1) | 1, { outcome: 'failed', code: 7 }],
    [1337, { outcome: 'failed', code: 668 }],
  ])('tohost = %i', (value, expected) => {
    const { result } = run([...store(li(v, value)), spin]);
    expect(result).toMatchObject(expected);
    expect(result.instructions).toBeLessThan(20);
  });

  it('takes characters and the system call write, and answers', () => {
    const magic = tohost + 0x80;
    const call = [
      ...address(a, tohost),
      ...address(r, text),
      // write(1, text, 6)
      ...li(v, 64),
      op('sd', { rs1: a, rs2: v, imm: 0x80 }),
      op('sd', { rs1: a, rs2: r, imm: 0x90 }),
      ...li(v, 6),
      op('sd', { rs1: a, rs2: v, imm: 0x98 }),
      op('addi', { rd: v, rs1: a, imm: 0x80 }),
      op('sd', { rs1: a, rs2: v }),
      // Fails unless fromhost is 1 and the result 6.
      op('ld', { rd: r, rs1: a, imm: fromhost & 0xfff }),
      op('ld', { rd: v, rs1: a, imm: 0x80 }),
      op('slli', { rd: v, rs1: v, imm: 1 }),
      op('add', { rd: v, rs1: v, rs2: r }),
      op('addi', { rd: v, rs1: v, imm: -12 }),
      op('sd', { rs1: a, rs2: v }),
      spin,
    ];
    const { result, console, machine } = run([...say('!'), ...call]);
    expect(console).toBe('!hello\n');
    expect(result.outcome).toBe('passed');
    expect([...machine.readMemory(magic, 2)]).toEqual([6, 0]);
  });

  it('takes nonsense as nothing: other devices, system calls, addresses outside RAM', () => {
    const nonsense = [li(v, 0x7ff8), [...li(v, -1), op('slli', { rd: v, rs1: v, imm: 60 })], li(v, 64), li(v, -1)];
    const { result } = run([...nonsense.flatMap(store), csrr(8, 'mhartid'), ...store(li(v, 1)), spin]);
    expect(result.outcome).toBe('passed');
  });

  it('needs the symbol, in RAM', () => {
    expect(() => run([spin], {}, { fromhost } as never)).toThrow(MachineError);
    expect(() => run([spin], {}, { tohost: 8, fromhost })).toThrow('expected a symbol tohost in RAM');
    expect(run([...store(li(v, 1)), spin], { htif: false }).result.outcome).toBe('limit');
  });
});
