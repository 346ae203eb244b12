/** A booted Linux that is saved and taken up in another process. */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { iommulab } from '../cmd/iommulab.ts';
import { folder, image, imageWhy, linux, makeDisk, smallKernel, timeout } from './lab.ts';

const instructions = 90_000_000;
const at = (name: string): string => join(folder, name);
const read = (name: string): string => readFileSync(at(name), 'utf8');

describe.skipIf(!linux || image === undefined)(`snapshots of Linux (else skipped: ${imageWhy})`, () => {
  it.each([
    ['1', 'instructions:20000000'],
    ['1', 'console:guest# '],
    ['2', 'event:nvme.ready'],
  ])('%s harts, at %s: the trace is that of a run that was left alone', { timeout }, async (harts, point) => {
    const disk = `${makeDisk('snapshot.img')},overlay`;
    const args = [
      'run',
      ...smallKernel(),
      '--disk',
      disk,
      '--nic',
      'hub',
      '--smp',
      harts,
      '--append',
      'iommu.strict=1',
    ];
    const whole = await iommulab([...args, '--max-instructions', `${instructions}`, '--trace', at('whole')]);
    const save = ['--snapshot-at', point, '--snapshot-to', at('saved')];
    const first = await iommulab([...args, ...save, '--trace', at('1'), '--json']);
    const { stats } = JSON.parse(first.stdout) as { stats: { instructions: number } };
    const left = instructions - stats.instructions;
    const second = await iommulab(['resume', at('saved'), '--max-instructions', `${left}`, '--trace', at('2')]);
    expect([first.code, second.code]).toEqual([0, whole.code]);
    expect(read('1') + read('2') === read('whole')).toBe(true);
    expect(whole.stdout.endsWith(second.stdout)).toBe(true);
    // The kernel and its files, not the memory that nobody has written.
    expect(statSync(at('saved')).size).toBeLessThan(16 << 20);
  });
});
