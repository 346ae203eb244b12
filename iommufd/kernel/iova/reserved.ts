import { hiHalf, loHalf } from '#vmm/base/address';
import { type IovaRange, ulongMax } from './hole.ts';

interface Reserved extends IovaRange {
  readonly owner: unknown;
  /** The bounds as halves. */
  readonly firstHi: number;
  readonly firstLo: number;
  readonly endHi: number;
  readonly endLo: number;
}

/** True where one of the ranges (sorted by first) has an IOVA of first … last. */
export function anyTouches(ranges: readonly IovaRange[], first: bigint, last: bigint): boolean {
  for (const range of ranges) {
    if (range.first > last) return false;
    if (range.last >= first) return true;
  }
  return false;
}

/** IOVAs that cannot be mapped, with who forbids them: a domain's aperture, a device's regions. They may overlap. */
export class ReservedRanges {
  /** Sorted by first. */
  #ranges: readonly Reserved[] = [];

  get ranges(): readonly IovaRange[] {
    return this.#ranges;
  }

  add(first: bigint, last: bigint, owner: unknown): void {
    const at = this.#ranges.findIndex((range) => range.first > first);
    const range = {
      first,
      last,
      owner,
      firstHi: hiHalf(first),
      firstLo: loHalf(first),
      endHi: hiHalf(last),
      endLo: loHalf(last),
    };
    this.#ranges = this.#ranges.toSpliced(at < 0 ? this.#ranges.length : at, 0, range);
  }
  remove(owner: unknown): void {
    this.#ranges = this.#ranges.filter((range) => range.owner !== owner);
  }

  /** True where one of them has an IOVA of the interval, given in halves. */
  touch(hi: number, lo: number, lastHi: number, lastLo: number): boolean {
    for (const range of this.#ranges) {
      const { firstHi, endHi } = range;
      if (firstHi > lastHi || (firstHi === lastHi && range.firstLo > lastLo)) return false;
      if (endHi > hi || (endHi === hi && range.endLo >= lo)) return true;
    }
    return false;
  }

  /** The holes between them, in order: the IOVAs that are valid. */
  holes(): IovaRange[] {
    const out: IovaRange[] = [];
    let next = 0n;
    for (const { first, last } of this.#ranges) {
      if (first > next) out.push({ first: next, last: first - 1n });
      if (last >= next) next = last + 1n;
    }
    if (next <= ulongMax) out.push({ first: next, last: ulongMax });
    return out;
  }
}
