import { errno } from '#vmm/base/errno';
import type { DirtySink } from '../iommu-ops.ts';

/** log2 of: the smallest page, the entries of a table. Three levels cover 38 bits. */
const granuleShift = 11;
const tableShift = 9;
const entries = 1 << tableShift;
const topLevel = 2;
const spaceBytes = 2 ** (granuleShift + tableShift * (topLevel + 1));

/** One table: an entry is empty, a leaf (perhaps one of 2^contiguous that make up a larger page), or a table. */
class Table {
  /** Address that the entry shows, -1 when it is no leaf. */
  readonly address = new Float64Array(entries).fill(-1);
  readonly contiguous = new Uint8Array(entries);
  readonly dirty = new Uint8Array(entries);
  children: (Table | undefined)[] | undefined;
  used = 0;
}
const itemShift = (level: number): number => granuleShift + tableShift * level;

/**
 * The selftest's page table: AMD's format (every power of two is a page size) with a granule of 2 KiB, so that it is
 * not the CPU's. IOVAs are numbers: the table covers 38 bits.
 */
export class MockTable {
  readonly #root = new Table();
  /** By log2 of the size, as a number: pages of it exist. */
  readonly #hasSize: readonly boolean[];

  constructor(sizes: bigint) {
    this.#hasSize = Array.from({ length: 64 }, (_, shift) => ((sizes >> BigInt(shift)) & 1n) !== 0n);
  }

  /** Largest page that both addresses and the rest of the run allow. */
  #pageShift(iova: number, hpa: number, bytes: number): number {
    let shift = granuleShift;
    let size = 2 ** granuleShift;
    for (let next = shift; next < 37; next++, size *= 2) {
      if (size > bytes || iova % size !== 0 || hpa % size !== 0) break;
      if (this.#hasSize[next]) shift = next;
    }
    return shift;
  }

  map(iova: number, hpa: number, bytes: number): number {
    if (iova + bytes > spaceBytes) return errno.ERANGE;
    for (let done = 0; done < bytes;) {
      const shift = this.#pageShift(iova + done, hpa + done, bytes - done);
      this.#install(iova + done, hpa + done, shift);
      done += 2 ** shift;
    }
    return 0;
  }

  #install(iova: number, hpa: number, shift: number): void {
    const level = Math.min(topLevel, Math.floor((shift - granuleShift) / tableShift));
    let table = this.#root;
    for (let at = topLevel; at > level; at--) {
      const index = Math.floor(iova / 2 ** itemShift(at)) % entries;
      const children = (table.children ??= []);
      let child = children[index];
      if (!child) {
        children[index] = child = new Table();
        table.used++;
      }
      table = child;
    }
    const item = itemShift(level);
    const contiguous = shift - item;
    const first = Math.floor(iova / 2 ** item) % entries;
    for (let i = 0; i < 2 ** contiguous; i++) {
      table.address[first + i] = hpa + i * 2 ** item;
      table.contiguous[first + i] = contiguous;
      table.dirty[first + i] = 0;
    }
    table.used += 2 ** contiguous;
  }

  /** Bytes unmapped. */
  unmap(iova: number, bytes: number): number {
    return this.#unmapIn(this.#root, topLevel, 0, iova, iova + bytes);
  }
  #unmapIn(table: Table, level: number, base: number, start: number, end: number): number {
    const size = 2 ** itemShift(level);
    const first = Math.max(0, Math.floor((start - base) / size));
    const last = Math.min(entries - 1, Math.ceil((end - base) / size) - 1);
    let bytes = 0;
    for (let index = first; index <= last; index++) {
      if (table.address[index]! >= 0) {
        table.address[index] = -1;
        table.used--;
        bytes += size;
        continue;
      }
      const child = table.children?.[index];
      if (!child) continue;
      bytes += this.#unmapIn(child, level - 1, base + index * size, start, end);
      if (child.used === 0) {
        table.children![index] = undefined;
        table.used--;
      }
    }
    return bytes;
  }

  /** The leaf that shows an IOVA. */
  #find(iova: number): { table: Table; index: number; level: number } | undefined {
    if (iova >= spaceBytes) return undefined;
    let table = this.#root;
    for (let level = topLevel; level >= 0; level--) {
      const index = Math.floor(iova / 2 ** itemShift(level)) % entries;
      if (table.address[index]! >= 0) return { table, index, level };
      const child = table.children?.[index];
      if (!child) return undefined;
      table = child;
    }
    return undefined;
  }
  /** Host-physical address, or -1. */
  translate(iova: number): number {
    const leaf = this.#find(iova);
    return leaf ? leaf.table.address[leaf.index]! + (iova % 2 ** itemShift(leaf.level)) : -1;
  }
  /** What a device's write would do. */
  setDirty(iova: number): void {
    const leaf = this.#find(iova);
    if (leaf) leaf.table.dirty[leaf.index] = 1;
  }

  /** Reports, and unless `keep` clears, the dirty leaves of a range. */
  readDirty(iova: number, bytes: number, keep: boolean, sink: DirtySink): void {
    this.#dirtyIn(this.#root, topLevel, 0, iova, iova + bytes, keep, sink);
  }
  #dirtyIn(
    table: Table,
    level: number,
    base: number,
    start: number,
    end: number,
    keep: boolean,
    sink: DirtySink,
  ): void {
    const size = 2 ** itemShift(level);
    const first = Math.max(0, Math.floor((start - base) / size));
    const last = Math.min(entries - 1, Math.ceil((end - base) / size) - 1);
    for (let index = first; index <= last; index++) {
      if (table.address[index]! < 0) {
        const child = table.children?.[index];
        if (child) this.#dirtyIn(child, level - 1, base + index * size, start, end, keep, sink);
        continue;
      }
      const count = 2 ** table.contiguous[index]!;
      const from = Math.floor(index / count) * count;
      const leaf = table.dirty.subarray(from, from + count);
      if (leaf.includes(1)) {
        // As in the kernel's generic page table: of a page made of several entries the last one is not reported.
        const reported = count > 1 ? Math.min(from + count - 1, last + 1) - index : 1;
        const at = Math.max(base + index * size, start);
        const bytes = reported * size;
        if (bytes > 0) sink.record(Math.floor(at / 0x1_0000_0000), at % 0x1_0000_0000, bytes);
        if (!keep) leaf.fill(0);
      }
      index = from + count - 1;
    }
  }
}
