import type { Arena, Cell } from './cells.ts';

/** What the engine keeps for a hart between two runs, and across calls within one. */
export interface EngineState {
  /** Instructions until the run loop must look up (`boundary`). A copy lives in a local while instructions run. */
  readonly left: Cell<'i32'>;
  /** Instructions retired when `left` reaches 0: retired now = sliceEnd - left. */
  readonly sliceEnd: Cell<'i64'>;
  /** Instructions retired when `run` must return. */
  readonly runEnd: Cell<'i64'>;
  readonly pc: Cell<'i64'>;
  /** Address of the data TLB bank of the present access rights. */
  readonly bank: Cell<'i32'>;
  readonly fetchBank: Cell<'i32'>;
  /** Code page that `fetch` found, and the virtual address of the page it holds. */
  readonly pageIp: Cell<'i32'>;
  readonly pcPage: Cell<'i64'>;
  /** Not 0: the instruction must trap. */
  readonly fault: Cell<'i32'>;
  /** Physical address of the last slow access. */
  readonly physical: Cell<'i64'>;
  /** What the bus read or is to write. */
  readonly busValue: Cell<'i64'>;
  /** Why `run` must return, or 0. */
  readonly stop: Cell<'i32'>;
  /** Not 0: since this hart's last fence of code, something other than a hart may have written RAM (DMA). */
  readonly foreignWrites: Cell<'i32'>;
  /** Instructions that translations retired. */
  readonly translated: Cell<'i64'>;
  /** Page of guest RAM whose stores are reported, or -1. */
  readonly watchPage: Cell<'i32'>;
}

// prettier-ignore
export const engineState = (arena: Arena): EngineState => ({
  left: arena.i32(), sliceEnd: arena.i64(), runEnd: arena.i64(), pc: arena.i64(), bank: arena.i32(),
  fetchBank: arena.i32(), pageIp: arena.i32(), pcPage: arena.i64(), fault: arena.i32(), physical: arena.i64(),
  busValue: arena.i64(), stop: arena.i32(), foreignWrites: arena.i32(), translated: arena.i64(), watchPage: arena.i32(),
});
