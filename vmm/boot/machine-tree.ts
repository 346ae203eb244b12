import { zeroBlockBytes } from '#vmm/base/isa-extensions';
import { interruptFileBytes } from '../irq/imsic.ts';
import type { PropertyValue, TreeNode } from './device-tree.ts';

interface Range {
  /** Guest-physical. */
  readonly base: number;
  readonly bytes: number;
}

/** What a guest is told of its machine. */
export interface MachineDescription {
  readonly harts: number;
  readonly memory: Range;
  /** Names for `riscv,isa-extensions`; only what is really there, since a guest uses all it is promised. */
  readonly isaExtensions: readonly string[];
  readonly mmu: 'sv39' | 'sv48' | 'sv57';
  /** Ticks of the `time` CSR a second. */
  readonly timebaseHz: number;
  readonly uart: Range;
  readonly finisher: Range;
  /** Supervisor-level interrupt files: hart h's page at base + h * 4 KiB. */
  readonly imsic: { readonly base: number; readonly identities: number };
  /**
   * An IOMMU that translates for every PCI function: a platform device, or itself the PCI function 0 of a device of bus
   * 0, for which it does not translate.
   */
  readonly iommu?: Range | { readonly slot: number };
  readonly pci: {
    readonly ecam: Range;
    readonly windows: { readonly io: Range; readonly memory32: Range; readonly memory64: Range };
  };
  readonly chosen?: {
    readonly bootargs?: string;
    /** `end` is exclusive. */
    readonly initrd?: { readonly first: number; readonly end: number };
  };
}

const phandles = { finisher: 1, imsic: 2, iommu: 3, firstHart: 0x100 } as const;
const supervisorExternalInterrupt = 9;
/**
 * The transmitter is always ready, however many bytes a driver writes at once. Linux polls a UART without an interrupt
 * each time it expects one FIFO to have drained at the line's speed: a deep FIFO and a fast line make the console quick.
 */
const uartLine = { clockHz: 14_745_600, baud: 921_600, fifoBytes: 256 } as const;
/** PCI bus binding to IEEE 1275 §2.2.1.1: the address space code in 25:24 of the first address cell. */
const pciSpaces = { io: 0x0100_0000, memory32: 0x0200_0000, memory64: 0x0300_0000 } as const;

const wide = (value: number): bigint => BigInt(value);
const reg = ({ base, bytes }: Range): bigint[] => [wide(base), wide(bytes)];
const at = (name: string, address: number): string => `${name}@${address.toString(16)}`;

/**
 * The device tree of the machine: IMSIC only, no PLIC, no wires. Property names and meanings are those of the
 * bindings in Linux, Documentation/devicetree/bindings/{riscv,serial,interrupt-controller,iommu,pci}.
 */
export function machineTree(machine: MachineDescription): TreeNode {
  const { memory, uart, finisher, chosen = {} } = machine;
  return {
    properties: {
      '#address-cells': 2,
      '#size-cells': 2,
      compatible: 'riscv-virtio',
      model: 'iommulab,virt',
    },
    children: {
      chosen: { properties: chosenProperties(machine, chosen) },
      [at('memory', memory.base)]: { properties: { device_type: 'memory', reg: reg(memory) } },
      cpus: cpus(machine),
      poweroff: syscon('syscon-poweroff', 0x5555),
      reboot: syscon('syscon-reboot', 0x7777),
      soc: {
        properties: { '#address-cells': 2, '#size-cells': 2, compatible: 'simple-bus', ranges: true },
        children: {
          [at('test', finisher.base)]: {
            properties: {
              compatible: ['sifive,test1', 'sifive,test0', 'syscon'],
              reg: reg(finisher),
              phandle: phandles.finisher,
            },
          },
          [at('serial', uart.base)]: {
            properties: {
              compatible: 'ns16550a',
              reg: reg(uart),
              'clock-frequency': uartLine.clockHz,
              'current-speed': uartLine.baud,
              'fifo-size': uartLine.fifoBytes,
              'tx-threshold': 1,
            },
          },
          ...iommu(machine),
          [at('interrupt-controller', machine.imsic.base)]: imsic(machine),
          [at('pci', machine.pci.ecam.base)]: pci(machine),
        },
      },
    },
  };
}

function chosenProperties(
  { uart }: MachineDescription,
  { bootargs, initrd }: NonNullable<MachineDescription['chosen']>,
): Record<string, PropertyValue> {
  return {
    'stdout-path': `/soc/${at('serial', uart.base)}:${uartLine.baud}n8`,
    ...(bootargs === undefined ? {} : { bootargs }),
    ...(initrd ? { 'linux,initrd-start': wide(initrd.first), 'linux,initrd-end': wide(initrd.end) } : {}),
  };
}

/** A one-register action on the test finisher, as Linux powers off and reboots. */
const syscon = (compatible: string, value: number): TreeNode => ({
  properties: { compatible, regmap: phandles.finisher, offset: 0, value },
});

const hartPhandle = (hart: number): number => phandles.firstHart + hart;

function cpus({ harts, isaExtensions, mmu, timebaseHz }: MachineDescription): TreeNode {
  const cpu = (hart: number): TreeNode => ({
    properties: {
      device_type: 'cpu',
      reg: hart,
      status: 'okay',
      compatible: 'riscv',
      'riscv,isa-base': 'rv64i',
      'riscv,isa-extensions': isaExtensions,
      'mmu-type': `riscv,${mmu}`,
      ...(isaExtensions.includes('zicboz') ? { 'riscv,cboz-block-size': zeroBlockBytes } : {}),
    },
    children: {
      'interrupt-controller': {
        properties: {
          '#interrupt-cells': 1,
          '#address-cells': 0,
          'interrupt-controller': true,
          compatible: 'riscv,cpu-intc',
          phandle: hartPhandle(hart),
        },
      },
    },
  });
  const nodes = Array.from({ length: harts }, (_, hart) => [at('cpu', hart), cpu(hart)] as const);
  return {
    properties: { '#address-cells': 1, '#size-cells': 0, 'timebase-frequency': timebaseHz },
    children: Object.fromEntries(nodes),
  };
}

function imsic({ harts, imsic }: MachineDescription): TreeNode {
  const targets = Array.from({ length: harts }, (_, hart) => [hartPhandle(hart), supervisorExternalInterrupt]);
  return {
    properties: {
      compatible: ['qemu,imsics', 'riscv,imsics'],
      reg: reg({ base: imsic.base, bytes: harts * interruptFileBytes }),
      'interrupt-controller': true,
      '#interrupt-cells': 0,
      '#address-cells': 0,
      'msi-controller': true,
      '#msi-cells': 0,
      'interrupts-extended': targets.flat(),
      'riscv,num-ids': imsic.identities,
      phandle: phandles.imsic,
    },
  };
}

function iommu({ iommu }: MachineDescription): Record<string, TreeNode> {
  if (!iommu || 'slot' in iommu) return {};
  const node: TreeNode = {
    properties: {
      compatible: 'riscv,iommu',
      reg: reg(iommu),
      '#iommu-cells': 1,
      'msi-parent': phandles.imsic,
      phandle: phandles.iommu,
    },
  };
  return { [at('iommu', iommu.base)]: node };
}

/** Requester ids of a PCI segment. */
const allRids = 0x10000;

/** iommu-map: ranges of requester ids, and the IOMMU that sees them as they are. */
function iommuMap(iommu: NonNullable<MachineDescription['iommu']>): number[] {
  const range = (first: number, end: number): number[] => [first, phandles.iommu, first, end - first];
  if (!('slot' in iommu)) return range(0, allRids);
  const own = iommu.slot << 3;
  return [...range(0, own), ...range(own + 1, allRids)];
}

/** The node of an IOMMU that is a PCI function: `reg` names it by its place in the configuration space. */
function pciIommu(iommu: MachineDescription['iommu']): Record<string, TreeNode> {
  if (!iommu || !('slot' in iommu)) return {};
  const properties = {
    compatible: ['pci1b36,14', 'riscv,pci-iommu'],
    reg: [iommu.slot << 11, 0, 0, 0, 0],
    '#iommu-cells': 1,
    phandle: phandles.iommu,
  };
  return { [at('iommu', iommu.slot)]: { properties } };
}

function pci({ pci: { ecam, windows }, iommu }: MachineDescription): TreeNode {
  const { io, memory32, memory64 } = windows;
  // Space code, PCI address, CPU address, size. I/O space starts at 0 on PCI's side.
  const range = (space: number, pciBase: number, { base, bytes }: Range): (number | bigint)[] => [
    space,
    wide(pciBase),
    wide(base),
    wide(bytes),
  ];
  const busMiB = Math.floor(ecam.bytes / (1 << 20));
  return {
    properties: {
      compatible: 'pci-host-ecam-generic',
      device_type: 'pci',
      reg: reg(ecam),
      '#address-cells': 3,
      '#size-cells': 2,
      '#interrupt-cells': 1,
      'bus-range': [0, busMiB - 1],
      'linux,pci-domain': 0,
      'dma-coherent': true,
      ranges: [
        ...range(pciSpaces.io, 0, io),
        ...range(pciSpaces.memory32, memory32.base, memory32),
        ...range(pciSpaces.memory64, memory64.base, memory64),
      ],
      'msi-parent': phandles.imsic,
      ...(iommu ? { 'iommu-map': iommuMap(iommu) } : {}),
    },
    children: pciIommu(iommu),
  };
}
