import { extensionNames } from '#vmm/base/isa-extensions';
import { encodeDeviceTree } from '../boot/device-tree.ts';
import type { ProgramImage } from '../boot/elf.ts';
import { type MachineDescription, machineTree } from '../boot/machine-tree.ts';
import type { MachineConfig } from '../config/schema.ts';
import type { Hart } from '../cpu/riscv/hart.ts';
import { MachineError } from './machine-error.ts';
import type { GuestMemory } from './guest-memory.ts';
import { interruptIds, layout, timebaseHz } from './layout.ts';

/** What every hart implements, as the device tree says it. */
const baseExtensions = ['i', 'm', 'a', 'f', 'd', 'c', 'zicsr', 'zifencei', 'zicntr', 'ssaia', 'sstc'] as const;

export interface BootOptions {
  readonly config: MachineConfig;
  readonly image: ProgramImage;
  /** The initial RAM disk. */
  readonly initrd?: Uint8Array | undefined;
  readonly guestMemory: GuestMemory;
  readonly hart: Hart;
  readonly iommu: MachineDescription['iommu'];
}

const pageBytes = 4096;
const downToPage = (address: number): number => address - (address % pageBytes);
const inKiB = (bytes: number): string => `${Math.ceil(bytes / 1024)} KiB`;

/**
 * Puts the program, the initial RAM disk and the device tree into RAM and the boot hart at its entry: a0 = hart id,
 * a1 = device tree. The tree lies at the end of RAM and the RAM disk below it, as far from the program as they can.
 */
export const loadGuest = ({ config, image, initrd, guestMemory, hart, iommu }: BootOptions): void => {
  const memory = { base: layout.ram.base, bytes: config.memory };
  const end = memory.base + memory.bytes;
  const { uart, finisher, imsic, ecam, pciIo, pci32, pci64 } = layout;
  const encode = (initrdAt: number): Uint8Array =>
    encodeDeviceTree(
      machineTree({
        harts: config.smp,
        memory,
        isaExtensions: [...baseExtensions, ...extensionNames.filter((name) => config.cpu[name])],
        mmu: 'sv57',
        timebaseHz,
        uart,
        finisher,
        imsic: { base: imsic.base, identities: interruptIds },
        ...(iommu ? { iommu } : {}),
        pci: { ecam, windows: { io: pciIo, memory32: pci32, memory64: pci64 } },
        chosen: {
          ...(config.append === undefined ? {} : { bootargs: config.append }),
          ...(initrd ? { initrd: { first: initrdAt, end: initrdAt + initrd.length } } : {}),
        },
      }),
    );
  // Where the RAM disk lies changes the tree's contents but not its length.
  const treeBytes = encode(0).length;
  const treeAt = downToPage(end - treeBytes);
  const initrdAt = downToPage(treeAt - (initrd?.length ?? 0));
  const programEnd = Math.max(...image.segments.map(({ address, memoryBytes }) => address + memoryBytes));
  if (programEnd > initrdAt) {
    const free = Math.max(0, end - programEnd);
    throw new MachineError([
      initrd
        ? `an initrd of ${inKiB(initrd.length)} and a device tree of ${treeBytes} bytes do not fit into the ` +
          `${inKiB(free)} of memory above the kernel`
        : `memory: expected room for a device tree of ${treeBytes} bytes above the program, found none`,
    ]);
  }
  for (const { address, bytes, memoryBytes } of image.segments) {
    const target = guestMemory.bytes(address, memoryBytes)!;
    target.set(bytes);
    target.fill(0, bytes.length);
  }
  if (initrd) guestMemory.bytes(initrdAt, initrd.length)!.set(initrd);
  guestMemory.bytes(treeAt, treeBytes)!.set(encode(initrdAt));
  hart.reset(image.entry, 0, treeAt);
};
