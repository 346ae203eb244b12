/**
 * Address kinds never mix: Iova → (stage 1) → Gpa → (stage 2) → Hpa.
 * Physical addresses are numbers (exact below 2^53); full 64-bit device addresses travel as two unsigned
 * 32-bit halves (`hi`, `lo`) on hot paths and as bigint at the edges (uAPI structures, traces, reports).
 */
type Branded<T, Name extends string> = T & { readonly __kind: Name };

/** Host-physical byte address: an offset in host memory's linear memory, or above it for host MMIO. */
export type Hpa = Branded<number, 'Hpa'>;
/** PCI requester id: bus 15:8, device 7:3, function 2:0. */
export type Rid = Branded<number, 'Rid'>;

export const hpa = (address: number): Hpa => address as Hpa;
export const rid = (id: number): Rid => id as Rid;

export const pageBytes = 4096;

/** Joins two unsigned halves into a bigint. */
export const wide = (hi: number, lo: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
/** High 32 bits of a 64-bit value, unsigned. */
export const hiHalf = (value: bigint): number => Number((value >> 32n) & 0xffff_ffffn);
/** Low 32 bits of a 64-bit value, unsigned. */
export const loHalf = (value: bigint): number => Number(value & 0xffff_ffffn);

/** `0x…` spelling of an address or register value, for people and traces. */
export const hex = (value: number | bigint, digits = 0): string => `0x${value.toString(16).padStart(digits, '0')}`;

/** `bus:device.function` as lspci spells it. */
export const bdf = (id: number): string =>
  `${(id >>> 8).toString(16).padStart(2, '0')}:${((id >>> 3) & 31).toString(16).padStart(2, '0')}.${id & 7}`;
