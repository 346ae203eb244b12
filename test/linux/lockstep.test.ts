/** A kernel's boot in both tiers: IOMMULAB_LINUX_IMAGE names it. Without an initial RAM disk it ends in a panic. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { everything, lockstep } from '#test/vmm/machine/lockstep';
import { image, timeout } from './lab.ts';

const why = image === undefined ? ' (skipped: IOMMULAB_LINUX_IMAGE is unset)' : '';
/** More of it by hand: LOCKSTEP=1e9. */
const mostInstructions = Number(process.env['LOCKSTEP'] ?? 6e7);

describe.skipIf(image === undefined)(`a kernel boots the same in both tiers${why}`, () => {
  it.each([1, 4])('with %i harts', { timeout }, (smp) => {
    const host = { image: readFileSync(image!) };
    const config = { ...everything, memory: '96M', append: 'console=ttyS0 earlycon panic=-1', smp };
    const options = { seed: smp, stride: 4e6, mostInstructions, memoryEvery: 8 };
    const { instructions, stops } = lockstep(config, host, options);
    expect(instructions).toBeGreaterThan(3e7);
    expect(stops).toBeGreaterThan(10);
  });
});
