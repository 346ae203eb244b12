import { register } from '#vmm/base/bits';

const spec = (name: string): string => `NS16550A data sheet, ${name}`;

export const ier = register({
  width: 8,
  spec: spec('Interrupt Enable Register'),
  fields: { erbfi: { bits: 0 }, etbei: { bits: 1 }, elsi: { bits: 2 }, edssi: { bits: 3 } },
});
export const ierBits = { received: 1, transmitEmpty: 2, lineStatus: 4, modemStatus: 8 } as const;

/** IIR 3:0 by priority, highest first; 1 = nothing pending. */
// prettier-ignore
export const causes = { lineStatus: 0b0110, received: 0b0100, transmitEmpty: 0b0010, modemStatus: 0b0000, none: 0b0001 } as const;
/** IIR 7:6 while the FIFOs are on. */
export const fifosEnabled = 0xc0;

/** FCR bits; the register is write-only. */
export const fcrBits = { enable: 1, clearReceive: 2 } as const;

export const lcrDlab = 0x80;

export const mcr = register({
  width: 8,
  spec: spec('MODEM Control Register'),
  fields: { dtr: { bits: 0 }, rts: { bits: 1 }, out1: { bits: 2 }, out2: { bits: 3 }, loop: { bits: 4 } },
});
export const mcrBits = { dtr: 1, rts: 2, out1: 4, out2: 8, loop: 16 } as const;

export const lsrBits = { dataReady: 1, overrun: 2, transmitHoldingEmpty: 0x20, transmitterEmpty: 0x40 } as const;
export const msrBits = { cts: 0x10, dsr: 0x20, ri: 0x40, dcd: 0x80 } as const;
