import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { elf64Header, elf64ProgramHeader, parseElf } from '#vmm/boot/elf';

const ram = { base: 0x8000_0000, bytes: 0x0800_0000 };

interface Segment {
  paddr: bigint;
  vaddr?: bigint;
  data: Uint8Array;
  memsz?: bigint;
  type?: number;
}

/** A small but complete ELF file, with fields to spoil. */
function elf(
  segments: Segment[],
  header: Partial<Parameters<typeof elf64Header.encode>[0]> = {},
  ident: Record<number, number> = {},
): Uint8Array {
  const e_ident = Uint8Array.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  for (const [at, value] of Object.entries(ident)) e_ident[Number(at)] = value;
  const first = elf64Header.size + segments.length * elf64ProgramHeader.size;
  const file = new Uint8Array(first + segments.reduce((sum, { data }) => sum + data.length, 0));
  const entry = segments[0]?.vaddr ?? segments[0]?.paddr ?? 0n;
  // prettier-ignore
  elf64Header.encodeInto(file, {
    e_ident, e_type: 2, e_machine: 243, e_version: 1, e_entry: entry, e_phoff: BigInt(elf64Header.size), e_shoff: 0n,
    e_flags: 5, e_ehsize: 64, e_phentsize: 56, e_phnum: segments.length, ...header,
  });
  let offset = first;
  segments.forEach(({ paddr, vaddr = paddr, data, memsz = BigInt(data.length), type = 1 }, i) => {
    file.set(data, offset);
    // prettier-ignore
    elf64ProgramHeader.encodeInto(file, {
      p_type: type, p_flags: 7, p_offset: BigInt(offset), p_vaddr: vaddr, p_paddr: paddr,
      p_filesz: BigInt(data.length), p_memsz: memsz, p_align: 4096n,
    }, elf64Header.size + i * elf64ProgramHeader.size);
    offset += data.length;
  });
  return file;
}

const code = Uint8Array.from([1, 2, 3, 4]);
const problems = (file: Uint8Array): readonly string[] => {
  const parsed = parseElf(file, ram);
  return parsed.isOk ? [] : parsed.problems;
};

describe('ELF files', () => {
  test('structures have the sizes of the ABI', () => {
    expect(elf64Header.size).toBe(64);
    expect(elf64ProgramHeader.size).toBe(56);
  });

  test('segments and entry, physical', () => {
    const file = elf([
      { paddr: 0x8020_0000n, data: code, memsz: 64n },
      { paddr: 0x8030_0000n, vaddr: 0xffff_ffff_8030_0000n, data: Uint8Array.from([9]) },
      { paddr: 0n, data: code, type: 4 },
    ]);
    expect(parseElf(file, ram)).toEqual({
      isOk: true,
      image: {
        entry: 0x8020_0000,
        segments: [
          { address: 0x8020_0000, bytes: code, memoryBytes: 64 },
          { address: 0x8030_0000, bytes: Uint8Array.from([9]), memoryBytes: 1 },
        ],
      },
    });
    const high = elf([{ paddr: 0x8020_0000n, vaddr: 0xffff_ffff_8000_0000n, data: code }], {
      e_entry: 0xffff_ffff_8000_0002n,
    });
    expect(parseElf(high, ram)).toMatchObject({ isOk: true, image: { entry: 0x8020_0002 } });
  });

  const good: Segment[] = [{ paddr: 0x8020_0000n, data: code }];
  // prettier-ignore
  test.each<[string, Uint8Array]>([
    ['not an ELF file', new Uint8Array(100)],
    ['not an ELF file', new Uint8Array(0)],
    ['the ELF header is truncated', elf(good).subarray(0, 63)],
    ['a 32-bit ELF file; the machine needs a 64-bit one (RV64)', elf(good, {}, { 4: 1 })],
    ['an ELF file of unknown class 7', elf(good, {}, { 4: 7 })],
    ['a big-endian ELF file; the machine is little-endian', elf(good, {}, { 5: 2 })],
    ['an ELF file for x86-64; the machine needs RISC-V', elf(good, { e_machine: 62 })],
    ['an ELF file for machine 999; the machine needs RISC-V', elf(good, { e_machine: 999 })],
    ['an object file that is not linked, not a program', elf(good, { e_type: 1 })],
    ['program headers of 32 bytes instead of 56', elf(good, { e_phentsize: 32 })],
    ['the program headers are truncated', elf(good, { e_phnum: 50 })],
    ['the program headers are truncated', elf(good, { e_phoff: 2n ** 64n - 1n })],
    ['nothing to load: the program has no PT_LOAD segment', elf([{ ...good[0]!, type: 4 }])],
    ['segment 0 is truncated', elf(good).subarray(0, -1)],
    ['segment 0 has more bytes in the file than in memory', elf([{ ...good[0]!, memsz: 2n }])],
    ['segment 0 at 0x10000–0x10003 is outside RAM, 0x80000000–0x87ffffff', elf([{ paddr: 0x10000n, data: code }])],
    ['segment 0 at 0x87fffffe–0x88000001 is outside RAM, 0x80000000–0x87ffffff', elf([{ paddr: 0x87ff_fffen, data: code }])],
    ['the entry point 0x1 is in no segment', elf(good, { e_entry: 1n })],
    ['segments overlap at 0x80200002', elf([...good, { paddr: 0x8020_0002n, data: code }])],
  ])('%s', (problem, file) => {
    expect(problems(file)).toEqual([problem]);
  });

  test('several problems are told at once', () => {
    expect(problems(elf([{ paddr: 0n, data: code, memsz: 1n }], { e_entry: 77n }))).toHaveLength(3);
  });

  test('no bytes whatever make it throw, and what it accepts lies inside RAM', () => {
    const good = elf([
      { paddr: 0x8020_0000n, data: code, memsz: 64n },
      { paddr: 0x8030_0000n, data: code },
    ]);
    const spoilt = fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 6 }).map((changes) => {
      const file = good.slice();
      for (const [at, value] of changes) file[at] = value;
      return file;
    });
    fc.assert(
      fc.property(fc.oneof(spoilt, fc.uint8Array({ maxLength: 300 })), (file) => {
        const parsed = parseElf(file, ram);
        if (!parsed.isOk) {
          expect(parsed.problems.length).toBeGreaterThan(0);
          return;
        }
        for (const { address, bytes, memoryBytes } of parsed.image.segments) {
          expect(bytes.length).toBeLessThanOrEqual(memoryBytes);
          expect(address).toBeGreaterThanOrEqual(ram.base);
          expect(address + memoryBytes).toBeLessThanOrEqual(ram.base + ram.bytes);
        }
      }),
      { numRuns: 500 },
    );
  });
});
