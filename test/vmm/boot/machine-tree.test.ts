import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { encodeDeviceTree } from '#vmm/boot/device-tree';
import { decodeDeviceTree, type ReadNode } from '#vmm/boot/device-tree-reader';
import { type MachineDescription, machineTree } from '#vmm/boot/machine-tree';

const machine: MachineDescription = {
  harts: 2,
  memory: { base: 0x8000_0000, bytes: 0x800_0000 },
  isaExtensions: ['i', 'm', 'a', 'f', 'd', 'c', 'zicsr', 'zifencei', 'zicntr', 'ssaia', 'sstc'],
  mmu: 'sv57',
  timebaseHz: 10_000_000,
  uart: { base: 0x1000_0000, bytes: 0x100 },
  finisher: { base: 0x10_0000, bytes: 0x1000 },
  imsic: { base: 0x2800_0000, identities: 255 },
  iommu: { base: 0x301_0000, bytes: 0x1000 },
  pci: {
    ecam: { base: 0x3000_0000, bytes: 0x1000_0000 },
    windows: {
      io: { base: 0x300_0000, bytes: 0x1_0000 },
      memory32: { base: 0x4000_0000, bytes: 0x4000_0000 },
      memory64: { base: 0x4_0000_0000, bytes: 0x4_0000_0000 },
    },
  },
  chosen: { bootargs: 'console=ttyS0', initrd: { first: 0x8420_0000, end: 0x8430_0001 } },
};

const read = (description: MachineDescription): ReadNode =>
  decodeDeviceTree(encodeDeviceTree(machineTree(description)));
const find = (node: ReadNode, path: string): ReadNode => {
  let here = node;
  for (const name of path.split('/').filter(Boolean)) {
    const child = here.children.find((candidate) => candidate.name === name);
    if (!child) throw new Error(`no ${name} in ${here.name}`);
    here = child;
  }
  return here;
};
const cells = (node: ReadNode, property: string): number[] => {
  const bytes = node.properties.get(property)!;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length / 4 }, (_, i) => view.getUint32(4 * i));
};
const texts = (node: ReadNode, property: string): string[] =>
  new TextDecoder().decode(node.properties.get(property)).split('\0').slice(0, -1);

describe("the machine's device tree", () => {
  const root = read(machine);

  test('memory, chosen, cpus', () => {
    expect(cells(find(root, 'memory@80000000'), 'reg')).toEqual([0, 0x8000_0000, 0, 0x800_0000]);
    const chosen = find(root, 'chosen');
    expect(texts(chosen, 'stdout-path')).toEqual(['/soc/serial@10000000:921600n8']);
    expect(texts(chosen, 'bootargs')).toEqual(['console=ttyS0']);
    expect(cells(chosen, 'linux,initrd-start')).toEqual([0, 0x8420_0000]);
    expect(cells(chosen, 'linux,initrd-end')).toEqual([0, 0x8430_0001]);
    expect(cells(find(root, 'cpus'), 'timebase-frequency')).toEqual([10_000_000]);
    const cpu = find(root, 'cpus/cpu@1');
    expect(cells(cpu, 'reg')).toEqual([1]);
    expect(texts(cpu, 'mmu-type')).toEqual(['riscv,sv57']);
    expect(texts(cpu, 'riscv,isa-extensions')).toEqual(machine.isaExtensions);
  });

  test('interrupt files of both harts belong to their hart controllers', () => {
    const imsic = find(root, 'soc/interrupt-controller@28000000');
    const controllers = [0, 1].map((hart) => cells(find(root, `cpus/cpu@${hart}/interrupt-controller`), 'phandle')[0]);
    expect(cells(imsic, 'interrupts-extended')).toEqual([controllers[0], 9, controllers[1], 9]);
    expect(cells(imsic, 'reg')).toEqual([0, 0x2800_0000, 0, 0x2000]);
    expect(cells(imsic, 'riscv,num-ids')).toEqual([255]);
  });

  test('the PCI host has its windows, its IOMMU and its interrupt files', () => {
    const pci = find(root, 'soc/pci@30000000');
    const iommu = find(root, 'soc/iommu@3010000');
    const imsic = find(root, 'soc/interrupt-controller@28000000');
    expect(cells(pci, 'bus-range')).toEqual([0, 255]);
    // prettier-ignore
    expect(cells(pci, 'ranges')).toEqual([
      0x0100_0000, 0, 0, 0, 0x300_0000, 0, 0x1_0000,
      0x0200_0000, 0, 0x4000_0000, 0, 0x4000_0000, 0, 0x4000_0000,
      0x0300_0000, 4, 0, 4, 0, 4, 0,
    ]);
    expect(cells(pci, 'iommu-map')).toEqual([0, cells(iommu, 'phandle')[0], 0, 0x10000]);
    expect(cells(pci, 'msi-parent')).toEqual(cells(imsic, 'phandle'));
    expect(cells(iommu, 'msi-parent')).toEqual(cells(imsic, 'phandle'));
  });

  test('power-off and reboot go through the finisher', () => {
    const finisher = cells(find(root, 'soc/test@100000'), 'phandle');
    expect(cells(find(root, 'poweroff'), 'regmap')).toEqual(finisher);
    expect(cells(find(root, 'poweroff'), 'value')).toEqual([0x5555]);
    expect(cells(find(root, 'reboot'), 'value')).toEqual([0x7777]);
  });

  test('phandles are unique, and only those are referred to', () => {
    const handles: number[] = [];
    const walk = (node: ReadNode): void => {
      if (node.properties.has('phandle')) handles.push(cells(node, 'phandle')[0]!);
      node.children.forEach(walk);
    };
    walk(root);
    expect(new Set(handles).size).toBe(handles.length);
    expect(handles).toHaveLength(5);
  });

  test('without an IOMMU nothing mentions one', () => {
    const { iommu, ...rest } = machine;
    expect(iommu).toBeDefined();
    const plain = read(rest);
    expect(find(plain, 'soc/pci@30000000').properties.has('iommu-map')).toBe(false);
    expect(find(plain, 'soc').children.map(({ name }) => name)).not.toContain('iommu@3010000');
  });

  test('an IOMMU that is a PCI function does not translate for itself', () => {
    const root = read({ ...machine, iommu: { slot: 3 } });
    const pci = find(root, 'soc/pci@30000000');
    const iommu = find(root, 'soc/pci@30000000/iommu@3');
    const [handle] = cells(iommu, 'phandle');
    expect(cells(pci, 'iommu-map')).toEqual([0, handle, 0, 0x18, 0x19, handle, 0x19, 0xffe7]);
    expect(cells(iommu, 'reg')).toEqual([0x1800, 0, 0, 0, 0]);
    expect(find(root, 'soc').children.map(({ name }) => name)).not.toContain('iommu@3010000');
  });

  const compiler = process.env['DTC'] ?? 'dtc';
  const dtc = (args: string[], input: Uint8Array) => spawnSync(compiler, args, { input });
  test.skipIf(dtc(['--version'], new Uint8Array()).status !== 0)('dtc finds nothing to complain about', () => {
    const onPci = dtc(['-I', 'dtb', '-O', 'dts'], encodeDeviceTree(machineTree({ ...machine, iommu: { slot: 3 } })));
    expect(onPci.stderr.toString()).toBe('');
    const checked = dtc(['-I', 'dtb', '-O', 'dts'], encodeDeviceTree(machineTree(machine)));
    expect(checked.stderr.toString()).toBe('');
    expect(checked.status).toBe(0);
  });
});
