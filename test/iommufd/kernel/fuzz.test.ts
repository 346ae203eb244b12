import { describe, expect, it } from 'vitest';
import { fuzzBytes, fuzzIommufd } from '#test/fuzz/iommufd';

/** FUZZ_SECONDS for longer, FUZZ_SEED for another run; `npm run soak -- --only iommufd --seed N` repeats one. */
const seconds = Number(process.env['FUZZ_SECONDS'] ?? 3);
const seed = Number(process.env['FUZZ_SEED'] ?? 1);

describe('any calls in any order', () => {
  it(
    'end in a result or an errno, and leave everything consistent',
    () => {
      expect(fuzzIommufd(seed, seconds * 1000).sequences).toBeGreaterThan(5);
    },
    seconds * 1000 + 60_000,
  );

  it('with any bytes on any descriptor end in an errno', () => {
    const { calls, errnos } = fuzzBytes(seed, 20_000);
    expect(calls).toBe(20_000);
    expect(errnos).toBeGreaterThan(8);
  });
});
