/** Which frames the adapter takes (§7.1.1): exact addresses, the multicast hash, broadcast, promiscuity, VLANs, pause frames. */
import { RAH, RCTL, at } from './registers.ts';

const addresses = 16;
/** Bits of the destination address that index the multicast table, by RCTL.MO (§10.2.5.1). */
const hashShift = [4, 3, 2, 0];

/** Hash of a group address in the 4096-bit multicast table. */
export const multicastHash = (frame: Uint8Array, mo: number): number =>
  ((frame[4]! | (frame[5]! << 8)) >>> hashShift[mo & 3]!) & 0xfff;

const isTagged = (words: Uint32Array, frame: Uint8Array): boolean => ((frame[12]! << 8) | frame[13]!) === words[at.VET];

const isPause = (frame: Uint8Array): boolean =>
  frame[12] === 0x88 && frame[13] === 0x08 && frame[0] === 0x01 && frame[1] === 0x80 && frame[2] === 0xc2;

/** True when the frame (at least 60 bytes) is to be stored. */
export const accepts = (words: Uint32Array, frame: Uint8Array): boolean => {
  const rctl = words[at.RCTL]!;
  if ((rctl & RCTL.VFE) !== 0 && isTagged(words, frame)) {
    const id = ((frame[14]! & 0xf) << 8) | frame[15]!;
    if (((words[at.VFTA + (id >>> 5)]! >>> (id & 31)) & 1) === 0) return false;
  }
  if (isPause(frame)) return (rctl & RCTL.PMCF) !== 0 && (rctl & RCTL.DPF) === 0;
  if ((frame[0]! & 1) === 0) {
    if ((rctl & RCTL.UPE) !== 0) return true;
  } else {
    if ((rctl & RCTL.MPE) !== 0) return true;
    if ((frame[0]! & frame[1]! & frame[2]! & frame[3]! & frame[4]! & frame[5]!) === 0xff)
      return (rctl & RCTL.BAM) !== 0;
  }
  const lo = (frame[0]! | (frame[1]! << 8) | (frame[2]! << 16) | (frame[3]! << 24)) >>> 0;
  const hi = frame[4]! | (frame[5]! << 8);
  for (let i = 0; i < addresses; i++) {
    const high = words[at.RAH + 2 * i]!;
    if (words[at.RAL + 2 * i] === lo && (high & RAH.ADDR) === hi && (high & RAH.AV) !== 0 && (high & RAH.ASEL) === 0)
      return true;
  }
  if ((frame[0]! & 1) === 0) return false;
  const hash = multicastHash(frame, (rctl & RCTL.MO) >>> 12);
  return ((words[at.MTA + (hash >>> 5)]! >>> (hash & 31)) & 1) !== 0;
};

/** True when RCTL and CTRL.VME make the adapter take the tag out of this frame (§7.5.2). */
export const hasVlanTag = isTagged;
