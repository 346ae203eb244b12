/**
 * Extensions that a hart may have or lack: one row each, by the name that the device tree and the configuration use.
 * Instructions and CSR bits of an extension that is off are as if they had never been specified.
 */
export const optionalExtensions = {
  zba: { isDefault: true, doc: 'Zba: addresses by shift and add' },
  zbb: { isDefault: true, doc: 'Zbb: counts, rotations, minimum and maximum, byte order' },
  zbs: { isDefault: true, doc: 'Zbs: single bits' },
  zicond: { isDefault: true, doc: 'Zicond: conditional zero' },
  zicboz: { isDefault: true, doc: 'Zicboz: zero a block of 64 bytes' },
  zawrs: { isDefault: true, doc: 'Zawrs: wait on a reservation' },
  svnapot: { isDefault: true, doc: 'Svnapot: pages of 64 KiB' },
  // Memory types mean nothing to RAM and devices that are always coherent.
  svpbmt: { isDefault: false, doc: 'Svpbmt: memory types in page tables' },
  svadu: { isDefault: false, doc: 'Svadu: the hart sets A and D bits itself' },
} as const satisfies Record<string, { readonly isDefault: boolean; readonly doc: string }>;

export type OptionalExtension = keyof typeof optionalExtensions;
export type Extensions = ReadonlySet<OptionalExtension>;
export const extensionNames = Object.keys(optionalExtensions) as readonly OptionalExtension[];
/** Every one. */
export const allExtensions: Extensions = new Set(extensionNames);

/** Bytes that cbo.zero writes: a cache block. */
export const zeroBlockBytes = 64;
