import { status } from './status.ts';
import type { Dma, ScatterList } from './transfer.ts';

/** Descriptor types (NVMe 1.4 §4.4, figure 112); the subtype is 0 for all of them: an address. */
const descriptor = { DATA_BLOCK: 0x00, BIT_BUCKET: 0x10, SEGMENT: 0x20, LAST_SEGMENT: 0x30 } as const;
/**
 * Deviation: the specification knows no limit that a PCI controller could announce. A command with more descriptors
 * than this ends with Invalid Number of SGL Descriptors, which also ends segments that point to themselves.
 */
const maxDescriptors = 1024;
const descriptorBytes = 16;

const page = new Uint8Array(4096);
const view = new DataView(page.buffer);

/** One data block or bit bucket; a status field, or -1 for a segment. */
const addBlock = (
  list: ScatterList,
  type: number,
  hi: number,
  lo: number,
  length: number,
  left: number,
  toHost: boolean,
): number => {
  const used = Math.min(length, left);
  if (type === descriptor.DATA_BLOCK) {
    if (used === 0) return status.SUCCESS;
    return list.add(hi, lo, used) ? status.SUCCESS : status.DATA_TRANSFER_ERROR;
  }
  if (type === descriptor.BIT_BUCKET) {
    // Data to the host may be dropped; data from the host cannot come out of a bucket (§4.4, figure 114).
    if (toHost && used > 0 && !list.skip(used)) return status.INVALID_SGL_COUNT;
    return status.SUCCESS;
  }
  if (type === descriptor.SEGMENT || type === descriptor.LAST_SEGMENT) return -1;
  return status.SGL_TYPE_INVALID;
};

/**
 * Scatter Gather Lists (§4.4): appends where `length` bytes of the command's data lie. More memory than data is allowed
 * (Identify Controller, SGLS bit 18), less is not.
 * @param dw the submission queue entry: the first descriptor is dwords 6 to 9
 * @param toHost the data goes to the host, so that bit buckets take some of it
 * @returns a status field
 */
export const parseSgl = (dma: Dma, list: ScatterList, dw: Int32Array, length: number, toHost: boolean): number => {
  let lo = dw[6]! >>> 0;
  let hi = dw[7]! >>> 0;
  let bytes = dw[8]! >>> 0;
  let type = dw[9]! >>> 24;
  const first = addBlock(list, type, hi, lo, bytes, length, toHost);
  if (first >= 0) {
    if (first !== status.SUCCESS) return first;
    return list.bytes < length ? status.DATA_SGL_LENGTH_INVALID : status.SUCCESS;
  }

  let seen = 0;
  for (;;) {
    if (bytes === 0 || bytes % descriptorBytes !== 0) return status.INVALID_SGL_SEGMENT;
    const isLast = type === descriptor.LAST_SEGMENT;
    let isFollowed = false;
    for (let at = 0; at < bytes;) {
      const chunk = Math.min(page.length, bytes - at);
      const start = lo + at;
      if (!dma.load(start > 0xffff_ffff ? (hi + 1) >>> 0 : hi, start >>> 0, page, chunk, list.pasid))
        return status.DATA_TRANSFER_ERROR;
      for (let i = 0; i < chunk; i += descriptorBytes) {
        if (++seen > maxDescriptors) return status.INVALID_SGL_COUNT;
        type = view.getUint8(i + 15);
        const blockLo = view.getUint32(i, true);
        const blockHi = view.getUint32(i + 4, true);
        const blockBytes = view.getUint32(i + 8, true);
        const added = addBlock(list, type, blockHi, blockLo, blockBytes, length - list.bytes, toHost);
        if (added > 0) return added;
        if (added < 0) {
          // Only at the end of a segment that is not the last one.
          if (isLast || at + i + descriptorBytes !== bytes) return status.INVALID_SGL_SEGMENT;
          hi = blockHi;
          lo = blockLo;
          bytes = blockBytes;
          isFollowed = true;
        }
      }
      if (isFollowed) break;
      at += chunk;
    }
    if (isFollowed) continue;
    // A segment that is not the last one ends with a pointer to the next.
    if (!isLast) return status.INVALID_SGL_SEGMENT;
    return list.bytes < length ? status.DATA_SGL_LENGTH_INVALID : status.SUCCESS;
  }
};
