import { hex } from '#vmm/base/address';
import { bytes, struct, u16, u32, u64, type Values } from '#vmm/base/wire';

/** A part of a program as it lies in memory. */
export interface ProgramSegment {
  /** Guest-physical. */
  readonly address: number;
  /** What the file holds; the rest up to `memoryBytes` is zero. */
  readonly bytes: Uint8Array;
  readonly memoryBytes: number;
}
export interface ProgramImage {
  /** Guest-physical. */
  readonly entry: number;
  readonly segments: readonly ProgramSegment[];
}
/** An image, or everything that is wrong with the file: one sentence each. */
export type ParsedProgram =
  | { readonly isOk: true; readonly image: ProgramImage }
  | { readonly isOk: false; readonly problems: readonly string[] };

/** Where segments may lie: guest-physical. */
export interface RamRange {
  readonly base: number;
  readonly bytes: number;
}

/** System V ABI, chapter 4: ELF header, ELFCLASS64. */
export const elf64Header = struct('Elf64_Ehdr', {
  e_ident: bytes(16),
  e_type: u16,
  e_machine: u16,
  e_version: u32,
  e_entry: u64,
  e_phoff: u64,
  e_shoff: u64,
  e_flags: u32,
  e_ehsize: u16,
  e_phentsize: u16,
  e_phnum: u16,
  e_shentsize: u16,
  e_shnum: u16,
  e_shstrndx: u16,
});

/** System V ABI, chapter 5: program header. */
export const elf64ProgramHeader = struct('Elf64_Phdr', {
  p_type: u32,
  p_flags: u32,
  p_offset: u64,
  p_vaddr: u64,
  p_paddr: u64,
  p_filesz: u64,
  p_memsz: u64,
  p_align: u64,
});
type ProgramHeader = Values<{
  p_type: typeof u32;
  p_flags: typeof u32;
  p_offset: typeof u64;
  p_vaddr: typeof u64;
  p_paddr: typeof u64;
  p_filesz: typeof u64;
  p_memsz: typeof u64;
  p_align: typeof u64;
}>;

const magic = [0x7f, 0x45, 0x4c, 0x46];
const identClass = 4;
const identData = 5;
const ptLoad = 1;
const etExec = 2;
const etDyn = 3;
const emRiscv = 243;

/** e_machine values that people try. */
// prettier-ignore
const machines: Readonly<Record<number, string>> = {
  2: 'SPARC', 3: '80386', 4: '68000', 8: 'MIPS', 20: 'PowerPC', 21: 'PowerPC64', 22: 'S/390', 40: 'ARM', 42: 'SuperH',
  43: 'SPARC V9', 50: 'IA-64', 62: 'x86-64', 94: 'Xtensa', 183: 'AArch64', 247: 'BPF', 258: 'LoongArch',
};
const objectTypes: Readonly<Record<number, string>> = { 1: 'an object file that is not linked', 4: 'a core dump' };

/** Reads a statically linked RV64 program. Never throws, whatever the file holds. */
export function parseElf(file: Uint8Array, ram: RamRange): ParsedProgram {
  const problem = (...problems: string[]): ParsedProgram => ({ isOk: false, problems });
  if (file.length < 4 || magic.some((byte, i) => file[i] !== byte)) return problem('not an ELF file');
  if (file.length < elf64Header.size) return problem('the ELF header is truncated');
  if (file[identClass] === 1) return problem('a 32-bit ELF file; the machine needs a 64-bit one (RV64)');
  if (file[identClass] !== 2) return problem(`an ELF file of unknown class ${file[identClass]}`);
  if (file[identData] !== 1) return problem('a big-endian ELF file; the machine is little-endian');
  const header = elf64Header.decode(file);
  if (header.e_machine !== emRiscv) {
    const name = machines[header.e_machine] ?? `machine ${header.e_machine}`;
    return problem(`an ELF file for ${name}; the machine needs RISC-V`);
  }
  if (header.e_type !== etExec && header.e_type !== etDyn)
    return problem(`${objectTypes[header.e_type] ?? `an ELF file of type ${header.e_type}`}, not a program`);
  if (header.e_phentsize !== elf64ProgramHeader.size)
    return problem(`program headers of ${header.e_phentsize} bytes instead of ${elf64ProgramHeader.size}`);
  if (header.e_phoff + BigInt(header.e_phnum * elf64ProgramHeader.size) > BigInt(file.length))
    return problem('the program headers are truncated');
  const loads = Array.from({ length: header.e_phnum }, (_, i) =>
    elf64ProgramHeader.decode(file, Number(header.e_phoff) + i * elf64ProgramHeader.size),
  ).filter(({ p_type, p_memsz }) => p_type === ptLoad && p_memsz > 0n);
  if (loads.length === 0) return problem('nothing to load: the program has no PT_LOAD segment');
  const problems = [...loads.flatMap((load, i) => segmentProblems(load, i, file, ram)), ...overlaps(loads)];
  const entry = physicalEntry(header.e_entry, loads);
  if (entry === undefined) problems.push(`the entry point ${hex(header.e_entry)} is in no segment`);
  if (problems.length > 0 || entry === undefined) return problem(...problems);
  const segments = loads.map((load) => ({
    address: Number(load.p_paddr),
    bytes: file.subarray(Number(load.p_offset), Number(load.p_offset + load.p_filesz)),
    memoryBytes: Number(load.p_memsz),
  }));
  return { isOk: true, image: { entry, segments } };
}

function segmentProblems(load: ProgramHeader, index: number, file: Uint8Array, ram: RamRange): string[] {
  const problems: string[] = [];
  if (load.p_filesz > load.p_memsz) problems.push(`segment ${index} has more bytes in the file than in memory`);
  if (load.p_offset + load.p_filesz > BigInt(file.length)) problems.push(`segment ${index} is truncated`);
  const end = load.p_paddr + load.p_memsz;
  if (load.p_paddr < BigInt(ram.base) || end > BigInt(ram.base + ram.bytes))
    problems.push(
      `segment ${index} at ${hex(load.p_paddr)}–${hex(end - 1n)} is outside RAM, ` +
        `${hex(ram.base)}–${hex(ram.base + ram.bytes - 1)}`,
    );
  return problems;
}

function overlaps(loads: readonly ProgramHeader[]): string[] {
  const sorted = loads.toSorted((a, b) => (a.p_paddr < b.p_paddr ? -1 : 1));
  return sorted.flatMap((load, i) => {
    const before = sorted[i - 1];
    if (!before || before.p_paddr + before.p_memsz <= load.p_paddr) return [];
    return [`segments overlap at ${hex(load.p_paddr)}`];
  });
}

/** e_entry is virtual; a program linked to run elsewhere starts where its segment is loaded. */
function physicalEntry(entry: bigint, loads: readonly ProgramHeader[]): number | undefined {
  const home = loads.find(({ p_vaddr, p_memsz }) => entry >= p_vaddr && entry < p_vaddr + p_memsz);
  return home && Number(entry - home.p_vaddr + home.p_paddr);
}
