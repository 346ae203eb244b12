import { status } from './status.ts';
import type { Dma, ScatterList } from './transfer.ts';

/** One page of PRP entries at the largest page size. */
const page = new Uint8Array(65536);
const view = new DataView(page.buffer);

/**
 * Physical Region Pages (NVMe 1.4 §4.3): appends where `length` bytes of the command's data lie.
 * Terminates for any memory contents: every list page after the first has offset 0 and so yields at least one entry.
 * @param dw the submission queue entry: PRP1 in dwords 6 and 7, PRP2 in 8 and 9
 * @returns a status field
 */
export const parsePrp = (dma: Dma, list: ScatterList, dw: Int32Array, length: number, pageShift: number): number => {
  const pageBytes = 2 ** pageShift;
  const mask = pageBytes - 1;
  const firstLo = dw[6]! >>> 0;
  if (firstLo & 3) return status.PRP_OFFSET_INVALID;
  const first = Math.min(length, pageBytes - (firstLo & mask));
  list.add(dw[7]! >>> 0, firstLo, first);
  let left = length - first;
  if (left === 0) return status.SUCCESS;

  let hi = dw[9]! >>> 0;
  let lo = dw[8]! >>> 0;
  if (left <= pageBytes) {
    if (lo & mask) return status.PRP_OFFSET_INVALID;
    list.add(hi, lo, left);
    return status.SUCCESS;
  }
  if (lo & 7) return status.PRP_OFFSET_INVALID;
  for (;;) {
    const slots = (pageBytes - (lo & mask)) >> 3;
    const pages = Math.ceil(left / pageBytes);
    // Where the list does not fit its page, the last slot points to the next page of it.
    const isChained = pages > slots;
    const entries = isChained ? slots - 1 : pages;
    if (!dma.load(hi, lo, page, Math.min(slots, pages) * 8, list.pasid)) return status.DATA_TRANSFER_ERROR;
    for (let i = 0; i < entries; i++) {
      const entryLo = view.getUint32(i * 8, true);
      if (entryLo & mask) return status.PRP_OFFSET_INVALID;
      const chunk = Math.min(left, pageBytes);
      if (!list.add(view.getUint32(i * 8 + 4, true), entryLo, chunk)) return status.INVALID_FIELD;
      left -= chunk;
    }
    if (!isChained) return status.SUCCESS;
    lo = view.getUint32(entries * 8, true);
    hi = view.getUint32(entries * 8 + 4, true);
    if (lo & mask) return status.PRP_OFFSET_INVALID;
  }
};
