import { struct, u16, u32, u64, u8 } from '#vmm/base/wire';
import { elf64Header } from './elf.ts';

/** System V ABI, chapter 4: section header. */
export const elf64SectionHeader = struct('Elf64_Shdr', {
  sh_name: u32,
  sh_type: u32,
  sh_flags: u64,
  sh_addr: u64,
  sh_offset: u64,
  sh_size: u64,
  sh_link: u32,
  sh_info: u32,
  sh_addralign: u64,
  sh_entsize: u64,
});
/** System V ABI, chapter 4: symbol table entry. */
export const elf64Symbol = struct('Elf64_Sym', {
  st_name: u32,
  st_info: u8,
  st_other: u8,
  st_shndx: u16,
  st_value: u64,
  st_size: u64,
});

const shtSymtab = 2;
/** SHN_UNDEF: the symbol is another file's. */
const undefinedSection = 0;
/** A table with more entries than this is not searched further. */
const mostSymbols = 1 << 20;

/**
 * Values of the named symbols of an ELF64 file that `parseElf` accepted; those it has not are left out, and so is all
 * that lies outside the file. Never throws, and looks at each entry once.
 */
export function findSymbols<const Name extends string>(
  file: Uint8Array,
  names: readonly Name[],
): Readonly<Partial<Record<Name, bigint>>> {
  const found: Partial<Record<Name, bigint>> = {};
  if (file.length < elf64Header.size) return found;
  const header = elf64Header.decode(file);
  const inside = (first: bigint, bytes: bigint): boolean => first + bytes <= BigInt(file.length);
  const { e_shoff, e_shnum, e_shentsize } = header;
  if (e_shentsize !== elf64SectionHeader.size || !inside(e_shoff, BigInt(e_shnum * elf64SectionHeader.size)))
    return found;
  const section = (index: number) => elf64SectionHeader.decode(file, Number(e_shoff) + index * elf64SectionHeader.size);
  const wanted = names.map((name) => ({ name, bytes: new TextEncoder().encode(`${name}\0`) }));
  let left = mostSymbols;
  for (let index = 0; index < e_shnum; index++) {
    const table = section(index);
    if (table.sh_type !== shtSymtab || table.sh_link >= e_shnum || !inside(table.sh_offset, table.sh_size)) continue;
    const strings = section(table.sh_link);
    if (!inside(strings.sh_offset, strings.sh_size)) continue;
    const text = file.subarray(Number(strings.sh_offset), Number(strings.sh_offset + strings.sh_size));
    const end = Number(table.sh_offset + table.sh_size);
    for (let at = Number(table.sh_offset); at + elf64Symbol.size <= end && left > 0; at += elf64Symbol.size, left--) {
      const { st_name, st_shndx, st_value } = elf64Symbol.decode(file, at);
      if (st_shndx === undefinedSection) continue;
      for (const { name, bytes } of wanted)
        if (bytes.every((byte, i) => text[st_name + i] === byte)) found[name] ??= st_value;
    }
  }
  return found;
}
