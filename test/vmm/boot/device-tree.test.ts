import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeDeviceTree, type PropertyValue, type TreeNode } from '#vmm/boot/device-tree';
import { decodeDeviceTree, type ReadNode } from '#vmm/boot/device-tree-reader';

/** The Devicetree compiler, where it is installed. */
const compiler = process.env['DTC'] ?? 'dtc';
const dtc = (args: string[], input: Uint8Array | string) => spawnSync(compiler, args, { input });
const hasDtc = dtc(['--version'], '').status === 0;

/** What a value is as bytes, written a second time and differently. */
function valueBytes(value: PropertyValue): number[] {
  if (value === true) return [];
  if (typeof value === 'string') return [...Buffer.from(value), 0];
  if (typeof value === 'number') return [24, 16, 8, 0].map((shift) => (value >>> shift) & 0xff);
  if (typeof value === 'bigint')
    return Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(56 - 8 * i)) & 0xffn));
  return value.flatMap((item) => valueBytes(item));
}

function expectSame(read: ReadNode, name: string, node: TreeNode): void {
  expect(read.name).toBe(name);
  const properties = Object.entries(node.properties ?? {}).map(([key, value]) => [key, valueBytes(value)]);
  expect([...read.properties].map(([key, value]) => [key, [...value]])).toEqual(properties);
  const children = Object.entries(node.children ?? {});
  expect(read.children.map((child) => child.name)).toEqual(children.map(([child]) => child));
  children.forEach(([child, contents], i) => expectSame(read.children[i]!, child, contents));
}

const name = fc.stringMatching(/^[a-z][a-z0-9,._+-]{0,20}$/);
const value: fc.Arbitrary<PropertyValue> = fc.oneof(
  fc.constant(true as const),
  fc.nat(0xffff_ffff),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  fc.stringMatching(/^[ -~]{0,12}$/),
  fc.array(fc.nat(0xffff_ffff), { maxLength: 5 }),
  fc.array(fc.stringMatching(/^[a-z]{1,5}$/), { minLength: 1, maxLength: 4 }),
);
const { tree } = fc.letrec<{ tree: TreeNode }>((tie) => ({
  tree: fc.record({
    properties: fc.dictionary(name, value, { maxKeys: 4, noNullPrototype: true }),
    children: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.constant({}),
      fc.dictionary(name, tie('tree'), { maxKeys: 3, noNullPrototype: true }),
    ),
  }),
}));

describe('flattened device trees', () => {
  test('any tree reads back', () => {
    fc.assert(
      fc.property(tree, (root) => {
        const blob = encodeDeviceTree(root);
        expect(blob.length % 8).toBe(0);
        expectSame(decodeDeviceTree(blob), '', root);
      }),
      { numRuns: 200 },
    );
  });

  test('a tree larger than the first buffer', () => {
    const children = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`n@${i}`, { properties: { reg: i } }]));
    expectSame(decodeDeviceTree(encodeDeviceTree({ children })), '', { children });
  });

  test('a value that is no cell is a bug', () => {
    expect(() => encodeDeviceTree({ properties: { x: -1 } })).toThrow('-1 is not a device tree cell');
    expect(() => encodeDeviceTree({ properties: { x: 2 ** 32 } })).toThrow('is not a device tree cell');
  });

  test('malformed blobs are refused', () => {
    const blob = encodeDeviceTree({ properties: { a: 1 } });
    expect(() => decodeDeviceTree(new Uint8Array(64))).toThrow('not a flattened device tree');
    expect(() => decodeDeviceTree(blob.subarray(0, -8))).toThrow('truncated');
    fc.assert(
      fc.property(fc.nat(blob.length - 1), fc.nat(255), (at, byte) => {
        const spoilt = blob.slice();
        spoilt[at] = byte;
        try {
          decodeDeviceTree(spoilt);
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
      }),
    );
  });

  test.skipIf(!hasDtc)('dtc reads it back to the same bytes', () => {
    fc.assert(
      fc.property(tree, (root) => {
        const blob = encodeDeviceTree(root);
        const source = dtc(['-q', '-f', '-I', 'dtb', '-O', 'dts'], blob);
        expect(source.status, source.stderr.toString()).toBe(0);
        const again = dtc(['-q', '-f', '-I', 'dts', '-O', 'dtb'], source.stdout);
        expectSame(decodeDeviceTree(new Uint8Array(again.stdout)), '', root);
      }),
      { numRuns: 20 },
    );
  });
});
