/**
 * The translation cache of a host IOMMU: bounded, set-associative, numbers only. An entry holds until a command
 * invalidates it or another takes its place: it never looks at memory.
 */

import { array, field, parts } from '#vmm/base/saved';

/** log2 of the page sizes entries come in. */
const classShifts = [12, 21, 30] as const;
const classMasks = classShifts.map((shift) => 2 ** shift - 1);
const ways = 4;
export const entryWords = 8;
/** log2 of the words of a set. */
const setShift = 5;

// Words of an entry.
const vpnLo = 0;
const vpnHi = 1;
const tagA = 2;
const tagB = 3;
const flagsAt = 4;
const ppnLo = 5;
const gpaLo = 6;
const gpaHi = 7;
const valid = 1 << 31;

export const right = { read: 1, write: 2, execute: 4 } as const;
const globalFlag = 8;
const ppnHiShift = 8;

/** The address space an entry belongs to: a VM (or none), a process (or none), and with which privilege it was walked. */
export const spaceTag = (gscid: number, supervisor: boolean, sum: boolean): number =>
  (gscid >= 0 ? gscid | (1 << 16) : 0) | (supervisor ? 1 << 17 : 0) | (sum ? 1 << 18 : 0);
export const processTag = (pscid: number): number => (pscid >= 0 ? pscid | (1 << 20) : 0);
const vmMask = (1 << 17) - 1;
/** Ranges of so many pages are probed page by page; larger ones are searched for. */
const mostProbes = 16;

/** An inclusive range of 4 KiB page numbers. */
export interface PageRange {
  readonly first: number;
  readonly last: number;
}

/** The range an invalidation's ADDR and S operands name (RISC-V IOMMU §8.3): the first 0 bit tells its size. */
export const invalidatedRange = (address: bigint, ranged: boolean): PageRange => {
  const bits = ranged ? BigInt.asUintN(52, address ^ (address + 1n)) : 0n;
  return { first: Number(address & ~bits), last: Number(address | bits) };
};

/** An entry of the cache; gscid and pscid are -1 where there is no VM or no process. */
export interface IotlbEntry {
  readonly gscid: number;
  readonly pscid: number;
  readonly supervisor: boolean;
  readonly iova: bigint;
  readonly gpa: number;
  readonly hpa: number;
  /** log2 of the page's bytes. */
  readonly shift: number;
  /** A sum of `right`. */
  readonly rights: number;
  readonly global: boolean;
}

export class Iotlb {
  readonly #words: Int32Array;
  readonly #sets: number;
  readonly #next: Uint8Array;
  /** Entries by guest page, for invalidations of the second stage: first of each hash, and each entry's neighbours. */
  readonly #heads: Int32Array;
  readonly #links: Int32Array;
  readonly #backs: Int32Array;
  /** Bit n set: some entry has ever been of class n since the last clear. */
  #classes = 0;
  #used = 0;
  readonly saved = parts({
    words: array(() => this.#words),
    next: array(() => this.#next),
    heads: array(() => this.#heads),
    links: array(() => this.#links),
    backs: array(() => this.#backs),
    classes: field(
      () => this.#classes,
      (value) => (this.#classes = value),
    ),
    used: field(
      () => this.#used,
      (value) => (this.#used = value),
    ),
  });

  /** `entries` a power of two, at least 4. */
  constructor(entries = 4096) {
    this.#sets = entries / ways;
    this.#words = new Int32Array(entries * entryWords);
    this.#next = new Uint8Array(this.#sets);
    this.#heads = new Int32Array(entries).fill(-1);
    this.#links = new Int32Array(entries);
    this.#backs = new Int32Array(entries);
  }

  get capacity(): number {
    return this.#sets * ways;
  }

  /** Entries in use. */
  get size(): number {
    return this.#used;
  }

  /**
   * First word of the set that a page of an address space lies in. Pages in a row lie in sets of their own, and so do
   * processes in a row; strides that are a multiple of the sets are spread by the bits above.
   */
  #set(lo: number, hi: number, space: number, process: number, kind: number): number {
    let h = lo ^ (lo >>> 10) ^ (lo >>> 20) ^ (Math.imul(process ^ Math.imul(space, 31), 0x9e3779b1) >>> 15);
    if (hi !== 0 || kind !== 0) h ^= Math.imul(hi + (kind << 20), 0x9e3779b1) >>> 12;
    return (h & (this.#sets - 1)) << setShift;
  }

  /** Entry for the address (two halves) in an address space, or -1; pass it to the functions below at once. */
  lookup(space: number, process: number, hi: number, lo: number): number {
    const classes = this.#classes;
    if (classes & 1) {
      const words = this.#words;
      const pageLo = (hi << 20) | (lo >>> 12);
      const pageHi = hi >>> 12;
      const at = this.#set(pageLo, pageHi, space, process, 0);
      const key = pageHi | valid;
      // prettier-ignore
      for (let way = at; way < at + ways * entryWords; way += entryWords)
        if (words[way] === pageLo && words[way + vpnHi] === key && words[way + tagA] === space && words[way + tagB] === process)
          return way;
    }
    if (classes & 2) {
      const at = this.#find(space, process, hi >>> 21, (hi << 11) | (lo >>> 21), 1);
      if (at >= 0) return at;
    }
    if (classes & 4) return this.#find(space, process, hi >>> 30, (hi << 2) | (lo >>> 30), 2);
    return -1;
  }

  /**
   * Byte address of an access that one entry serves whole, with rights `need`; -1 where none does. Constants of the module
   * are loaded each time they are used (bundled, they are variables), so the numbers stand here, and fold.
   */
  hit(space: number, process: number, hi: number, lo: number, need: number, length: number): number {
    const words = this.#words;
    const pageLo = (hi << 20) | (lo >>> 12);
    const pageHi = hi >>> 12;
    // #set, of a 4 KiB page.
    let h = pageLo ^ (pageLo >>> 10) ^ (pageLo >>> 20) ^ (Math.imul(process ^ Math.imul(space, 31), 0x9e3779b1) >>> 15);
    if (pageHi !== 0) h ^= Math.imul(pageHi, 0x9e3779b1) >>> 12;
    let at = (h & (this.#sets - 1)) << 5;
    const key = pageHi | -0x8000_0000;
    for (const end = at + 32; at < end; at += 8)
      if (words[at] === pageLo && words[at + 1] === key && words[at + 2] === space && words[at + 3] === process) {
        const flags = words[at + 4]!;
        const offset = lo & 4095;
        if ((flags & need) === 0 || offset + length > 4096) return -1;
        const page = words[at + 5]!;
        return (flags >>> 8 === 0 && page >= 0 ? page : (flags >>> 8) * 2 ** 32 + (page >>> 0)) * 4096 + offset;
      }
    return this.#classes <= 1 ? -1 : this.#hitLarge(space, process, hi, lo, need, length);
  }

  #hitLarge(space: number, process: number, hi: number, lo: number, need: number, length: number): number {
    const at = this.lookup(space, process, hi, lo);
    if (at < 0 || !(this.rights(at) & need) || (lo & this.offsetMask(at)) + length > this.offsetMask(at) + 1) return -1;
    return this.address(at, lo);
  }

  #find(space: number, process: number, hi: number, lo: number, kind: number): number {
    const words = this.#words;
    const first = this.#set(lo, hi, space, process, kind);
    const key = hi | (kind << 24) | valid;
    for (let at = first; at < first + ways * entryWords; at += entryWords)
      if (words[at] === lo && words[at + vpnHi] === key && words[at + tagA] === space && words[at + tagB] === process)
        return at;
    return -1;
  }

  /** Rights of an entry: a sum of `right`. */
  rights(at: number): number {
    return this.#words[at + flagsAt]! & 7;
  }

  /** Guest-physical page number (4 KiB) at which an entry's range begins. */
  guestPage(at: number): number {
    return this.#words[at + gpaHi]! * 2 ** 32 + (this.#words[at + gpaLo]! >>> 0);
  }

  /** Mask of the address bits inside an entry's page. */
  offsetMask(at: number): number {
    return classMasks[(this.#words[at + vpnHi]! >>> 24) & 3]!;
  }

  /** log2 of an entry's page size. */
  shift(at: number): number {
    return classShifts[((this.#words[at + vpnHi]! >>> 24) & 3) as 0 | 1 | 2];
  }

  /** Physical byte address of `lo` in an entry's page. */
  address(at: number, lo: number): number {
    const words = this.#words;
    const low = words[at + ppnLo]!;
    const high = words[at + flagsAt]! >>> ppnHiShift;
    const page = high === 0 && low >= 0 ? low : high * 2 ** 32 + (low >>> 0);
    return page * 4096 + (lo & this.offsetMask(at));
  }

  /**
   * Adds a translation of the page of 2^`shift` bytes around (hi, lo): it is kept in the largest class that fits.
   * `ppn` and `gpaPpn` are those of the 4 KiB page that holds (hi, lo). Returns the entry, as `lookup` does.
   */
  insert(
    space: number,
    process: number,
    hi: number,
    lo: number,
    shift: number,
    ppn: number,
    gpaPpn: number,
    rights: number,
    global: boolean,
  ): number {
    const kind = shift >= classShifts[2] ? 2 : shift >= classShifts[1] ? 1 : 0;
    const to = classShifts[kind]!;
    const pageLo =
      kind === 0 ? (hi << 20) | (lo >>> 12) : kind === 1 ? (hi << 11) | (lo >>> 21) : (hi << 2) | (lo >>> 30);
    const pageHi = hi >>> to;
    const words = this.#words;
    const set = this.#set(pageLo, pageHi, space, process, kind);
    let at = this.#find(space, process, pageHi, pageLo, kind);
    for (let way = set; at < 0 && way < set + ways * entryWords; way += entryWords)
      if (!(words[way + vpnHi]! & valid)) at = way;
    if (at < 0) {
      const turn = this.#next[set / (ways * entryWords)]!;
      this.#next[set / (ways * entryWords)] = (turn + 1) % ways;
      at = set + turn * entryWords;
    }
    if (words[at + vpnHi]! & valid) this.#unlink(at);
    else this.#used++;
    const span = 2 ** (to - 12);
    const page = ppn - (ppn % span);
    const guest = gpaPpn - (gpaPpn % span);
    words[at + vpnLo] = pageLo;
    words[at + vpnHi] = pageHi | (kind << 24) | valid;
    words[at + tagA] = space;
    words[at + tagB] = process;
    words[at + flagsAt] = rights | (global ? globalFlag : 0) | (Math.floor(page / 2 ** 32) << ppnHiShift);
    words[at + ppnLo] = page | 0;
    words[at + gpaLo] = guest | 0;
    words[at + gpaHi] = Math.floor(guest / 2 ** 32);
    this.#classes |= 1 << kind;
    this.#link(at, this.#hash(guest | 0));
    return at;
  }

  /** True while the entry has not been dropped. */
  isValid(at: number): boolean {
    return (this.#words[at + vpnHi]! & valid) !== 0;
  }

  /** Every entry, for people: what it translates, for whom, and to where. */
  list(): IotlbEntry[] {
    const words = this.#words;
    const entries: IotlbEntry[] = [];
    for (let at = 0; at < words.length; at += entryWords) {
      if (!(words[at + vpnHi]! & valid)) continue;
      const shift = this.shift(at);
      const space = words[at + tagA]!;
      const process = words[at + tagB]!;
      const page = (BigInt(words[at + vpnHi]! & 0xff_ffff) << 32n) | BigInt(words[at]! >>> 0);
      entries.push({
        gscid: space & (1 << 16) ? space & 0xffff : -1,
        pscid: process & (1 << 20) ? process & 0xf_ffff : -1,
        supervisor: (space & (1 << 17)) !== 0,
        iova: BigInt.asUintN(64, page << BigInt(shift)),
        gpa: this.guestPage(at) * 4096,
        hpa: this.address(at, 0),
        shift,
        rights: this.rights(at),
        global: (words[at + flagsAt]! & globalFlag) !== 0,
      });
    }
    return entries;
  }

  /** Where the entries of a guest page (the first of an entry's range) begin. */
  #hash(page: number): number {
    return (Math.imul(page, 0x9e3779b1) >>> 12) & (this.#heads.length - 1);
  }

  #link(at: number, hash: number): void {
    const next = this.#heads[hash]!;
    this.#links[at / entryWords] = next;
    this.#backs[at / entryWords] = -1;
    if (next >= 0) this.#backs[next / entryWords] = at;
    this.#heads[hash] = at;
  }

  /** Many processes may share a page, so that its list is long: nobody searches it. */
  #unlink(at: number): void {
    const next = this.#links[at / entryWords]!;
    const back = this.#backs[at / entryWords]!;
    if (back < 0) this.#heads[this.#hash(this.#words[at + gpaLo]!)] = next;
    else this.#links[back / entryWords] = next;
    if (next >= 0) this.#backs[next / entryWords] = back;
  }

  clear(): void {
    this.#words.fill(0);
    this.#heads.fill(-1);
    this.#classes = 0;
    this.#used = 0;
  }

  #drop(at: number): void {
    this.#unlink(at);
    this.#words[at + vpnHi] = 0;
    this.#used--;
  }

  /**
   * IOTINVAL.VMA (§3.1.1): `gscid` -1 are host address spaces; `pscid` -1 all processes, global mappings included.
   * Returns the entries dropped.
   */
  invalidateFirstStage(gscid: number, pscid: number, range: PageRange | undefined): number {
    if (this.#used === 0) return 0;
    const space = spaceTag(gscid, false, false);
    const process = processTag(pscid);
    let dropped = 0;
    if (range && pscid >= 0 && range.last - range.first < mostProbes) {
      for (let page = range.first; page <= range.last; page++) dropped += this.#dropPage(space, process, page);
      return dropped;
    }
    const words = this.#words;
    for (let at = 0; at < words.length; at += entryWords) {
      if (!(words[at + vpnHi]! & valid) || (words[at + tagA]! & vmMask) !== space) continue;
      if (pscid >= 0 && (words[at + tagB] !== process || words[at + flagsAt]! & globalFlag)) continue;
      if (range && !this.#overlaps(at, range, (words[at + vpnHi]! & 0xff_ffff) * 2 ** 32 + (words[at]! >>> 0), true))
        continue;
      this.#drop(at);
      dropped++;
    }
    return dropped;
  }

  /** One page of one process: probed, not searched. */
  #dropPage(space: number, process: number, page: number): number {
    const hi = Math.floor(page / 2 ** 20);
    const lo = (page % 2 ** 20) * 4096;
    let dropped = 0;
    for (const privilege of [0, 1 << 17, (1 << 17) | (1 << 18)])
      for (let kind = 0; kind < classShifts.length; kind++) {
        if (!(this.#classes & (1 << kind))) continue;
        const to = classShifts[kind]!;
        const pageLo = kind === 0 ? (hi << 20) | (lo >>> 12) : (hi << (32 - to)) | (lo >>> to);
        const at = this.#find(space | privilege, process, hi >>> to, pageLo, kind);
        if (at < 0 || this.#words[at + flagsAt]! & globalFlag) continue;
        this.#drop(at);
        dropped++;
      }
    return dropped;
  }

  /** IOTINVAL.GVMA (§3.1.1): `gscid` -1 all VMs; `range` of guest-physical pages. Returns the entries dropped. */
  invalidateSecondStage(gscid: number, range: PageRange | undefined): number {
    if (this.#used === 0) return 0;
    const words = this.#words;
    const space = spaceTag(gscid, false, false);
    let dropped = 0;
    if (range && gscid >= 0 && range.last - range.first < mostProbes) {
      for (let page = range.first; page <= range.last; page++) dropped += this.#dropGuestPage(space, page);
      return dropped;
    }
    for (let at = 0; at < words.length; at += entryWords) {
      if (!(words[at + vpnHi]! & valid) || !(words[at + tagA]! & (1 << 16))) continue;
      if (gscid >= 0 && (words[at + tagA]! & vmMask) !== space) continue;
      if (range && !this.#overlaps(at, range, words[at + gpaHi]! * 2 ** 32 + (words[at + gpaLo]! >>> 0), false))
        continue;
      this.#drop(at);
      dropped++;
    }
    return dropped;
  }

  /** One guest page of one VM: its entries are linked. */
  #dropGuestPage(space: number, page: number): number {
    const words = this.#words;
    let dropped = 0;
    for (let kind = 0; kind < classShifts.length; kind++) {
      if (!(this.#classes & (1 << kind))) continue;
      const first = page - (page % 2 ** (classShifts[kind]! - 12));
      const lo = first | 0;
      const hi = Math.floor(first / 2 ** 32);
      for (let at = this.#heads[this.#hash(lo)]!; at >= 0;) {
        const next = this.#links[at / entryWords]!;
        const isOfPage = words[at + gpaLo] === lo && words[at + gpaHi] === hi;
        if (isOfPage && ((words[at + vpnHi]! >>> 24) & 3) === kind && (words[at + tagA]! & vmMask) === space) {
          this.#drop(at);
          dropped++;
        }
        at = next;
      }
    }
    return dropped;
  }

  /** `page` in units of the entry's own size where `scaled`, else of 4 KiB. */
  #overlaps(at: number, range: PageRange, page: number, scaled: boolean): boolean {
    const span = 2 ** (this.shift(at) - 12);
    const first = scaled ? page * span : page;
    return first <= range.last && first + span - 1 >= range.first;
  }
}
