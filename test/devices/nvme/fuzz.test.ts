import { expect, it } from 'vitest';
import { fuzzNvme } from '#test/fuzz/nvme';

it('survives nonsense', () => {
  const { rounds, commands } = fuzzNvme(1, 2000);
  expect(rounds).toBeGreaterThan(5);
  expect(commands).toBeGreaterThan(rounds * 10);
});
