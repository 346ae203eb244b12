import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { HostMemory } from '#vmm/base/memory';
import { addressBits, attribute, mapProt, type PageTableFormat, pageSizes } from '#iommufd/pagetable/format';
import { pte, sv39, sv39x4, sv48, sv48x4, sv57, sv57x4 } from '#iommufd/pagetable/formats/riscv';
import { PageTable } from '#iommufd/pagetable/map';
import { walk, type WalkResult } from '#iommufd/pagetable/walk';

const svpbmt = { svpbmt: true };
const formats: readonly PageTableFormat[] = [sv39(svpbmt), sv48(svpbmt), sv57(svpbmt), sv39x4(svpbmt), sv48x4(svpbmt), sv57x4(svpbmt)]; // prettier-ignore
const memory = new HostMemory({ engineBytes: 1 << 20, poolBytes: 16 << 20, guestBytes: 2 << 20 });
const load = (at: bigint): bigint => memory.view.getBigUint64(Number(at), true);
const look = (table: PageTable, address: bigint): WalkResult => walk(table.format, BigInt(table.root), address, load);

describe.each(formats)('$name', (format) => {
  const widths = format.levels.map((level) => level.shift);
  /** Level 0 is the smallest pages. */
  const levels = widths.map((_, i) => i);
  let table: PageTable;
  let pagesBefore: number;
  const endPfn = 2 ** (addressBits(format) - (format.upperBits === 'zero' ? 0 : 1) - 12);

  beforeEach(() => {
    pagesBefore = memory.pagesUsed;
    const made = PageTable.create({ format, allocator: memory, words: memory.i32 });
    if (!made) throw new Error('no memory');
    table = made;
    return () => {
      table.destroy();
      expect(memory.pagesUsed).toBe(pagesBefore);
    };
  });

  it('has a root aligned to its size', () => {
    expect(table.root % format.rootBytes).toBe(0);
    expect(table.endPfn).toBe(endPfn);
    expect(pageSizes(format) & 0x1000n).toBe(0x1000n);
  });

  it.each(levels)('maps with one leaf of level %i, and walks it at its first and last byte', (level) => {
    const span = 512 ** level;
    const iova = span * (level === format.levels.length - 1 ? 1 : 3);
    // Host addresses of large pages need not exist: nothing reads the pages themselves.
    const hpa = span * 4096 * (level === 0 ? 77 : 2);
    expect(table.map(iova, hpa, span, mapProt.read | mapProt.write)).toBe(true);
    for (const offset of [0n, BigInt(span) * 4096n - 1n]) {
      const found = look(table, BigInt(iova) * 4096n + offset);
      expect(found).toMatchObject({ kind: 'leaf', level, shift: 12 + 9 * level, address: BigInt(hpa) + offset });
    }
    expect(look(table, BigInt(iova) * 4096n - 1n).kind).toBe('not-present');
    expect(look(table, BigInt(iova + span) * 4096n).kind).toBe('not-present');
    expect(table.lookup(iova + span - 1)).toBe(hpa + (span - 1) * 4096);
    expect(table.unmap(iova, span)).toBe(span);
    expect(table.lookup(iova)).toBe(-1);
    table.reclaim();
    expect(table.tablePages).toBe(format.rootBytes / 4096);
  });

  it('refuses addresses beyond its width, and non-canonical ones', () => {
    expect(table.map(endPfn - 1, 4096, 2, 3)).toBe(false);
    expect(table.map(endPfn, 4096, 1, 3)).toBe(false);
    expect(table.map(-1, 4096, 1, 3)).toBe(false);
    expect(look(table, 1n << BigInt(addressBits(format))).kind).toBe('non-canonical');
    const upper = BigInt.asUintN(64, -4096n);
    expect(look(table, upper).kind).toBe(format.upperBits === 'zero' ? 'non-canonical' : 'not-present');
  });

  it('stores what was asked for: rights, memory type, dirty', () => {
    table.map(1, 0x5000, 1, mapProt.read);
    table.map(2, 0x6000, 1, mapProt.read | mapProt.write | mapProt.noexec);
    table.map(3, 0x1_0000_0000, 1, mapProt.read | mapProt.write | mapProt.mmio);
    const { read, write, execute, user, accessed, dirty } = attribute;
    const common = user | accessed | dirty;
    expect(look(table, 0x1000n)).toMatchObject({ attributes: common | read | execute, memoryType: 0 });
    expect(look(table, 0x2000n)).toMatchObject({ attributes: common | read | write });
    expect(look(table, 0x3004n)).toMatchObject({ address: 0x1_0000_0004n, memoryType: 2 });
  });

  it('gives back nothing half done when pages run out', () => {
    const poor = {
      left: 2,
      allocatePages(count?: number): number | undefined {
        return this.left-- > 0 ? memory.allocatePages(count) : undefined;
      },
      freePages: (first: number, count?: number): void => memory.freePages(first as never, count),
    };
    const small = PageTable.create({ format, allocator: poor, words: memory.i32 })!;
    expect(small.map(512 * 512 - 600, 0x1000, 1200, 3)).toBe(false);
    for (const pfn of [0, 599, 600, 1199]) expect(small.lookup(512 * 512 - 600 + pfn)).toBe(-1);
    small.destroy();
  });

  it('agrees with a list of pages through any maps and unmaps', () => {
    const run = fc.record({
      map: fc.boolean(),
      // Around the borders between tables of every level.
      at: fc.tuple(fc.constantFrom(0, 512, 1024, 512 * 512, 512 * 512 + 512), fc.nat(600)).map(([a, b]) => a + b),
      pages: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constantFrom(512, 513, 1024)),
      hpa: fc.tuple(fc.constantFrom(0, 512), fc.nat(2)).map(([a, b]) => 0x20_0000 * 4 + (a + b) * 4096),
    });
    fc.assert(
      fc.property(fc.array(run, { maxLength: 25 }), (runs) => {
        const own = PageTable.create({ format, allocator: memory, words: memory.i32 })!;
        const model = new Map<number, number>();
        const starts: [number, number][] = [];
        for (const { map, at, pages, hpa } of runs) {
          if (map) {
            if (Array.from({ length: pages }, (_, i) => at + i).some((pfn) => model.has(pfn))) continue;
            expect(own.map(at, hpa, pages, 3)).toBe(true);
            starts.push([at, pages]);
            for (let i = 0; i < pages; i++) model.set(at + i, hpa + i * 4096);
          } else {
            // What was mapped is unmapped as it was mapped.
            const gone = starts.pop();
            if (!gone) continue;
            expect(own.unmap(gone[0], gone[1])).toBe(gone[1]);
            for (let i = 0; i < gone[1]; i++) model.delete(gone[0] + i);
          }
        }
        for (const [pfn, hpa] of model) {
          expect(own.lookup(pfn)).toBe(hpa);
          expect(look(own, BigInt(pfn) * 4096n)).toMatchObject({ kind: 'leaf', address: BigInt(hpa) });
        }
        for (const pfn of [0, 511, 512, 1535, 512 * 512 - 1, 512 * 512])
          if (!model.has(pfn)) expect(own.lookup(pfn)).toBe(-1);
        for (const [at, pages] of starts) own.unmap(at, pages);
        own.reclaim();
        expect(own.tablePages).toBe(format.rootBytes / 4096);
        own.destroy();
      }),
      { numRuns: 25 },
    );
  });

  it('reports and clears what hardware marked dirty', () => {
    const tracked = PageTable.create({ format, allocator: memory, words: memory.i32, dirtyTracking: true })!;
    tracked.map(100, 0x5000, 4, 3);
    tracked.map(1024, 0x40_0000, 512, 3);
    const dirtyPages = (keep: boolean): number[][] => {
      const seen: number[][] = [];
      tracked.dirty(0, 4096, keep, (pfn, pages) => seen.push([pfn, pages]));
      return seen;
    };
    expect(dirtyPages(true)).toEqual([]);
    for (const pfn of [101, 1030]) {
      const leaf = look(tracked, BigInt(pfn) * 4096n);
      if (leaf.kind === 'leaf') memory.view.setBigUint64(Number(leaf.at), leaf.raw | pte.mask('D'), true);
    }
    expect(dirtyPages(true)).toEqual([[101, 1], [1024, 512]]); // prettier-ignore
    expect(dirtyPages(false)).toEqual([[101, 1], [1024, 512]]); // prettier-ignore
    expect(dirtyPages(false)).toEqual([]);
    tracked.destroy();
  });
});

describe('entries that are wrong', () => {
  const [format] = formats as [PageTableFormat];
  const good = pte.encode({ V: 1n, R: 1n, W: 1n, A: 1n, D: 1n, U: 1n, PPN: 0x40000n });
  const pointer = pte.encode({ V: 1n, PPN: 5n });
  const m = (field: 'R' | 'A' | 'D' | 'U' | 'PBMT' | 'N' | 'rsw60t59b'): bigint => pte.mask(field);
  // prettier-ignore
  it.each([
    ['a leaf', good, 0, 'leaf'], ['V=0', good & ~1n, 0, 'empty'], ['W without R', good & ~m('R'), 0, 'malformed'],
    ['bit 54', good | (1n << 54n), 0, 'malformed'], ['bits 60:59', good | m('rsw60t59b'), 0, 'malformed'],
    ['PBMT 3', good | m('PBMT'), 0, 'malformed'], ['N with another size', good | m('N'), 0, 'malformed'],
    ['a 64 KiB page', good | m('N') | (8n << 10n), 0, 'leaf'], ['N on a superpage', good | m('N'), 1, 'malformed'],
    ['a superpage', good, 1, 'leaf'], ['a misaligned superpage', good | (1n << 10n), 1, 'malformed'],
    ['a pointer', pointer, 1, 'table'], ['a pointer with A', pointer | m('A'), 1, 'malformed'],
    ['a pointer with D', pointer | m('D'), 1, 'malformed'], ['a pointer with U', pointer | m('U'), 1, 'malformed'],
    ['a pointer with N', pointer | m('N'), 0, 'malformed'], ['a pointer with PBMT', pointer | (1n << 61n), 1, 'malformed'],
  ] as const)('%s', (_name, raw, level, kind) => {
    expect(format.decode(raw, level).kind).toBe(kind);
  });

  it('memory types need Svpbmt, bits 60:59 Svrsw60t59b', () => {
    expect(sv39().decode(good | (1n << 61n), 0).kind).toBe('malformed');
    expect(sv39({ svrsw60t59b: true }).decode(good | pte.mask('rsw60t59b'), 0).kind).toBe('leaf');
  });

  it('a 64 KiB page spans sixteen entries', () => {
    expect(format.decode(good | pte.mask('N') | (8n << 10n), 0)).toMatchObject({ shift: 16, base: 0x40000000n });
  });

  it('a pointer at the last level, and a load that gives up', () => {
    memory.bytes.fill(0, memory.guestBase, memory.guestBase + 8192);
    const root = BigInt(memory.guestBase);
    memory.view.setBigUint64(memory.guestBase, ((root >> 12n) << 10n) | 1n, true);
    expect(walk(format, root, 0n, load)).toMatchObject({ kind: 'malformed', level: 0 });
    expect(walk(format, root, 0n, () => undefined)).toEqual({ kind: 'stopped', level: 2 });
  });

  it('global is inherited from pointers', () => {
    const page = memory.guestBase;
    memory.bytes.fill(0, page, page + 16384);
    const next = (n: number): bigint => BigInt((page >>> 12) + n) << 10n;
    memory.view.setBigUint64(page, next(1) | 1n | pte.mask('G'), true);
    memory.view.setBigUint64(page + 4096, next(2) | 1n, true);
    memory.view.setBigUint64(page + 8192, good, true);
    expect(walk(format, BigInt(page), 0n, load)).toMatchObject({ kind: 'leaf', global: true });
  });
});
