import { Area } from './area.ts';
import type { AccountMode } from './accounting.ts';
import type { IoPageTable } from './io-pagetable.ts';
import { Pages, type PageSource, type PinOwner } from './pages.ts';

/** Words of an entry: last IOVA (high, low), bits, then either page numbers or where the object is. */
export const packedWords = 6;
const bitsAt = 2;
const baseAt = 3;
const linearAt = 4;
const highsAt = 5;

// Above those of Area's own bits.
const writableBit = 1 << 22;
const modeShift = 23;
const objectBit = 1 << 26;
const modes: readonly AccountMode[] = ['none', 'user', 'process'];
const word = 0x1_0000_0000;
/** Page numbers have at most 32 + 16 bits; more pages than these no process has. */
const maxPage = word * 0x1_0000;
const maxPages = 2 ** 36;

/**
 * Areas of one table in a few words each. What most are is packed: all of a pages object of their own, in process
 * memory, which is pinned as a whole in one piece for the domains, or not at all. The others are objects, and the entry
 * says which. A million mappings so cost neither a million objects nor the time to collect around them.
 */
export class PackedAreas {
  readonly #table: IoPageTable;
  readonly #objects: (Area | undefined)[] = [];
  readonly #free: number[] = [];
  // One process, so there is one source of its pages, and one that pays for them.
  #source: PageSource | undefined;
  #owner: PinOwner | undefined;

  constructor(table: IoPageTable) {
    this.#table = table;
  }

  /** Forgets what the entry at `at` refers to. */
  clear(words: Uint32Array, at: number): void {
    if (words[at + bitsAt]! & objectBit) {
      const place = words[at + baseAt]!;
      this.#objects[place] = undefined;
      this.#free.push(place);
    }
    words[at + bitsAt] = 0;
  }

  /** Writes an area to a new entry, whose words may be anything. */
  add(words: Uint32Array, at: number, area: Area): void {
    words[at + bitsAt] = 0;
    this.put(words, at, area);
  }

  /** Writes an area to its entry: packed if it can be. */
  put(words: Uint32Array, at: number, area: Area): void {
    const { pages } = area;
    const linear = pages.plain(area.filled);
    const { basePage } = pages;
    const whole = area.firstIndex === 0 && area.lastIndex === pages.count - 1 && pages.count < maxPages;
    const fits = linear !== undefined && linear < maxPage && basePage < maxPage;
    if (!fits || !whole || area.accesses > 0 || !this.#isOurs(pages)) {
      this.#keep(words, at, area);
      return;
    }
    this.clear(words, at);
    words[at] = area.lastHi;
    words[at + 1] = area.lastLo;
    words[at + bitsAt] =
      area.bits | (pages.writable ? writableBit : 0) | (modes.indexOf(pages.accountMode) << modeShift);
    words[at + baseAt] = basePage % word;
    words[at + linearAt] = linear % word;
    words[at + highsAt] = Math.floor(basePage / word) | (Math.floor(linear / word) << 16);
  }

  #isOurs(pages: Pages): boolean {
    this.#source ??= pages.source;
    this.#owner ??= pages.owner;
    return pages.source === this.#source && pages.owner === this.#owner;
  }

  #keep(words: Uint32Array, at: number, area: Area): void {
    if (words[at + bitsAt]! & objectBit) return;
    const place = this.#free.pop() ?? this.#objects.length;
    this.#objects[place] = area;
    words[at] = area.lastHi;
    words[at + 1] = area.lastLo;
    words[at + bitsAt] = objectBit;
    words[at + baseAt] = place;
  }

  /** The area of the entry at `at` that begins at (hi, lo); with `keep`, always the same object from now on. */
  get(words: Uint32Array, at: number, hi: number, lo: number, keep: boolean): Area {
    const bits = words[at + bitsAt]!;
    if (bits & objectBit) return this.#objects[words[at + baseAt]!]!;
    const lastHi = words[at]!;
    const lastLo = words[at + 1]!;
    const offset = bits & 0xfff;
    const bytes = (lastHi - hi) * word + (lastLo - lo) + 1;
    const lastIndex = Math.floor((offset + bytes - 1) / 4096);
    const highs = words[at + highsAt]!;
    const pages = new Pages(
      this.#source!,
      (highs & 0xffff) * word + words[at + baseAt]!,
      lastIndex + 1,
      (bits & writableBit) !== 0,
      this.#owner!,
      modes[(bits >> modeShift) & 3]!,
    );
    const area = new Area(this.#table, pages, hi, lo, lastHi, lastLo, 0, lastIndex, offset, (bits >> 12) & 0xff);
    area.bits = bits & (writableBit - 1);
    if (area.filled) pages.restorePlain((highs >>> 16) * word + words[at + linearAt]!);
    if (keep) this.#keep(words, at, area);
    return area;
  }
}
