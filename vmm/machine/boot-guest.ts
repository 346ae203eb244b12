import { encodeDeviceTree } from '../boot/device-tree.ts';
import type { ProgramImage } from '../boot/elf.ts';
import { machineTree } from '../boot/machine-tree.ts';
import type { MachineConfig } from '../config/schema.ts';
import type { Hart } from '../cpu/riscv/hart.ts';
import { MachineError } from './machine-error.ts';
import type { GuestMemory } from './guest-memory.ts';
import { interruptIds, layout, timebaseHz } from './layout.ts';

/** What the harts implement, as the device tree says it. */
const isaExtensions = ['i', 'm', 'a', 'f', 'd', 'c', 'zicsr', 'zifencei', 'zicntr', 'ssaia', 'sstc'] as const;

export interface BootOptions {
  readonly config: MachineConfig;
  readonly image: ProgramImage;
  readonly guestMemory: GuestMemory;
  readonly hart: Hart;
  readonly hasIommu: boolean;
}

/** Puts the program and the device tree into RAM and the boot hart at its entry: a0 = hart id, a1 = device tree. */
export const loadGuest = ({ config, image, guestMemory, hart, hasIommu }: BootOptions): void => {
  const memory = { base: layout.ram.base, bytes: config.memory };
  const { uart, finisher, imsic, iommu, ecam, pciIo, pci32, pci64 } = layout;
  const tree = encodeDeviceTree(
    machineTree({
      harts: config.smp,
      memory,
      isaExtensions,
      mmu: 'sv57',
      timebaseHz,
      uart,
      finisher,
      imsic: { base: imsic.base, identities: interruptIds },
      ...(hasIommu ? { iommu } : {}),
      pci: { ecam, windows: { io: pciIo, memory32: pci32, memory64: pci64 } },
      chosen: config.cmdline === undefined ? {} : { bootargs: config.cmdline },
    }),
  );
  // At the end of RAM, where no program is, and below 4 KiB of slack.
  const treeAt = memory.base + memory.bytes - Math.ceil(tree.length / 4096) * 4096;
  for (const { address, memoryBytes } of image.segments)
    if (address + memoryBytes > treeAt)
      throw new MachineError([
        `memory: expected room for a device tree of ${tree.length} bytes above the program, found none`,
      ]);
  for (const { address, bytes, memoryBytes } of image.segments) {
    const target = guestMemory.bytes(address, memoryBytes)!;
    target.fill(0);
    target.set(bytes);
  }
  guestMemory.bytes(treeAt, tree.length)!.set(tree);
  hart.reset(image.entry, 0, treeAt);
};
