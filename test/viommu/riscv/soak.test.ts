import { expect, it } from 'vitest';
import { soakPri } from '../../fuzz/pri.ts';

it.each([1, 2, 3, 4])('random page requests, answers, contexts and invalidations leave nothing (seed %i)', (seed) => {
  const { groups, answers, contexts } = soakPri(seed, 3000);
  expect(answers).toBe(groups);
  expect(contexts).toBeGreaterThan(10);
});
