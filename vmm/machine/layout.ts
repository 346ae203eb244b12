/**
 * Guest-physical addresses of the default machine: QEMU's `virt` (hw/riscv/virt.c memory map), so that a guest finds
 * the same things at the same places on both.
 *
 *   0x0010_0000  finisher     0x0300_0000  PCI I/O    0x0301_0000  IOMMU      0x1000_0000  UART      0x2800_0000  IMSIC, a page a hart
 *   0x3000_0000  ECAM         0x4000_0000  PCI 32-bit window                 0x8000_0000  RAM
 *   0x4_0000_0000  PCI 64-bit window
 */
export interface Region {
  readonly base: number;
  readonly bytes: number;
  readonly doc: string;
}

// prettier-ignore
export const layout = {
  finisher: { base: 0x0010_0000,   bytes: 0x1000,        doc: 'test finisher: power off, reset, pass or fail' },
  pciIo:    { base: 0x0300_0000,   bytes: 0x1_0000,      doc: 'PCI I/O window' },
  iommu:    { base: 0x0301_0000,   bytes: 0x1000,        doc: 'RISC-V IOMMU register page' },
  uart:     { base: 0x1000_0000,   bytes: 0x100,         doc: 'ns16550a' },
  imsic:    { base: 0x2800_0000,   bytes: 0x8000,        doc: 'supervisor interrupt files, one page a hart' },
  ecam:     { base: 0x3000_0000,   bytes: 0x1000_0000,   doc: 'PCI Express configuration space' },
  pci32:    { base: 0x4000_0000,   bytes: 0x4000_0000,   doc: 'PCI memory window, 32-bit BARs' },
  ram:      { base: 0x8000_0000,   bytes: 0xc000_0000,   doc: 'guest RAM, as much as configured' },
  pci64:    { base: 0x4_0000_0000, bytes: 0x4_0000_0000, doc: 'PCI memory window, 64-bit BARs' },
} as const satisfies Record<string, Region>;

/** `time` ticks a second (the device tree's timebase-frequency): one tick is 100 ns. */
export const timebaseHz = 10_000_000;
/** Interrupt identities of an interrupt file, 1 … 255. */
export const interruptIds = 255;
