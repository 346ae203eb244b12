/**
 * The walk of the common case, in numbers: little-endian tables in host memory, 4-KiB-to-1-GiB pages, A and D already
 * set, no supervisor, no memory types, no interrupt files. Everything else answers false, and the plain, spec-ordered
 * walk decides. A property test holds the two together.
 */

import { field, parts } from '#vmm/base/saved';

/** What of a device context the walk needs. Page numbers are guest-physical where there is a second stage. */
// A type, not an interface: a snapshot holds it as it is.
export type WalkRoots = {
  /** Levels of the process directory, and the page of its root; 0: there is none. */
  readonly directoryLevels: number;
  readonly directoryRoot: number;
  /** -1 without a second stage. */
  readonly gscid: number;
  /** Translation requests are answered; with guest-physical addresses under T2GPA. */
  readonly enAts: boolean;
  readonly t2gpa: boolean;
  readonly secondLevels: number;
  readonly secondRoot: number;
  /** MSI page table on: guest pages whose number equals `pattern` outside `mask` are interrupt files. */
  readonly msi: boolean;
  readonly msiMaskLo: number;
  readonly msiPatternLo: number;
  /** The pattern can match below page 2^31 at all. */
  readonly msiLow: boolean;
};

const V = 1;
const R = 2;
const W = 4;
const X = 8;
const U = 16;
const A = 64;
const D = 128;
/** V with none of R, W, X, U, A, D: a pointer; G may be set. */
const pointerMask = 0xdf;
/** Bits 63:54: N, PBMT, software's and reserved ones. */
const unusual = 0xffc0_0000 | 0;
const leafBits = V | U | A;
/** V and the reserved bits of a process context's first word. */
const contextReserved = 0xff9;
const wordsPerPage = 1024;
/** A Bare stage limits no range; this is the largest the cache knows. */
const bareShift = 30;

/** Width of a process_id by pdtp.MODE, which is also the directory's number of levels. */
export const processBits = [0, 8, 17, 20] as const;

export class FastWalk {
  readonly #words: Int32Array;
  /** First page RAM starts at: tables below are not there. */
  readonly #firstPage: number;
  readonly #endPage: number;
  readonly #modes: number;
  /** Memory references made. */
  references = 0;
  readonly saved = parts({
    references: field(
      () => this.references,
      (value) => (this.references = value),
    ),
  });
  // Answer of the last walk that returned true.
  /** Physical page of the address. */
  ppn = 0;
  /** Page between the stages. */
  guestPpn = 0;
  /** log2 of the range. */
  shift = 0;
  /** Sum of `right` (iotlb.ts), without execute where the page has no R. */
  rights = 0;
  global = false;
  /** The last walk returned false because an entry of the first stage is not valid: nothing is there. */
  isAbsent = false;
  // Answer of the last `process` that returned true.
  pscid = 0;
  /** iosatp.MODE. */
  mode = 0;
  /** Page of the first stage's root. */
  root = 0;
  ens = false;
  sum = false;
  // Answer of #second.
  #shift = 0;
  #flags = 0;

  /** `modes`: bit n set where iosatp.MODE n is supported. */
  constructor(words: Int32Array, firstByte: number, endByte: number, modes: number) {
    this.#words = words;
    this.#modes = modes;
    this.#firstPage = firstByte / 4096;
    this.#endPage = Math.floor(endByte / 4096);
  }

  /** Host page of guest page `page` (below 2^31), or -1 for the plain walk to look at. */
  #second(levels: number, root: number, page: number): number {
    let level = levels - 1;
    // Three levels, the common case, without the loop.
    if (level === 2) return this.#second39(root, page);
    const words = this.#words;
    let index = level >= 4 ? 0 : page >>> (9 * level);
    let table = root;
    for (;;) {
      if (table < this.#firstPage || table >= this.#endPage) return -1;
      const at = table * wordsPerPage + 2 * index;
      const lo = words[at]!;
      const hi = words[at + 1]!;
      this.references++;
      if ((lo & pointerMask) === V) {
        if (--level < 0 || hi !== 0) return -1;
        table = lo >>> 10;
        index = level >= 4 ? 0 : (page >>> (9 * level)) & 511;
      } else return level > 2 ? -1 : this.#leaf(lo, hi, level, page);
    }
  }

  #second39(root: number, page: number): number {
    const words = this.#words;
    const first = this.#firstPage;
    const end = this.#endPage;
    const index = page >>> 18;
    if (index > 2047 || root < first || root >= end) return -1;
    let at = (root << 10) + (index << 1);
    let lo = words[at]!;
    let hi = words[at + 1]!;
    if ((lo & pointerMask) !== V) {
      this.references++;
      return this.#leaf(lo, hi, 2, page);
    }
    let table = lo >>> 10;
    if (hi !== 0 || table < first || table >= end) return -1;
    at = (table << 10) + ((page >>> 8) & 1022);
    lo = words[at]!;
    hi = words[at + 1]!;
    if ((lo & pointerMask) !== V) {
      this.references += 2;
      return this.#leaf(lo, hi, 1, page);
    }
    table = lo >>> 10;
    if (hi !== 0 || table < first || table >= end) return -1;
    at = (table << 10) + ((page & 511) << 1);
    this.references += 3;
    return this.#leaf(words[at]!, words[at + 1]!, 0, page);
  }

  /** A second-stage leaf of level 0 to 2. */
  #leaf(lo: number, hi: number, level: number, page: number): number {
    if (hi & unusual || (lo & leafBits) !== leafBits || (lo & (R | W)) === W || !(lo & (R | X))) return -1;
    this.#flags = lo;
    if (level === 0) {
      this.#shift = 12;
      return hi === 0 ? lo >>> 10 : (lo >>> 10) + hi * 2 ** 22;
    }
    const below = level === 1 ? 511 : 0x3ffff;
    if ((lo >>> 10) & below) return -1;
    this.#shift = level === 1 ? 21 : 30;
    return (lo >>> 10) + hi * 2 ** 22 + (page & below);
  }

  /** Reads a process's context from its directory (§2.3.2). True with the answer in this object's fields. */
  process(roots: WalkRoots, processId: number): boolean {
    const { directoryLevels, secondLevels, secondRoot } = roots;
    if (directoryLevels === 0 || processId >>> processBits[directoryLevels]! !== 0) return false;
    const words = this.#words;
    let table = roots.directoryRoot;
    for (let level = directoryLevels - 1; ; level--) {
      if (secondLevels !== 0) {
        table = this.#second(secondLevels, secondRoot, table);
        if (table < 0 || !(this.#flags & R)) return false;
      }
      if (table < this.#firstPage || table >= this.#endPage) return false;
      this.references++;
      if (level === 0) {
        const at = table * wordsPerPage + 4 * (processId & 0xff);
        const [ta, fsc] = [words[at]!, words[at + 2]!];
        const fscHigh = words[at + 3]!;
        if ((ta & contextReserved) !== V || words[at + 1] !== 0 || fsc < 0 || (fscHigh & 0xfff_ffff) !== 0)
          return false;
        this.mode = fscHigh >>> 28;
        if (!((this.#modes >>> this.mode) & 1)) return false;
        this.root = fsc;
        this.pscid = ta >>> 12;
        this.ens = (ta & 2) !== 0;
        this.sum = (ta & 4) !== 0;
        return true;
      }
      const at = table * wordsPerPage + 2 * (level === 2 ? processId >>> 17 : (processId >>> 8) & 511);
      const entry = words[at]!;
      const high = words[at + 1]!;
      if ((entry & 0x3ff) !== V || high >>> 0 > 0x1ff) return false;
      table = (entry >>> 10) | (high << 22);
    }
  }

  /** `firstLevels`: of the first stage, 0 Bare; `firstRoot`: its root's page. True with the answer in the fields. */
  walk(roots: WalkRoots, firstLevels: number, firstRoot: number, hi: number, lo: number, write: boolean): boolean {
    const { secondLevels, secondRoot } = roots;
    this.isAbsent = false;
    let flags = -1;
    let shift = bareShift;
    let guest: number;
    let global = false;
    if (firstLevels === 0) {
      if (hi >>> 11 !== 0) return false;
      guest = (hi << 20) | (lo >>> 12);
    } else {
      // Bits above those translated must equal the highest translated one.
      const sign = hi >> (firstLevels === 3 ? 6 : firstLevels === 4 ? 15 : 24);
      if (sign !== 0 && sign !== -1) return false;
      const words = this.#words;
      let table = firstRoot;
      let level = firstLevels - 1;
      for (;;) {
        const index =
          level === 0
            ? (lo >>> 12) & 511
            : level === 1
              ? (lo >>> 21) & 511
              : level === 2
                ? ((hi << 2) | (lo >>> 30)) & 511
                : level === 3
                  ? (hi >>> 7) & 511
                  : (hi >>> 16) & 511;
        if (secondLevels !== 0) {
          table = this.#second(secondLevels, secondRoot, table);
          if (table < 0 || !(this.#flags & R)) return false;
        }
        if (table < this.#firstPage || table >= this.#endPage) return false;
        const at = table * wordsPerPage + 2 * index;
        const entry = words[at]!;
        const high = words[at + 1]!;
        this.references++;
        if (!(entry & V)) {
          this.isAbsent = true;
          return false;
        }
        if (high & unusual || high > 0x1ff) return false;
        const page = (entry >>> 10) | (high << 22);
        if ((entry & pointerMask) === V) {
          if (--level < 0) return false;
          if (entry & 32) global = true;
          table = page;
          continue;
        }
        if ((entry & leafBits) !== leafBits || (entry & (R | W)) === W || !(entry & (R | X)) || level > 2) return false;
        const below = (1 << (9 * level)) - 1;
        if (page & below) return false;
        if (entry & 32) global = true;
        guest = page + (((hi << 20) | (lo >>> 12)) & below);
        shift = 12 + 9 * level;
        flags = entry;
        break;
      }
    }
    if (roots.msi && roots.msiLow && ((guest ^ roots.msiPatternLo) & ~roots.msiMaskLo) === 0) return false;
    let page = guest;
    if (secondLevels !== 0) {
      page = this.#second(secondLevels, secondRoot, guest);
      if (page < 0) return false;
      if (this.#shift < shift) shift = this.#shift;
      flags &= this.#flags;
    }
    if (!(flags & R) || (write && (flags & (W | D)) !== (W | D))) return false;
    // A range must not reach an interrupt file: with an MSI page table, keep to the page.
    this.shift = roots.msi ? 12 : shift;
    this.ppn = page;
    this.guestPpn = guest;
    this.rights = 1 | ((flags & (W | D)) === (W | D) ? 2 : 0) | (flags & X ? 4 : 0);
    this.global = global;
    return true;
  }
}
