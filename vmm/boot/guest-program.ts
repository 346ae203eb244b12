import { hex } from '#vmm/base/address';
import { type ParsedProgram, parseElf, type RamRange } from './elf.ts';
import { isLinuxImage, linuxCommandLineBytes, parseLinuxImage } from './linux-image.ts';

interface Signature {
  readonly at: number;
  readonly bytes: readonly number[];
  readonly what: string;
}

/** Files that people try, by what they are. */
// prettier-ignore
const strangers: readonly Signature[] = [
  { at: 0x38,  bytes: [0x41, 0x52, 0x4d, 0x64], what: 'a Linux kernel for AArch64; the machine needs RISC-V' },
  { at: 0x38,  bytes: [0xcd, 0x23, 0x82, 0x81], what: 'a Linux kernel for LoongArch; the machine needs RISC-V' },
  { at: 0x202, bytes: [0x48, 0x64, 0x72, 0x53], what: 'a Linux kernel for x86; the machine needs RISC-V' },
  { at: 0x24,  bytes: [0x18, 0x28, 0x6f, 0x01], what: 'a Linux kernel for ARM; the machine needs RISC-V' },
  { at: 4,     bytes: [0x7a, 0x69, 0x6d, 0x67], what: 'a kernel that unpacks itself through EFI; the machine needs the plain Image in it' },
  { at: 0,     bytes: [0x1f, 0x8b],             what: 'a gzip file inside a gzip file' },
  { at: 0,     bytes: [0x28, 0xb5, 0x2f, 0xfd], what: 'compressed with zstd; the machine reads kernels that are plain or compressed with gzip' },
  { at: 0,     bytes: [0xfd, 0x37, 0x7a, 0x58], what: 'compressed with xz; the machine reads kernels that are plain or compressed with gzip' },
  { at: 0,     bytes: [0x30, 0x37, 0x30, 0x37], what: 'a cpio archive, which an initrd is, not a kernel' },
];

/** Reads an RV64 program: an ELF file, or a Linux `Image` that is not compressed. Never throws. */
export function parseGuestProgram(file: Uint8Array, ram: RamRange): ParsedProgram {
  if (isLinuxImage(file)) return linuxProgram(file, ram);
  const stranger = strangers.find(({ at, bytes }) => bytes.every((byte, i) => file[at + i] === byte));
  return stranger ? { isOk: false, problems: [stranger.what] } : parseElf(file, ram);
}

/** Loaded as one piece, entered at its first byte. */
function linuxProgram(file: Uint8Array, ram: RamRange): ParsedProgram {
  const parsed = parseLinuxImage(file);
  if (!parsed.isOk) return parsed;
  const { textOffset, imageBytes } = parsed.image;
  const end = textOffset + imageBytes;
  if (end > ram.bytes)
    return {
      isOk: false,
      problems: [
        `the kernel takes ${hex(ram.base + textOffset)}–${hex(ram.base + end - 1)}, ` +
          `RAM is ${hex(ram.base)}–${hex(ram.base + ram.bytes - 1)}: expected more memory`,
      ],
    };
  const address = ram.base + textOffset;
  return { isOk: true, image: { entry: address, segments: [{ address, bytes: file, memoryBytes: imageBytes }] } };
}

/** What a kernel cannot take of the command line that it is given, as sentences. */
export function commandLineProblems(file: Uint8Array, append: string): string[] {
  if (!isLinuxImage(file) || append.length < linuxCommandLineBytes) return [];
  return [
    `the kernel takes at most ${linuxCommandLineBytes - 1} characters of command line, append has ${append.length}`,
  ];
}
