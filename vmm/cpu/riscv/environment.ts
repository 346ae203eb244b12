import type { Extensions, OptionalExtension } from '#vmm/base/isa-extensions';

/** Bits of menvcfg (privileged ISA §3.1.18) that an extension brings. */
export const environmentBits = {
  svpbmt: 1n << 62n,
  svadu: 1n << 61n,
  zicboz: 1n << 7n,
} as const satisfies Partial<Record<OptionalExtension, bigint>>;
/** Those of what the hart has. */
export const environmentMask = (extensions: Extensions): bigint =>
  Object.entries(environmentBits).reduce(
    (mask, [name, bit]) => (extensions.has(name as OptionalExtension) ? mask | bit : mask),
    0n,
  );
