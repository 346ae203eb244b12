import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Finish, Finisher } from '#devices/finisher/finisher';

const finisher = () => {
  const finishes: Finish[] = [];
  return { device: new Finisher((finish) => finishes.push(finish)), finishes };
};

test('pass, fail with a code, reset', () => {
  const { device, finishes } = finisher();
  device.write(0, 4, 0x5555);
  device.write(0, 4, 0xffff_3333);
  device.write(0, 2, 0x7777);
  device.write(0, 4, 0x1234_5555);
  expect(finishes).toEqual([
    { outcome: 'pass', code: 0 },
    { outcome: 'fail', code: 0xffff },
    { outcome: 'reset', code: 0 },
    { outcome: 'pass', code: 0 },
  ]);
});

test('anything else does nothing', () => {
  const statuses = [0x5555, 0x3333, 0x7777];
  fc.assert(
    fc.property(fc.nat(4095), fc.constantFrom(1, 2, 4, 8), fc.nat(0xffff_ffff), (offset, bytes, value) => {
      const { device, finishes } = finisher();
      device.write(offset, bytes as 1, bytes === 8 ? BigInt(value) : value);
      const counts = offset === 0 && (bytes === 4 || bytes === 2) && statuses.includes(value & 0xffff);
      expect(finishes).toHaveLength(counts ? 1 : 0);
      expect(device.read(offset, bytes as 1)).toBe(bytes === 8 ? 0n : 0);
    }),
  );
  const { device, finishes } = finisher();
  device.write(0, 1, 0x55);
  device.write(0, 8, 0x5555n);
  device.write(4, 4, 0x5555);
  expect(finishes).toEqual([]);
});
