/** Kinds of access, and what the engine must be told of addresses. */
import { pageBytes } from '#vmm/base/address';
import { tlbEntries, tlbEntryShift } from './layout.ts';
import type { FunctionReference, I32, I64 } from './wasm.ts';
import { i32, i64 } from './wasm.ts';

type Returns<T> = FunctionReference & { result: T };

/** What the instruction set tells the engine about addresses. Each sets `state.fault` where it fails. */
export interface AddressSpace {
  /** (virtual i64, access i32) → physical. */
  readonly translate: Returns<'i64'>;
  /** (virtual i64, access i32): there is nothing at the physical address, or it refused. */
  readonly accessFault: Returns<'void'>;
  /** (virtual i64, access i32): misaligned where that is not possible. */
  readonly misaligned: Returns<'void'>;
}
export const access = { read: 0, write: 1, fetch: 2 } as const;

/** Where things of a hart and of the guest's RAM begin: RAM as the guest and as host memory counts. */
export interface Place {
  readonly hart: number;
  readonly ramBase: number;
  readonly guestBase: number;
}

export const tagMask = i64.const(-pageBytes);
/** Offset of an address's entry in a TLB. */
export const tlbIndex = (address: I64): I32 =>
  i32.and(i32.shrU(i32.wrap(address), i32.const(12 - tlbEntryShift)), i32.const((tlbEntries - 1) << tlbEntryShift));
