/** Everything that a page table maps, neighbours put together; bounded, whatever the table holds. */
import { attribute, type PageTableFormat } from '#iommufd/pagetable/format';
import type { MemoryPort } from '#iommufd/arch/riscv/ports';
import { access } from '#iommufd/arch/riscv/ports';

export interface Mapping {
  readonly first: bigint;
  /** Inclusive. */
  readonly last: bigint;
  /** Where the first byte goes. */
  readonly to: bigint;
  /** log2 of the pages' bytes. */
  readonly shift: number;
  /** Sum of `attribute`, without accessed and dirty. */
  readonly attributes: number;
}
export interface Mappings {
  readonly mappings: readonly Mapping[];
  /** False: there are more. */
  readonly isWhole: boolean;
}

/** A table whose entries all lead back to itself has 2^27 leaves and more. */
const mostTables = 1 << 16;
const mostMappings = 4096;

/** Enumerates the table at `root`; `memory` answers at the addresses that its entries hold. */
export function mappingsOf(format: PageTableFormat, root: bigint, memory: MemoryPort): Mappings {
  const found: { first: bigint; last: bigint; to: bigint; shift: number; attributes: number }[] = [];
  const top = format.levels.length - 1;
  let tables = 0;
  let isWhole = true;
  const add = (first: bigint, to: bigint, shift: number, attributes: number): void => {
    const before = found.at(-1);
    const bytes = 1n << BigInt(shift);
    if (
      before &&
      before.last + 1n === first &&
      before.to + (first - before.first) === to &&
      before.shift === shift &&
      before.attributes === attributes
    )
      // prettier-ignore
      before.last += bytes;
    else if (found.length < mostMappings) found.push({ first, last: first + bytes - 1n, to, shift, attributes });
    else isWhole = false;
  };
  const visit = (table: bigint, level: number, prefix: bigint): void => {
    if (++tables > mostTables) {
      isWhole = false;
      return;
    }
    const { shift, bits } = format.levels[top - level]!;
    const bytes = new Uint8Array(8 << bits);
    if (memory.load(table, bytes) !== access.ok) return;
    const entries = new BigUint64Array(bytes.buffer);
    for (let index = 0; index < entries.length; index++) {
      // The tables below may have been the last.
      if (!isWhole) return;
      const raw = entries[index]!;
      if (raw === 0n) continue;
      const entry = format.decode(raw, level);
      const address = prefix | (BigInt(index) << BigInt(shift));
      if (entry.kind === 'table') {
        if (level > 0) visit(entry.next, level - 1, address);
      } else if (entry.kind === 'leaf') {
        const { base, attributes } = entry;
        // Entries of a contiguous run each tell the whole run: this one's part of it.
        const offset = address & ((1n << BigInt(entry.shift)) - 1n);
        add(canonical(address), base + offset, shift, attributes & ~(attribute.accessed | attribute.dirty));
      }
    }
  };
  const width = BigInt(format.levels[0]!.shift + format.levels[0]!.bits);
  const canonical = (address: bigint): bigint =>
    format.upperBits === 'sign-extended' ? BigInt.asUintN(64, BigInt.asIntN(Number(width), address)) : address;
  visit(root, top, 0n);
  return { mappings: found, isWhole };
}
