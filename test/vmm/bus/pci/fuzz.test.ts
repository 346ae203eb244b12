import { expect, it } from 'vitest';
import { fuzzPci } from '#test/fuzz/pci';

it('survives nonsense, with devices at work', () => {
  const report = fuzzPci(1, 2000, 60);
  expect(report.works).toBeGreaterThan(2);
  expect(report.resets).toBeGreaterThan(20);
});
