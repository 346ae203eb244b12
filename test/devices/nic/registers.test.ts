import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { Clock } from '#vmm/base/clock';
import { hub } from '#devices/backends/packet/hub';
import { type RegisterRow, at, registerNames, registers } from '#devices/nic/registers';
import { adapter } from './driver.ts';

const rows = registerNames.map((name) => [name, registers[name] as RegisterRow] as const);

/** Registers whose value is more than what was stored. */
// prettier-ignore
const special = new Set([
  'CTRL', 'STATUS', 'EECD', 'EERD', 'EEWR', 'CTRL_EXT', 'MDIC', 'ICR', 'ICS', 'IMS', 'IMC', 'RXDCTL', 'SWSM',
]);

test('registers keep what their layout lets software write, and read back what it lets software see', () => {
  const on = adapter(1, new Clock(), hub(1)[0]!);
  on.device.busMaster(false);
  for (const [name, row] of rows) {
    if (special.has(name)) continue;
    fc.assert(
      fc.property(fc.nat((row.count ?? 1) - 1), fc.integer({ min: 0, max: 0xffff_ffff }), (i, value) => {
        const offset = row.offset + i * (row.stride ?? 4);
        const old = row.clears ? 0n : BigInt(on.read(offset));
        on.write(offset, value);
        expect(BigInt(on.read(offset)), name).toBe(row.layout.read(row.layout.write(old, BigInt(value))));
      }),
      { numRuns: 30 },
    );
  }
});

test('all values after reset', () => {
  const on = adapter(1, new Clock(), hub(1)[0]!);
  for (const [name, row] of rows) {
    if (name === 'STATUS' || name === 'RAL' || name === 'RAH') continue;
    for (let i = 0; i < (row.count ?? 1); i++)
      expect(on.read(row.offset + i * (row.stride ?? 4)), `${name}[${i}]`).toBe(row.reset ?? 0);
  }
});

test('old offsets are the same registers', () => {
  const on = adapter(1, new Clock(), hub(1)[0]!);
  for (const [name, row] of rows) {
    if (row.alias === undefined || special.has(name)) continue;
    on.write(row.alias, 0x10);
    expect(on.read(row.offset), name).toBe(on.read(row.alias));
  }
});

test('word indices follow the table', () => {
  expect(at.RCTL).toBe(0x40);
  expect(rows.every(([name, row]) => at[name] === row.offset >>> 2)).toBe(true);
});
