/**
 * The engine's part of linear memory, below everything a guest or a device can reach.
 *
 *   0 ─ guard ─ harts (state, TLBs; one stride each) ─ code map ─ owners, generations, flags, list ─ code pages
 */
import { pageBytes } from '#vmm/base/address';

/** Predecoded instruction: one per 2 bytes of code. */
export const slot = {
  bytes: 16,
  /** u16: index of the handler; 0 = not decoded yet. */
  handler: 0,
  /** u16 each: operands, as the instruction set fills them in. */
  a: 2,
  b: 4,
  c: 6,
  /** i32. */
  imm: 8,
  /** u16: the real handler, where another stands for it: of an instruction that continues on the next page, or of a translated one. */
  real: 12,
  /**
   * u16: how often a jump led here; from `firstTranslation` on, the translation that begins here. An instruction that
   * continues on the next page is not counted: nothing behind it on its own page would be translated.
   */
  heat: 14,
  /** u16, of an instruction that continues on the next page: the half it was decoded with. In the unused slot behind. */
  upper: 16 + 8,
} as const;
/** `heat` of translation 0. */
export const firstTranslation = 0x4000;
/** Translations at most, over all pages. */
export const translationSlots = 0x4000;

export const slotsPerPage = pageBytes / 2;
/** Two slots more than the page has: an instruction that ends the page runs into them, and they lead to the next. */
const slotBytes = (slotsPerPage + 2) * slot.bytes;
/** Behind the slots: the page as it was when they were made, which is what they are decoded from. */
export const codeCopy = slotBytes;
export const codePageBytes = slotBytes + pageBytes;

/** Entry: tag i64 (virtual page address; all ones = empty), addend i32 (host minus virtual, modulo 2^32), unused i32. */
export const tlbEntryShift = 4;
export const tlbEntries = 256;
export const tlbBytes = tlbEntries << tlbEntryShift;
/** A bank serves one set of access rights: its read TLB, then its write TLB. */
export const bankBytes = 2 * tlbBytes;
export const banks = 4;
const stateBytes = 8192;
/** A kernel that boots executes code of more than 2048 pages; what is never used is never backed by memory. */
const mostCodePages = 4096;

export interface EngineLayout {
  readonly harts: number;
  readonly guestBytes: number;
  readonly codePages: number;
  readonly hartStride: number;
  /** Offsets in a hart's block. */
  readonly dataTlb: number;
  readonly fetchTlb: number;
  readonly firstHart: number;
  /** u16 for each page of guest RAM: index of its code page + 1, or 0. */
  readonly codeMap: number;
  /** u32 for each code page: page of guest RAM it holds. */
  readonly codeOwners: number;
  /** u32, then u32 for each code page: the generation of code, and that in which the page was last compared. */
  readonly generation: number;
  /** u8 for each code page: a hart may have stored to its guest page since it was copied. */
  readonly codeDirty: number;
  /** u32 count, then u32 index of each dirty code page. */
  readonly dirtyList: number;
  /** u8 for each code page: translations hold instructions of it. */
  readonly codeTranslated: number;
  /** u8 for each page of guest RAM: stores to it are reported. */
  readonly watchMap: number;
  readonly codePool: number;
  readonly bytes: number;
}

/** @param guestBytes bytes of guest RAM */
export const engineLayout = (options: { harts: number; guestBytes: number }): EngineLayout => {
  const { harts, guestBytes } = options;
  const guestPages = Math.ceil(guestBytes / pageBytes);
  const codePages = Math.min(mostCodePages, Math.max(16, guestPages));
  const dataTlb = stateBytes;
  const fetchTlb = dataTlb + banks * bankBytes;
  const hartStride = fetchTlb + banks * tlbBytes;
  const firstHart = 4096;
  const align = (n: number): number => Math.ceil(n / 64) * 64;
  const codeMap = firstHart + harts * hartStride;
  const codeOwners = align(codeMap + 2 * guestPages);
  const generation = align(codeOwners + 4 * codePages);
  const codeDirty = align(generation + 4 + 4 * codePages);
  const dirtyList = align(codeDirty + codePages);
  const codeTranslated = align(dirtyList + 4 + 4 * codePages);
  const watchMap = align(codeTranslated + codePages);
  const codePool = align(watchMap + guestPages);
  return {
    harts,
    guestBytes,
    codePages,
    hartStride,
    dataTlb,
    fetchTlb,
    firstHart,
    codeMap,
    codeOwners,
    generation,
    codeDirty,
    dirtyList,
    codeTranslated,
    watchMap,
    codePool,
    bytes: codePool + codePages * codePageBytes,
  };
};

/** Bytes the engine needs of host memory. */
export const engineBytes = (options: { harts: number; guestBytes: number }): number => engineLayout(options).bytes;
