/** Internet checksum (RFC 1071), Ethernet FCS, and the Toeplitz hash of receive side scaling. */

/** 32-bit words of the buffer summed last; frames of one adapter mostly lie in one memory. */
let words: Uint32Array = new Uint32Array(0);
const shortest = 64;

/** One's complement sum of 16-bit big-endian words, not yet folded; an odd last byte counts as the high half. */
export const addWords = (bytes: Uint8Array, first: number, end: number, seed: number): number => {
  let sum = seed;
  let i = first;
  if (end - first >= shortest && ((bytes.byteOffset + first) & 1) === 0) {
    if (((bytes.byteOffset + i) & 2) !== 0) {
      sum += (bytes[i]! << 8) + bytes[i + 1]!;
      i += 2;
    }
    if (words.buffer !== bytes.buffer) words = new Uint32Array(bytes.buffer, 0, bytes.buffer.byteLength >>> 2);
    const from = (bytes.byteOffset + i) >>> 2;
    const to = from + ((end - i) >>> 2);
    // RFC 1071 §2 (B): the sum of byte-swapped words is the byte-swapped sum. Four sums, exact in a double, run in parallel.
    let a = 0;
    let b = 0;
    let c = 0;
    let d = 0;
    let w = from;
    for (; w + 4 <= to; w += 4) {
      a += words[w]!;
      b += words[w + 1]!;
      c += words[w + 2]!;
      d += words[w + 3]!;
    }
    for (; w < to; w++) a += words[w]!;
    const swapped = fold(a + b + c + d);
    sum += ((swapped & 0xff) << 8) | (swapped >>> 8);
    i += (to - from) * 4;
  }
  for (; i + 2 <= end; i += 2) sum += (bytes[i]! << 8) + bytes[i + 1]!;
  if (i < end) sum += bytes[i]! << 8;
  return sum;
};

/** Folds a sum (below 2^48) to 16 bits. */
export const fold = (sum: number): number => {
  const high = Math.floor(sum / 0x1_0000_0000);
  const low = (sum - high * 0x1_0000_0000) >>> 0;
  let folded = (low & 0xffff) + (low >>> 16) + high;
  while (folded > 0xffff) folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
};

const crcTable = new Uint32Array(256);
for (let i = 0; i < 256; i++) {
  let c = i;
  for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0xedb8_8320 : c >>> 1;
  crcTable[i] = c;
}
/** Frame check sequence (IEEE 802.3 §3.2.9) of the first `length` bytes, to be stored little-endian. */
export const frameCheck = (bytes: Uint8Array, length: number): number => {
  let crc = 0xffff_ffff;
  for (let i = 0; i < length; i++) crc = crcTable[(crc ^ bytes[i]!) & 0xff]! ^ (crc >>> 8);
  return ~crc >>> 0;
};

/** Toeplitz hash of `length` bytes under the 40-byte key held in registers, byte 0 in the low byte of the first. */
export const toeplitz = (key: Uint32Array, keyAt: number, input: Uint8Array, length: number): number => {
  const keyByte = (i: number): number => (key[keyAt + (i >>> 2)]! >>> ((i & 3) * 8)) & 0xff;
  let window = ((keyByte(0) << 24) | (keyByte(1) << 16) | (keyByte(2) << 8) | keyByte(3)) >>> 0;
  let hash = 0;
  for (let i = 0; i < length; i++) {
    const next = keyByte(i + 4);
    for (let bit = 7; bit >= 0; bit--) {
      if ((input[i]! >>> bit) & 1) hash ^= window;
      window = (window << 1) | ((next >>> bit) & 1);
    }
  }
  return hash >>> 0;
};
