import { expect, test } from 'vitest';
import { fuzzNic } from '../../fuzz/nic.ts';

test.each([1, 2, 3, 4])('nonsense from seed %d neither throws nor hangs nor breaks the adapter', (seed) => {
  const report = fuzzNic(seed, 500);
  expect(report.operations).toBeGreaterThan(1000);
  expect(report.framesSent).toBeGreaterThan(0);
});

test('the same seed gives the same run', () => {
  const { slowestMs: _, ...first } = fuzzNic(5, Infinity, 20_000);
  const { slowestMs: __, ...second } = fuzzNic(5, Infinity, 20_000);
  expect(second).toEqual(first);
});
