import type { HostMemory } from '#vmm/base/memory';
import { type Data, SavedError } from '#vmm/base/saved';
import { type EngineLayout, tlbEntryShift } from './layout.ts';

/** Words of an entry that is kept: its place, its tag, and its addend relative to guest RAM. */
const keptWords = 4;

/** A hart's data TLB. */
export interface TlbPlace {
  readonly memory: HostMemory;
  readonly layout: EngineLayout;
  /** The hart's block. */
  readonly hart: number;
}

/**
 * Cached translations of data, as a snapshot holds them: a guest that forgot an sfence.vma goes on using what it used.
 * The TLB of code is not in it, since it leads to predecoded code, which is not either.
 */
export const saveTlb = ({ memory, layout, hart }: TlbPlace): Data => {
  const kept: number[] = [];
  const first = (hart + layout.dataTlb) >> 2;
  const entries = (layout.fetchTlb - layout.dataTlb) >> tlbEntryShift;
  for (let i = 0; i < entries; i++) {
    const at = first + i * 4;
    const [low, high, addend] = [memory.i32[at]!, memory.i32[at + 1]!, memory.i32[at + 2]!];
    if (low !== -1 || high !== -1) kept.push(i, low, high, (addend - memory.guestBase) | 0);
  }
  return Int32Array.from(kept);
};

export const restoreTlb = ({ memory, layout, hart }: TlbPlace, data: Data): void => {
  const entries = (layout.fetchTlb - layout.dataTlb) >> tlbEntryShift;
  if (!(data instanceof Int32Array) || data.length % keptWords !== 0) throw new SavedError('expected entries of a TLB');
  memory.bytes.fill(0xff, hart + layout.dataTlb, hart + layout.fetchTlb);
  for (let i = 0; i < data.length; i += keptWords) {
    const place = data[i]!;
    if (place < 0 || place >= entries) throw new SavedError(`there is no entry ${place}`);
    const at = ((hart + layout.dataTlb) >> 2) + place * 4;
    memory.i32[at] = data[i + 1]!;
    memory.i32[at + 1] = data[i + 2]!;
    memory.i32[at + 2] = (data[i + 3]! + memory.guestBase) | 0;
  }
};
