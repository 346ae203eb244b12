/** Statistics registers (§10.2.7): they stop at their maximum; sizes count the FCS, which frames here do not carry. */
import { at } from './registers.ts';

export const fcsBytes = 4;

export const bump = (words: Uint32Array, index: number): void => {
  if (words[index]! !== 0xffff_ffff) words[index]!++;
};

/** Adds to a 64-bit pair whose high half follows the low one. */
const grow = (words: Uint32Array, low: number, amount: number): void => {
  const sum = words[low]! + amount;
  if (sum <= 0xffff_ffff) {
    words[low] = sum;
    return;
  }
  if (words[low + 1] === 0xffff_ffff) {
    words[low] = 0xffff_ffff;
    return;
  }
  words[low] = sum >>> 0;
  words[low + 1]!++;
};

/** Index of the size bucket from the register for 64 bytes: 64, 127, 255, 511, 1023, 1522. */
const bucket = (bytes: number): number =>
  bytes <= 64 ? 0 : bytes <= 127 ? 1 : bytes <= 255 ? 2 : bytes <= 511 ? 3 : bytes <= 1023 ? 4 : 5;

const isGroup = (frame: Uint8Array): boolean => (frame[0]! & 1) !== 0;
const isBroadcast = (frame: Uint8Array): boolean =>
  (frame[0]! & frame[1]! & frame[2]! & frame[3]! & frame[4]! & frame[5]!) === 0xff;

export const countSent = (words: Uint32Array, frame: Uint8Array): void => {
  const bytes = frame.length + fcsBytes;
  bump(words, at.PTC64 + bucket(bytes));
  bump(words, at.TPT);
  bump(words, at.GPTC);
  grow(words, at.TOTL, bytes);
  grow(words, at.GOTCL, bytes);
  if (isGroup(frame)) bump(words, isBroadcast(frame) ? at.BPTC : at.MPTC);
};

/** Every frame that arrives, before filtering (§10.2.7, TPR and TOR). */
export const countArrived = (words: Uint32Array, frame: Uint8Array): void => {
  bump(words, at.TPR);
  grow(words, at.TORL, frame.length + fcsBytes);
};

/** Frames that passed the filters and were stored. */
export const countReceived = (words: Uint32Array, frame: Uint8Array): void => {
  const bytes = frame.length + fcsBytes;
  bump(words, at.PRC64 + bucket(bytes));
  bump(words, at.GPRC);
  grow(words, at.GORCL, bytes);
  if (isGroup(frame)) bump(words, isBroadcast(frame) ? at.BPRC : at.MPRC);
};

/** Reading the high half of a 64-bit counter clears both (§10.2.7). */
export const readHighAndClear =
  (words: Uint32Array) =>
  (index: number): number => {
    const value = words[index]!;
    words[index] = 0;
    words[index - 1] = 0;
    return value;
  };
