/**
 * A radix page-table format is data and a few functions on one entry; the loops over levels are in walk.ts (one for
 * walking) and map.ts (one for mapping). Hot loops work on page numbers and 32-bit halves, the plain walk on bigints.
 */
export interface Level {
  /** log2 of the bytes one entry of this level spans. */
  readonly shift: number;
  /** Address bits this level's index takes. */
  readonly bits: number;
}

/** What a leaf says of its page; bits of one number. */
export const attribute = {
  read: 1,
  write: 2,
  execute: 4,
  user: 8,
  global: 16,
  accessed: 32,
  dirty: 64,
} as const;

export type Entry =
  | { readonly kind: 'empty' }
  | { readonly kind: 'table'; readonly next: bigint; readonly global: boolean }
  | {
      readonly kind: 'leaf';
      /** Address of the first byte of the page. */
      readonly base: bigint;
      /** log2 of the page's bytes; more than the level's shift for a contiguous run. */
      readonly shift: number;
      /** Sum of `attribute`. */
      readonly attributes: number;
      /** The format's memory-type field. */
      readonly memoryType: number;
    }
  | { readonly kind: 'malformed'; readonly why: string };

/** Permissions of a mapping, with the values of the kernel's IOMMU_READ … IOMMU_MMIO. */
export const mapProt = { read: 1, write: 2, cache: 4, noexec: 8, mmio: 16 } as const;

/** An entry's kind, from its two halves. */
export const entryKind = { empty: 0, table: 1, leaf: 2, malformed: 3 } as const;

export interface PageTableFormat {
  readonly name: string;
  readonly spec: string;
  /** Root first. */
  readonly levels: readonly Level[];
  readonly upperBits: 'sign-extended' | 'zero';
  /** Bytes, and alignment, of the root table; the other tables are one page. */
  readonly rootBytes: number;
  /** Bit of an entry where the page number starts. */
  readonly ppnLow: number;
  /** Bits of a page number. */
  readonly ppnBits: number;
  /** `level` counts down to 0 at the smallest pages. */
  decode(raw: bigint, level: number): Entry;
  /** The entry without its page number, halves: a leaf with these permissions (mapProt), clean or dirty. */
  leafFlags(prot: number, dirty: boolean): { readonly lo: number; readonly hi: number };
  /** The entry without its page number of a pointer to the next table. */
  readonly tableFlags: { readonly lo: number; readonly hi: number };
  /** Kind of an entry the mapper itself wrote. */
  kind(lo: number, hi: number): number;
  /** Mask in the low half of the bit that hardware sets on a write; 0 where the format has none. */
  readonly dirtyLo: number;
}

/** Bits of an address that the format translates. */
export const addressBits = (format: PageTableFormat): number => {
  const top = format.levels[0]!;
  return top.shift + top.bits;
};

/** Bit n set: leaves of 2^n bytes exist. */
export const pageSizes = (format: PageTableFormat): bigint =>
  format.levels.reduce((sizes, level) => sizes | (1n << BigInt(level.shift)), 0n);
