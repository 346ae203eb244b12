/** The range that an Invalidate Request names (PCI Express Base 6.0 §10.3.1, §10.2.3.2). */

export interface InvalidatedRange {
  hi: number;
  lo: number;
  /** log2 bytes; 64 is everything. */
  shift: number;
  /** Global Invalidate (§10.3.8): whatever the PASID. */
  isGlobal: boolean;
}

const sizeBit = 1 << 11;
const globalBit = 1;

/**
 * Decodes a message body into `out`. With S clear the range is one 4 KiB page; with S set the lowest clear address bit
 * from 12 up gives its size: bit n clear means 2^(n + 1) bytes. All set means everything.
 */
export const decodeRange = (hi: number, lo: number, out: InvalidatedRange): InvalidatedRange => {
  let shift = 12;
  if ((lo & sizeBit) !== 0) {
    let bit = 12;
    while (bit < 64 && (bit < 32 ? (lo >>> bit) & 1 : (hi >>> (bit - 32)) & 1) === 1) bit++;
    shift = Math.min(64, bit + 1);
  }
  out.shift = shift;
  out.hi = alignHigh(hi, shift);
  out.lo = alignLow(lo, shift);
  out.isGlobal = (lo & globalBit) !== 0;
  return out;
};

/** Low half of an address, aligned down to 2^shift bytes. */
export const alignLow = (lo: number, shift: number): number => (shift >= 32 ? 0 : ((lo >>> shift) << shift) >>> 0);
/** High half of an address, aligned down to 2^shift bytes. */
export const alignHigh = (hi: number, shift: number): number =>
  shift >= 64 ? 0 : shift <= 32 ? hi >>> 0 : ((hi >>> (shift - 32)) << (shift - 32)) >>> 0;
