import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as iommufd from '#iommufd/uapi/iommufd';
import * as selftest from '#iommufd/uapi/selftest';
import * as vfio from '#iommufd/uapi/vfio';
import * as virtioIommu from '#iommufd/uapi/virtio-iommu';
import { Struct } from '#vmm/base/wire';

/** Facts compiled from the headers of Linux 7.2.12. */
interface FactField {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
  readonly type?: string;
  readonly union?: readonly FactField[];
  readonly struct?: readonly FactField[];
}
const facts = JSON.parse(readFileSync(new URL('uapi.json', import.meta.url), 'utf8')) as {
  structs: Record<string, { size: number; fields: FactField[] }>;
  constants: Record<string, Record<string, number>>;
};
const headers = [
  ['iommufd.h', iommufd, iommufd.iommufdUapi],
  ['vfio.h', vfio, vfio.vfioUapi],
  ['virtio_iommu.h', virtioIommu, virtioIommu.virtioIommuUapi],
  ['iommufd_test.h', selftest, selftest.selftestUapi],
] as const;

const structs = new Map<string, Struct<never>>();
for (const [, module] of headers)
  for (const [name, value] of Object.entries(module))
    if (value instanceof Struct) structs.set(name, value as Struct<never>);

/** Byte offset and size of every scalar under a field, by the flattened name. */
function flatten(field: FactField, prefix = '', base = 0): Map<string, [number, number]> {
  const out = new Map<string, [number, number]>();
  const at = base + field.offset;
  const name = prefix + field.name;
  if (field.union) return out;
  const array = /^(.*)\[(\d+)\]$/.exec(field.type!);
  if (field.size === 0) return out;
  if (array && array[1] !== '__u8') {
    const count = Number(array[2]);
    for (let i = 0; i < count; i++) out.set(`${name}[${i}]`, [at + (i * field.size) / count, field.size / count]);
  } else if (field.type!.startsWith('struct ')) {
    for (const inner of facts.structs[field.type!.slice(7)]!.fields)
      for (const [key, value] of flatten(inner, `${name}.`, at)) out.set(key, value);
  } else out.set(name, [at, field.size]);
  return out;
}

describe('uAPI layouts', () => {
  it('has every structure of the headers', () => {
    expect(Object.keys(facts.structs).length).toBeGreaterThan(100);
    expect(Object.keys(facts.structs).filter((name) => !structs.has(name))).toEqual([]);
  });

  it.each(Object.entries(facts.structs))('%s', (name, fact) => {
    const declared = structs.get(name)!;
    expect(declared.size).toBe(fact.size);
    const offsets = new Map(declared.members.map((m) => [m.name, [m.offset, m.bytes] as [number, number]]));
    for (const field of fact.fields) {
      for (const [key, place] of flatten(field)) expect([key, offsets.get(key)]).toEqual([key, place]);
      if (field.union && name !== 'iommu_test_cmd') {
        const [first] = [...offsets].filter(([, [offset]]) => offset === field.offset);
        expect(field.union.map((u) => u.name)).toContain(first![0].split('.')[0]);
      }
    }
  });

  it('lays out each alternative of iommu_test_cmd', () => {
    const union = facts.structs['iommu_test_cmd']!.fields.find((f) => f.union)!.union!;
    expect(union.length).toBeGreaterThan(20);
    for (const alternative of union) {
      const declared = structs.get(`iommu_test_cmd_${alternative.name}`)!;
      for (const field of alternative.struct!) {
        const member = declared.members.find((m) => m.name === `${alternative.name}.${field.name}`)!;
        expect([field.name, member.offset, member.bytes]).toEqual([field.name, field.offset, field.size]);
      }
    }
  });

  it.each(headers)('%s: every constant', (header, _module, values) => {
    for (const [name, value] of Object.entries(facts.constants[header]!)) {
      if (name.endsWith('_STRING')) continue; // compiled to an address
      expect([name, (values as Record<string, unknown>)[name]]).toEqual([name, value]);
    }
  });
});
