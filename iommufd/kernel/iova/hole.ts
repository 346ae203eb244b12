import type { AreaTree } from './area-tree.ts';

/** Inclusive bounds. */
export interface IovaRange {
  readonly first: bigint;
  readonly last: bigint;
}

export const ulongMax = 0xffff_ffff_ffff_ffffn;
const pageMask = 0xfffn;
const page = 4096n;

/**
 * The first IOVA in `first … last` that is aligned and leaves room for `length`; undefined if there is none. The
 * offset of the memory in its page is OR-ed into the aligned address, as the kernel does.
 */
function fit(first: bigint, last: bigint, length: bigint, alignment: bigint, offset: bigint): bigint | undefined {
  const up = first + alignment - 1n;
  if (up > ulongMax) return undefined;
  const start = (up & ~(alignment - 1n)) | offset;
  return start >= last || last - start < length - 1n ? undefined : start;
}

/**
 * Lowest fit in the first of `allowed` that has one, avoiding reserved ranges and areas. Never page 0. The caller knows
 * that there is none below `from`.
 */
export function findHole(
  allowed: readonly IovaRange[],
  reserved: readonly IovaRange[],
  areas: AreaTree,
  length: bigint,
  alignment: bigint,
  offset: bigint,
  from = page,
): bigint | undefined {
  const lowest = from > page ? from : page;
  for (const range of allowed) {
    const first = range.first > lowest ? range.first : lowest;
    const last = range.last < ulongMax - page ? range.last : ulongMax - page;
    if (first > last) continue;
    const start = fit(first, last, length, alignment, offset & pageMask);
    if (start === undefined) continue;
    let next = start;
    let taken = 0;
    while (next <= last) {
      while (taken < reserved.length && reserved[taken]!.last < next) taken++;
      let block: IovaRange | undefined;
      // Ranges are sorted by first but may nest: the lowest that is still ahead or under way.
      for (let i = taken; i < reserved.length; i++) {
        const candidate = reserved[i]!;
        if (block && candidate.first >= block.first) break;
        if (candidate.last >= next) block = candidate;
      }
      const area = areas.boundsFrom(next);
      const areaStart = area?.start ?? ulongMax + 1n;
      const blockStart = block?.first ?? ulongMax + 1n;
      const used = areaStart < blockStart ? areaStart : blockStart;
      if (used > next) {
        const end = used - 1n < last ? used - 1n : last;
        const found = fit(next, end, length, alignment, offset & pageMask);
        if (found !== undefined) return found;
      }
      if (used > last) break;
      next = (areaStart <= blockStart ? area!.last : block!.last) + 1n;
    }
  }
  return undefined;
}
