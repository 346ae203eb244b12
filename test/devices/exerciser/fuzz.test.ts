import { expect, test } from 'vitest';
import { fuzzExerciser } from '../../fuzz/exerciser.ts';

test.each([1, 2, 3, 4])('nonsense from seed %d neither throws nor hangs nor breaks a rule', (seed) => {
  const report = fuzzExerciser(seed, 700);
  expect(report.operations).toBeGreaterThan(1000);
  for (const key of ['transactions', 'requests', 'translations', 'invalidations', 'pageRequests'] as const)
    expect(report[key], key).toBeGreaterThan(20);
});

test('the same seed gives the same run', () => {
  const { slowestMs: _, ...first } = fuzzExerciser(5, Infinity, 10_000);
  const { slowestMs: __, ...second } = fuzzExerciser(5, Infinity, 10_000);
  expect(second).toEqual(first);
});
