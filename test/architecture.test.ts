import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, it } from 'vitest';

/**
 * The longest matching place of a file decides what it may import besides itself. A place is a folder or a file;
 * `vmm/base` is everybody's and need not be named.
 */
const layers: Record<string, readonly string[]> = {
  'vmm/base': [],
  'vmm/cpu/engine': [],
  'vmm/cpu': ['vmm/cpu/engine'],
  'vmm/irq': ['vmm/cpu'],
  'vmm/bus': [],
  'vmm/boot': ['vmm/irq'],
  'vmm/config': [],
  'vmm/record': ['vmm', 'devices', 'viommu', 'iommufd'],
  'iommufd/uapi': [],
  'iommufd/client': ['iommufd/uapi'],
  'iommufd/pagetable': [],
  'iommufd/arch': ['iommufd/pagetable'],
  'iommufd/host': ['iommufd/arch', 'iommufd/pagetable'],
  'iommufd/kernel': ['iommufd/client/host.ts', 'iommufd/uapi', 'iommufd/arch', 'iommufd/pagetable', 'iommufd/host'],
  'iommufd/linux': ['iommufd/client/host.ts', 'iommufd/conformance/target.ts'],
  'iommufd/conformance': ['iommufd'],
  iommufd: ['iommufd'],
  viommu: ['iommufd/uapi', 'iommufd/client', 'iommufd/arch', 'iommufd/pagetable'],
  devices: [],
  'guest-images': [],
  vmm: ['vmm/irq', 'vmm/cpu', 'vmm/bus', 'vmm/boot', 'vmm/config', 'vmm/record', 'devices', 'viommu', 'iommufd'],
  cmd: ['vmm', 'iommufd', 'devices', 'viommu', 'guest-images', 'index.ts', 'package.json'],
  'package.json': [],
  'index.ts': ['vmm', 'devices/backends', 'guest-images', 'iommufd/host/riscv/explain.ts'],
};
/** The only places that may touch Node's own modules (or `process`). */
const nodeFolders = [
  'cmd',
  'devices/backends',
  'guest-images/build.ts',
  'guest-images/sources.ts',
  'guest-images/bundled.ts',
  'guest-images/linux',
];

const within = (file: string, place: string): boolean => file === place || file.startsWith(`${place}/`);
const placeOf = (file: string): string | undefined =>
  Object.keys(layers)
    .filter((place) => within(file, place))
    .reduce<string | undefined>(
      (best, place) => (best === undefined || place.length > best.length ? place : best),
      undefined,
    );

const roots = ['cmd', 'vmm', 'viommu', 'iommufd', 'devices', 'guest-images'];
const files = [
  ...roots.flatMap((root) =>
    readdirSync(root, { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts'))
      .map((file) => join(root, file)),
  ),
  'index.ts',
];

const specifiers = (file: string): string[] =>
  [...readFileSync(file, 'utf8').matchAll(/^\s*(?:import|export)\b[^'"`;]*?(?:from\s+)?'([^']+)'/gm)].map((m) => m[1]!);
const targetOf = (file: string, specifier: string): string | undefined => {
  if (specifier.startsWith('.')) return normalize(join(dirname(file), specifier));
  if (specifier.startsWith('#')) return `${specifier.slice(1)}.ts`;
  return undefined;
};
const mayImport = (from: string, target: string): boolean => {
  const place = placeOf(from);
  const to = placeOf(target);
  if (!place || !to) return false;
  if (within(to, 'vmm/base') || place === to) return true;
  return layers[place]!.some((allowed) => within(to, allowed) || within(allowed, to) && within(target, allowed)); // prettier-ignore
};

it('reads every source file and finds its imports', () => {
  expect(files.length).toBeGreaterThan(40);
  expect(files.flatMap(specifiers).length).toBeGreaterThan(100);
});

it('imports point one way', () => {
  const wrong = files.flatMap((file) =>
    specifiers(file)
      .map((specifier) => targetOf(file, specifier))
      .filter((target) => target !== undefined && !mayImport(file, target))
      .map((target) => `${file} imports ${target}`),
  );
  expect(wrong).toEqual([]);
});

it("only the command line and the devices' backends touch Node's own modules", () => {
  const wrong = files
    .filter((file) => !nodeFolders.some((folder) => within(file, folder)))
    .filter(
      (file) =>
        specifiers(file).some((s) => s.startsWith('node:')) ||
        /\bprocess\.(?:env|argv|std|exit|hrtime|on|cwd|memoryUsage)|\bDate\.now|\bMath\.random/.test(
          readFileSync(file, 'utf8'),
        ),
    );
  expect(wrong).toEqual([]);
});

it('an import that points the wrong way is noticed', () => {
  expect(mayImport('devices/nvme/device.ts', 'iommufd/client/client.ts')).toBe(false);
  expect(mayImport('iommufd/kernel/context.ts', 'viommu/riscv/device.ts')).toBe(false);
  expect(mayImport('viommu/riscv/device.ts', 'iommufd/host/riscv/iommu.ts')).toBe(false);
  expect(mayImport('vmm/base/clock.ts', 'vmm/machine/machine.ts')).toBe(false);
  expect(mayImport('viommu/riscv/device.ts', 'iommufd/arch/riscv/front-end.ts')).toBe(true);
});
