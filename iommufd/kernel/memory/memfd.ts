import { pageBytes } from '#vmm/base/address';
import { errno } from '#vmm/base/errno';
import { OpenFile } from '../file.ts';
import { type Backing, RangeBacking, ScatteredBacking } from './backing.ts';
import type { PhysicalMemory } from './physical.ts';
import type { RunList } from './process-memory.ts';

/** memfd_create flags. */
export const memfdFlags = { cloexec: 1, allowSealing: 2, hugetlb: 4 } as const;

/** A file in memory: anonymous pages, or a slice of host memory (guest RAM shared between processes). */
export class Memfd extends OpenFile {
  readonly backing: Backing;
  #bytes: number;

  constructor(physical: PhysicalMemory, flags: number, range?: { readonly hpa: number; readonly bytes: number }) {
    super();
    this.#bytes = range?.bytes ?? 0;
    this.backing = range
      ? new RangeBacking(
          range.hpa,
          range.bytes / pageBytes,
          physical.host?.bytes.subarray(range.hpa, range.hpa + range.bytes),
        )
      : new ScatteredBacking(physical, 0, flags & memfdFlags.hugetlb ? 512 : 1);
  }

  get bytes(): number {
    return this.#bytes;
  }

  truncate(bytes: number): number {
    const { backing } = this;
    if (!(backing instanceof ScatteredBacking) || bytes < 0) return -errno.EINVAL;
    if (backing.blockPages > 1 && bytes % (backing.blockPages * pageBytes) !== 0) return -errno.EINVAL;
    this.#bytes = bytes;
    backing.resize(Math.ceil(bytes / pageBytes));
    return 0;
  }

  /** memfd_pin_folios: EINVAL beyond the end of the file, to the byte. Seals do not matter to it. */
  resolve(first: number, count: number, _write: boolean, runs: RunList): number {
    const { backing } = this;
    if ((first + count) * pageBytes > this.#bytes) return errno.EINVAL;
    for (let index = first; index < first + count;) {
      const run = backing.contiguous(index, first + count - index);
      runs.add(backing.hpa(index), run);
      index += run;
    }
    return 0;
  }
}
