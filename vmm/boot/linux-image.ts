import { bytes, struct, u16, u32, u64 } from '#vmm/base/wire';

/** What the boot protocol needs to know of a kernel (Linux, Documentation/arch/riscv/boot-image-header.rst). */
export interface LinuxImage {
  /** Where to load it, from the start of RAM; RAM starts at a multiple of 2 MiB. */
  readonly textOffset: number;
  /** Memory to keep free from the load address on: code, data and bss. */
  readonly imageBytes: number;
  readonly version: { readonly major: number; readonly minor: number };
}
export type ParsedLinuxImage =
  { readonly isOk: true; readonly image: LinuxImage } | { readonly isOk: false; readonly problems: readonly string[] };

export const riscvImageHeader = struct('riscv_image_header', {
  code0: u32,
  code1: u32,
  text_offset: u64,
  image_size: u64,
  flags: u64,
  version: u32,
  res1: u32,
  res2: u64,
  magic: u64,
  magic2: u32,
  res3: u32,
});

/** "RISCV\0\0\0" and "RSC\x05". */
const magic = 0x5643534952n;
const magic2 = 0x05435352;
const bigEndianFlag = 1n;
/** arch/riscv/include/uapi/asm/setup.h COMMAND_LINE_SIZE, which counts the NUL. */
export const linuxCommandLineBytes = 1024;
const textAlignment = 2 << 20;

/** True where the file says that it is a RISC-V kernel, however broken it may be otherwise. */
export const isLinuxImage = (file: Uint8Array): boolean =>
  file.length >= riscvImageHeader.size && riscvImageHeader.decode(file).magic2 === magic2;

/** Reads the header of an uncompressed `Image`. Never throws. */
export function parseLinuxImage(file: Uint8Array): ParsedLinuxImage {
  if (file.length < riscvImageHeader.size) return { isOk: false, problems: ['too short for a kernel Image'] };
  const header = riscvImageHeader.decode(file);
  // Version 0.1 had only the first magic; 0.2 and later have both.
  if (header.magic2 !== magic2 && header.magic !== magic)
    return { isOk: false, problems: ['not a RISC-V kernel Image: its magic number is missing'] };
  const problems: string[] = [];
  if (header.flags & bigEndianFlag) problems.push('a big-endian kernel; the machine is little-endian');
  if (header.text_offset % BigInt(textAlignment) !== 0n || header.text_offset >= 1n << 32n)
    problems.push(`text_offset 0x${header.text_offset.toString(16)} is not a multiple of 2 MiB below 4 GiB`);
  if (header.image_size === 0n || header.image_size >= 1n << 32n)
    problems.push(`image_size 0x${header.image_size.toString(16)} is not between 1 and 4 GiB`);
  const needed = efiFileBytes(file);
  if (file.length < needed) problems.push(`truncated: ${file.length} of its ${needed} bytes are there`);
  if (problems.length > 0) return { isOk: false, problems };
  return {
    isOk: true,
    image: {
      textOffset: Number(header.text_offset),
      imageBytes: Math.max(Number(header.image_size), file.length),
      version: { major: header.version >>> 16, minor: header.version & 0xffff },
    },
  };
}

/** PE/COFF specification §3: a kernel with an EFI stub is an EFI program too, which tells the length of its file. */
const coffHeader = struct('IMAGE_FILE_HEADER', {
  Signature: u32,
  Machine: u16,
  NumberOfSections: u16,
  TimeDateStamp: u32,
  PointerToSymbolTable: u32,
  NumberOfSymbols: u32,
  SizeOfOptionalHeader: u16,
  Characteristics: u16,
});
const coffSection = struct('IMAGE_SECTION_HEADER', {
  Name: bytes(8),
  VirtualSize: u32,
  VirtualAddress: u32,
  SizeOfRawData: u32,
  PointerToRawData: u32,
  PointerToRelocations: u32,
  PointerToLinenumbers: u32,
  NumberOfRelocations: u16,
  NumberOfLinenumbers: u16,
  Characteristics: u32,
});
const peSignature = 0x4550;
/** The DOS header keeps where the PE header is; the kernel's header has it as its last member. */
const mz = 0x5a4d;

/** Bytes up to the end of the last section, 0 where the kernel has no EFI stub and the file cannot tell. */
function efiFileBytes(file: Uint8Array): number {
  const { code0, res3 } = riscvImageHeader.decode(file);
  if ((code0 & 0xffff) !== mz) return 0;
  const sections = (header: number): number => header + coffHeader.size;
  if (sections(res3) > file.length) return sections(res3);
  const coff = coffHeader.decode(file, res3);
  if (coff.Signature !== peSignature) return 0;
  const first = sections(res3) + coff.SizeOfOptionalHeader;
  let end = first + coff.NumberOfSections * coffSection.size;
  if (end > file.length) return end;
  for (let i = 0; i < coff.NumberOfSections; i++) {
    const { PointerToRawData, SizeOfRawData } = coffSection.decode(file, first + i * coffSection.size);
    end = Math.max(end, PointerToRawData + SizeOfRawData);
  }
  return end;
}
