import { describe, expect, it } from 'vitest';
import { leaks, soakSva } from '#test/fuzz/sva';
import { soakPri } from '#test/fuzz/pri';

it.each([1, 2, 3, 4])('random page requests, answers, contexts and invalidations leave nothing (seed %i)', (seed) => {
  const { groups, answers, contexts } = soakPri(seed, 3000);
  expect(answers).toBe(groups);
  expect(contexts).toBeGreaterThan(10);
});

describe('processes that devices share', () => {
  it('come and go, fault and are killed, and leave nothing', () => {
    const { binds, kills, faults, accesses, reclaims, overflows } = soakSva(3, 6000);
    expect([binds > 100, kills > 40, faults > 500, accesses > 300, reclaims > 100, overflows > 0]).not.toContain(false);
  });

  it.each(leaks)('a kernel that forgets %s is found out', (leak) => {
    expect(() => soakSva(1, 2000, leak)).toThrow(/^soakSva\(1\): step \d+: /);
  });
});
