import { hiHalf, loHalf } from '#vmm/base/address';
import type { Area } from './area.ts';

const fanout = 64;
const minimum = fanout / 4;

/**
 * A leaf or an inner node of the B+ tree. Keys are the first IOVAs of the entries as unsigned halves: exact for 64
 * bits, and compared without touching the entries.
 */
class Node {
  readonly hi = new Uint32Array(fanout);
  readonly lo = new Uint32Array(fanout);
  count = 0;
  /** Leaf: the areas. Inner: undefined. */
  readonly areas: Area[] | undefined;
  readonly children: Node[] | undefined;
  next: Node | undefined;

  constructor(leaf: boolean) {
    this.areas = leaf ? [] : undefined;
    this.children = leaf ? undefined : [];
  }

  /** Position of the last key that is not above (hi, lo); -1 when all are above. */
  find(hi: number, lo: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      const key = this.hi[middle]!;
      if (key < hi || (key === hi && this.lo[middle]! <= lo)) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  open(at: number): void {
    this.hi.copyWithin(at + 1, at, this.count);
    this.lo.copyWithin(at + 1, at, this.count);
    this.count++;
  }
  close(at: number): void {
    this.hi.copyWithin(at, at + 1, this.count);
    this.lo.copyWithin(at, at + 1, this.count);
    this.count--;
  }
}

/**
 * The mapped areas of an I/O page table, by IOVA: disjoint intervals in a B+ tree, so that a look-up, insertion or
 * removal among n mappings costs O(log n) and walks in order cost O(1) a step.
 */
export class AreaTree {
  #root = new Node(true);
  #size = 0;
  #firstLeaf = this.#root;
  // The path of the last descent.
  readonly #path: Node[] = [];
  readonly #slots: number[] = [];
  #depth = 0;

  get size(): number {
    return this.#size;
  }

  #descend(hi: number, lo: number): Node {
    let node = this.#root;
    let depth = 0;
    while (node.children) {
      const slot = Math.max(0, node.find(hi, lo));
      this.#path[depth] = node;
      this.#slots[depth++] = slot;
      node = node.children[slot]!;
    }
    this.#depth = depth;
    return node;
  }

  /** The lowest area that ends at or after (hi, lo), and so may begin before it. */
  at(hi: number, lo: number): Area | undefined {
    const leaf = this.#descend(hi, lo);
    const at = leaf.find(hi, lo);
    if (at >= 0) {
      const area = leaf.areas![at]!;
      const lastHi = area.lastHi;
      if (lastHi > hi || (lastHi === hi && area.lastLo >= lo)) return area;
    }
    if (at + 1 < leaf.count) return leaf.areas![at + 1];
    return leaf.next?.areas![0];
  }
  /** The lowest area that ends at or after `start`. */
  firstFrom(start: bigint): Area | undefined {
    return this.at(hiHalf(start), loHalf(start));
  }

  /** The lowest area that touches [start, last]. */
  first(start: bigint, last: bigint): Area | undefined {
    return this.touching(hiHalf(start), loHalf(start), hiHalf(last), loHalf(last));
  }
  touching(startHi: number, startLo: number, lastHi: number, lastLo: number): Area | undefined {
    const area = this.at(startHi, startLo);
    if (!area) return undefined;
    const hi = area.startHi;
    return hi < lastHi || (hi === lastHi && area.startLo <= lastLo) ? area : undefined;
  }

  /** The area after `area`. */
  next(area: Area): Area | undefined {
    const { lastHi, lastLo } = area;
    if (lastLo !== 0xffff_ffff) return this.at(lastHi, lastLo + 1);
    return lastHi === 0xffff_ffff ? undefined : this.at(lastHi + 1, 0);
  }

  /** All areas in order. The tree must not change meanwhile. */
  *[Symbol.iterator](): Generator<Area> {
    for (let leaf: Node | undefined = this.#firstLeaf; leaf; leaf = leaf.next)
      for (let i = 0; i < leaf.count; i++) yield leaf.areas![i]!;
  }

  insert(area: Area): void {
    const hi = area.startHi;
    const lo = area.startLo;
    const leaf = this.#descend(hi, lo);
    const at = leaf.find(hi, lo) + 1;
    this.#size++;
    let right = this.#put(leaf, at, hi, lo, area, undefined);
    for (let depth = this.#depth; right; depth--) {
      const split = right;
      if (depth === 0) {
        const left = this.#root;
        const root = new Node(false);
        root.count = 2;
        root.hi[0] = left.hi[0]!;
        root.lo[0] = left.lo[0]!;
        root.hi[1] = split.hi[0]!;
        root.lo[1] = split.lo[0]!;
        root.children!.push(left, split);
        this.#root = root;
        return;
      }
      const slot = this.#slots[depth - 1]! + 1;
      right = this.#put(this.#path[depth - 1]!, slot, split.hi[0]!, split.lo[0]!, undefined, split);
    }
  }

  /** Adds an entry to a node; the new right half when it had to be split. */
  #put(
    node: Node,
    at: number,
    hi: number,
    lo: number,
    area: Area | undefined,
    child: Node | undefined,
  ): Node | undefined {
    let target = node;
    let slot = at;
    let right: Node | undefined;
    if (node.count === fanout) {
      // Ascending insertion is the common case: then the left node stays full.
      const half = at === fanout ? fanout - 1 : fanout >> 1;
      right = new Node(node.areas !== undefined);
      right.hi.set(node.hi.subarray(half));
      right.lo.set(node.lo.subarray(half));
      right.count = fanout - half;
      node.count = half;
      if (node.areas) {
        right.areas!.push(...node.areas.splice(half));
        right.next = node.next;
        node.next = right;
      } else right.children!.push(...node.children!.splice(half));
      if (slot > half) {
        target = right;
        slot -= half;
      }
    }
    target.open(slot);
    target.hi[slot] = hi;
    target.lo[slot] = lo;
    if (area) {
      const areas = target.areas!;
      for (let i = target.count - 1; i > slot; i--) areas[i] = areas[i - 1]!;
      areas[slot] = area;
    } else target.children!.splice(slot, 0, child!);
    return right;
  }

  remove(area: Area): void {
    const hi = area.startHi;
    const lo = area.startLo;
    const leaf = this.#descend(hi, lo);
    const at = leaf.find(hi, lo);
    leaf.close(at);
    const areas = leaf.areas!;
    for (let i = at; i < leaf.count; i++) areas[i] = areas[i + 1]!;
    areas.length = leaf.count;
    this.#size--;
    let node = leaf;
    // Thin nodes join a neighbour of the same parent: keys in the parents may stay lower than the subtree's first key.
    for (let depth = this.#depth; depth > 0 && node.count < minimum; depth--) {
      const parent = this.#path[depth - 1]!;
      const slot = this.#slots[depth - 1]!;
      const left = slot > 0 ? slot - 1 : slot;
      const a = parent.children![left]!;
      const b = parent.children![left + 1];
      if (!b || a.count + b.count > fanout - minimum) return;
      a.hi.set(b.hi.subarray(0, b.count), a.count);
      a.lo.set(b.lo.subarray(0, b.count), a.count);
      a.count += b.count;
      if (a.areas) {
        a.areas.push(...b.areas!);
        a.next = b.next;
      } else a.children!.push(...b.children!);
      parent.close(left + 1);
      parent.children!.splice(left + 1, 1);
      node = parent;
    }
    const root = this.#root;
    if (root.children && root.count === 1) this.#root = root.children[0]!;
  }
}
