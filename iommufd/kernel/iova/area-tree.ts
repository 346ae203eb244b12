import { hiHalf, loHalf, wide } from '#vmm/base/address';
import type { Area } from './area.ts';
import { type PackedAreas, packedWords } from './packed-areas.ts';

const fanout = 64;
const minimum = fanout / 4;

// Words of a node: keys (two halves an entry), entries of a leaf (or, in their place, children), count, next leaf.
const entriesAt = 2 * fanout;
const countAt = entriesAt + packedWords * fanout;
const nextAt = countAt + 1;
/** A whole number of cache lines. */
const nodeWords = (nextAt + 16) & ~15;
const none = 0xffff_ffff;

/**
 * The mapped areas of an I/O page table, by IOVA: disjoint intervals in a B+ tree, so that a look-up, insertion or
 * removal among n mappings costs O(log n) and walks in order cost O(1) a step.
 *
 * Nodes are stretches of one word array: neither a look-up nor the garbage collector follows a pointer. Keys are first
 * IOVAs as unsigned halves, exact for 64 bits. Areas are kept packed in the leaves where they can be; an area that was
 * handed out stays an object until a walk over all of them packs it again.
 */
export class AreaTree {
  #words = new Uint32Array(4 * nodeWords);
  #nodes = 1;
  #freeNode = none;
  #root = 0;
  /** Levels above the leaves. The first leaf is always node 0. */
  #height = 0;
  #size = 0;
  // The path of the last descent, and where it ended.
  readonly #path = new Int32Array(16);
  readonly #slots = new Int32Array(16);
  #leaf = 0;
  #slot = 0;
  readonly #packed: PackedAreas;

  constructor(packed: PackedAreas) {
    this.#packed = packed;
    this.#words[nextAt] = none;
  }

  get size(): number {
    return this.#size;
  }

  // ── Finding ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Position of a node's last key that is not above (hi, lo); -1 when all are above. */
  #find(node: number, hi: number, lo: number): number {
    const words = this.#words;
    const base = node * nodeWords;
    let low = 0;
    let high = words[base + countAt]!;
    while (low < high) {
      const middle = (low + high) >> 1;
      const key = words[base + 2 * middle]!;
      if (key < hi || (key === hi && words[base + 2 * middle + 1]! <= lo)) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  #descend(hi: number, lo: number): number {
    let node = this.#root;
    for (let depth = 0; depth < this.#height; depth++) {
      const slot = Math.max(0, this.#find(node, hi, lo));
      this.#path[depth] = node;
      this.#slots[depth] = slot;
      node = this.#words[node * nodeWords + entriesAt + slot]!;
    }
    return node;
  }

  /** Goes to the lowest area that ends at or after (hi, lo), and so may begin before it; false when there is none. */
  #locate(hi: number, lo: number): boolean {
    let leaf = this.#descend(hi, lo);
    const words = this.#words;
    let slot = this.#find(leaf, hi, lo);
    if (slot >= 0) {
      const entry = this.#entry(leaf, slot);
      const lastHi = words[entry]!;
      if (lastHi < hi || (lastHi === hi && words[entry + 1]! < lo)) slot++;
    } else slot = 0;
    while (slot >= words[leaf * nodeWords + countAt]!) {
      leaf = words[leaf * nodeWords + nextAt]!;
      slot = 0;
      if (leaf === none) return false;
    }
    this.#leaf = leaf;
    this.#slot = slot;
    return true;
  }
  #locateTouching(startHi: number, startLo: number, lastHi: number, lastLo: number): boolean {
    if (!this.#locate(startHi, startLo)) return false;
    const key = this.#leaf * nodeWords + 2 * this.#slot;
    const hi = this.#words[key]!;
    return hi < lastHi || (hi === lastHi && this.#words[key + 1]! <= lastLo);
  }
  /** Where a leaf's entry lies. */
  #entry(leaf: number, slot: number): number {
    return leaf * nodeWords + entriesAt + slot * packedWords;
  }
  #get(keep: boolean): Area {
    const key = this.#leaf * nodeWords + 2 * this.#slot;
    const words = this.#words;
    return this.#packed.get(words, this.#entry(this.#leaf, this.#slot), words[key]!, words[key + 1]!, keep);
  }

  /** The lowest area that ends at or after (hi, lo). */
  at(hi: number, lo: number): Area | undefined {
    return this.#locate(hi, lo) ? this.#get(true) : undefined;
  }
  /** The lowest area that ends at or after `start`. */
  firstFrom(start: bigint): Area | undefined {
    return this.at(hiHalf(start), loHalf(start));
  }
  /** The lowest area that touches [start, last]. */
  first(start: bigint, last: bigint): Area | undefined {
    const touches = this.#locateTouching(hiHalf(start), loHalf(start), hiHalf(last), loHalf(last));
    return touches ? this.#get(true) : undefined;
  }
  touches(startHi: number, startLo: number, lastHi: number, lastLo: number): boolean {
    return this.#locateTouching(startHi, startLo, lastHi, lastLo);
  }
  /** The lowest area that touches a range, to be looked at or removed: changes to it are lost. */
  peek(startHi: number, startLo: number, lastHi: number, lastLo: number): Area | undefined {
    return this.#locateTouching(startHi, startLo, lastHi, lastLo) ? this.#get(false) : undefined;
  }
  /** Bounds of the lowest area that ends at or after `start`. */
  boundsFrom(start: bigint): { readonly start: bigint; readonly last: bigint } | undefined {
    if (!this.#locate(hiHalf(start), loHalf(start))) return undefined;
    const words = this.#words;
    const key = this.#leaf * nodeWords + 2 * this.#slot;
    const entry = this.#entry(this.#leaf, this.#slot);
    return { start: wide(words[key]!, words[key + 1]!), last: wide(words[entry]!, words[entry + 1]!) };
  }

  /** The area after `area`. */
  next(area: Area): Area | undefined {
    const { lastHi, lastLo } = area;
    if (lastLo !== 0xffff_ffff) return this.at(lastHi, lastLo + 1);
    return lastHi === 0xffff_ffff ? undefined : this.at(lastHi + 1, 0);
  }

  /** All areas in order. The tree must not change meanwhile, and nothing keep an area beyond its turn. */
  *[Symbol.iterator](): Generator<Area> {
    for (let leaf = 0; leaf !== none; leaf = this.#words[leaf * nodeWords + nextAt]!)
      for (let slot = 0; slot < this.#words[leaf * nodeWords + countAt]!; slot++) {
        this.#leaf = leaf;
        this.#slot = slot;
        const area = this.#get(true);
        yield area;
        this.#packed.put(this.#words, this.#entry(leaf, slot), area);
      }
  }

  // ── Changing ────────────────────────────────────────────────────────────────────────────────────────────────────

  #newNode(): number {
    const free = this.#freeNode;
    if (free !== none) {
      this.#freeNode = this.#words[free * nodeWords + nextAt]!;
      return free;
    }
    const node = this.#nodes++;
    if (this.#nodes * nodeWords > this.#words.length) {
      const grown = new Uint32Array(Math.ceil(this.#nodes * 1.3) * nodeWords);
      grown.set(this.#words);
      this.#words = grown;
    }
    return node;
  }

  insert(area: Area): void {
    const hi = area.startHi;
    const lo = area.startLo;
    const leaf = this.#descend(hi, lo);
    this.#size++;
    let right = this.#open(leaf, this.#find(leaf, hi, lo) + 1, hi, lo, packedWords);
    this.#packed.add(this.#words, this.#entry(this.#leaf, this.#slot), area);
    for (let depth = this.#height; right !== none; depth--) {
      const split = right;
      const keyHi = this.#words[split * nodeWords]!;
      const keyLo = this.#words[split * nodeWords + 1]!;
      if (depth === 0) {
        const left = this.#root;
        const root = this.#newNode();
        const words = this.#words;
        const base = root * nodeWords;
        words.copyWithin(base, left * nodeWords, left * nodeWords + 2);
        words[base + 2] = keyHi;
        words[base + 3] = keyLo;
        words[base + entriesAt] = left;
        words[base + entriesAt + 1] = split;
        words[base + countAt] = 2;
        this.#root = root;
        this.#height++;
        return;
      }
      right = this.#open(this.#path[depth - 1]!, this.#slots[depth - 1]! + 1, keyHi, keyLo, 1);
      this.#words[this.#leaf * nodeWords + entriesAt + this.#slot] = split;
    }
  }

  /** Makes room for an entry of `entryWords` (where: `#leaf`, `#slot`); the new right half when the node was full. */
  #open(node: number, at: number, hi: number, lo: number, entryWords: number): number {
    let target = node;
    let slot = at;
    let right = none;
    if (this.#words[node * nodeWords + countAt] === fanout) {
      // Ascending insertion is the common case: then the left node stays full.
      const half = at === fanout ? fanout - 1 : fanout >> 1;
      right = this.#newNode();
      this.#move(right, 0, node, half, fanout, entryWords);
      const words = this.#words;
      words[right * nodeWords + countAt] = fanout - half;
      words[node * nodeWords + countAt] = half;
      words[right * nodeWords + nextAt] = words[node * nodeWords + nextAt]!;
      words[node * nodeWords + nextAt] = right;
      if (slot > half) {
        target = right;
        slot -= half;
      }
    }
    const words = this.#words;
    const base = target * nodeWords;
    const count = words[base + countAt]!;
    if (slot < count) this.#move(target, slot + 1, target, slot, count, entryWords);
    words[base + countAt] = count + 1;
    words[base + 2 * slot] = hi;
    words[base + 2 * slot + 1] = lo;
    this.#leaf = target;
    this.#slot = slot;
    return right;
  }

  /** Copies entries first … end-1 of a node, with their keys. */
  #move(to: number, at: number, from: number, first: number, end: number, entryWords: number): void {
    const words = this.#words;
    const target = to * nodeWords;
    const source = from * nodeWords;
    words.copyWithin(target + 2 * at, source + 2 * first, source + 2 * end);
    const entries = source + entriesAt;
    words.copyWithin(target + entriesAt + at * entryWords, entries + first * entryWords, entries + end * entryWords);
  }
  #close(node: number, slot: number, entryWords: number): void {
    const count = this.#words[node * nodeWords + countAt]!;
    if (slot + 1 < count) this.#move(node, slot, node, slot + 1, count, entryWords);
    this.#words[node * nodeWords + countAt] = count - 1;
  }

  remove(area: Area): void {
    let node = this.#descend(area.startHi, area.startLo);
    const slot = this.#find(node, area.startHi, area.startLo);
    const words = this.#words;
    this.#packed.clear(words, this.#entry(node, slot));
    this.#close(node, slot, packedWords);
    this.#size--;
    let entryWords = packedWords;
    // Thin nodes join a neighbour of the same parent: keys in the parents may stay lower than the subtree's first key.
    for (let depth = this.#height; depth > 0 && words[node * nodeWords + countAt]! < minimum; depth--) {
      const parent = this.#path[depth - 1]!;
      const place = this.#slots[depth - 1]!;
      const left = place > 0 ? place - 1 : place;
      if (left + 1 >= words[parent * nodeWords + countAt]!) break;
      const a = words[parent * nodeWords + entriesAt + left]!;
      const b = words[parent * nodeWords + entriesAt + left + 1]!;
      const countA = words[a * nodeWords + countAt]!;
      const countB = words[b * nodeWords + countAt]!;
      if (countA + countB > fanout - minimum && countA > 0 && countB > 0) break;
      this.#move(a, countA, b, 0, countB, entryWords);
      words[a * nodeWords + countAt] = countA + countB;
      words[a * nodeWords + nextAt] = words[b * nodeWords + nextAt]!;
      words[b * nodeWords + nextAt] = this.#freeNode;
      this.#freeNode = b;
      this.#close(parent, left + 1, 1);
      node = parent;
      entryWords = 1;
    }
    while (this.#height > 0 && words[this.#root * nodeWords + countAt] === 1) {
      const root = this.#root;
      this.#root = words[root * nodeWords + entriesAt]!;
      words[root * nodeWords + nextAt] = this.#freeNode;
      this.#freeNode = root;
      this.#height--;
    }
  }
}
