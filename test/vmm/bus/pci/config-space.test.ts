import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Access, register } from '#vmm/base/bits';
import { ConfigSpace, row } from '#vmm/bus/pci/config-space';

const kinds: Access[] = ['rw', 'ro', 'w1c', 'wo'];
/** Sixteen bytes of registers of any width, each bit with an access of its own (or reserved). */
const bank = fc
  .array(
    fc.tuple(
      fc.constantFrom(8, 16, 32),
      fc.array(fc.constantFrom(...kinds, undefined), { minLength: 32, maxLength: 32 }),
    ),
    { minLength: 4, maxLength: 16 },
  )
  .map((list) => {
    const rows: { name: string; offset: number; width: 8 | 16 | 32; bits: (Access | undefined)[] }[] = [];
    let at = 0;
    for (const [width, bits] of list) {
      const bytes = width / 8;
      at = Math.ceil(at / bytes) * bytes;
      if (at + bytes > 16) break;
      rows.push({ name: `r${at}`, offset: at, width: width as 8, bits: bits.slice(0, width) });
      at += bytes;
    }
    return rows;
  });
const access = fc
  .tuple(fc.nat(15), fc.constantFrom(1, 2, 4), fc.nat(0xffff_ffff))
  .filter(([offset, bytes]) => (offset & 3) + bytes <= 4);

test('stores of any width act on each bit as its access says, and on no other', () => {
  fc.assert(
    fc.property(
      bank,
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      fc.array(access, { maxLength: 20 }),
      (rows, initial, stores) => {
        const space = new ConfigSpace();
        const kindOf = new Map<number, Access>();
        const model = new Array<number>(128).fill(0);
        const hooks: string[] = [];
        for (const { name, offset, width, bits } of rows) {
          const fields = Object.fromEntries(
            bits.flatMap((kind, bit) => (kind ? [[`b${bit}`, { bits: bit, access: kind }]] : [])),
          );
          let reset = 0;
          bits.forEach((kind, bit) => {
            const position = 8 * offset + bit;
            if (kind) kindOf.set(position, kind);
            const value = kind && kind !== 'wo' ? (initial[position >> 3]! >> (position & 7)) & 1 : 0;
            model[position] = value;
            reset += value * 2 ** bit;
          });
          space.place(row(name, offset, register({ width, spec: 'test', fields })), 0x40, reset);
          space.onWrite(name, () => hooks.push(name));
        }
        const start = [...model];
        const check = (): void => {
          for (let byte = 0; byte < 16; byte++)
            expect(space.read(0x40 + byte, 1)).toBe(
              model.slice(8 * byte, 8 * byte + 8).reduce((sum, bit, i) => sum | (bit << i), 0),
            );
        };
        check();
        for (const [offset, bytes, value] of stores) {
          hooks.length = 0;
          space.write(0x40 + offset, bytes as 1, value);
          for (let bit = 0; bit < 8 * bytes; bit++) {
            const position = 8 * offset + bit;
            const stored = Math.floor(value / 2 ** bit) % 2;
            const kind = kindOf.get(position);
            if (kind === 'rw') model[position] = stored;
            if (kind === 'w1c' && stored === 1) model[position] = 0;
          }
          check();
          const touched = rows
            .filter((r) => r.offset < offset + bytes && offset < r.offset + r.width / 8)
            .map(({ name }) => name);
          expect(hooks).toEqual(touched);
        }
        space.reset();
        model.splice(0, 128, ...start);
        check();
      },
    ),
    { numRuns: 150 },
  );
});

test('registers that overlap or do not fit are a bug', () => {
  const layout = register({ width: 16, spec: 'test', fields: { all: { bits: [15, 0] } } });
  const space = new ConfigSpace();
  space.place(row('one', 0, layout), 0x10);
  expect(() => space.place(row('two', 0, layout), 0x10)).toThrow('two overlaps another register');
  expect(() => space.place(row('one', 0, layout), 0x20)).toThrow('two configuration registers called one');
  expect(() => space.place(row('odd', 1, layout), 0x20)).toThrow('odd does not fit');
  expect(() => space.place(row('end', 4096, layout), 0)).toThrow('end does not fit');
  expect(() => space.get('nothing')).toThrow('no configuration register nothing');
});
