import { describe, expect, it } from 'vitest';
import { bundledGuest } from '#guest-images/bundled';
import { guestImages } from '#guest-images/manifest';
import { everything, lockstep } from './lockstep.ts';

describe('interpreted, translated at once and translated after a while', () => {
  // The first million instructions in two tiers: all in `npm run soak -- --only lockstep`.
  it.each(guestImages.map(({ name }) => name))('%s runs the same', (name) => {
    const compared = ['interpreted', 'translated at once'] as const;
    const options = { seed: 1, stride: 60_000, mostInstructions: 1e6, compared };
    const { instructions, stops } = lockstep(everything, { image: bundledGuest(name) }, options);
    expect(instructions).toBeGreaterThan(10_000);
    expect(stops).toBeGreaterThan(0);
  });

  it('four harts run the same', () => {
    const options = { seed: 2, stride: 100_000, mostInstructions: 1e7 };
    const { result, stops } = lockstep({ smp: 4 }, { image: bundledGuest('smp') }, options);
    expect(result.outcome).toBe('passed');
    expect(stops).toBeGreaterThan(20);
  });

  it('stores that are reported are the same', () => {
    const options = { seed: 3, stride: 100_000, mostInstructions: 3e6 };
    const { stops } = lockstep({ ...everything, checks: ['stale-translations'] }, { image: bundledGuest('dma') }, options); // prettier-ignore
    expect(stops).toBeGreaterThan(20);
  });
});
