import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { iommulab } from './iommulab.ts';

const folder = mkdtempSync(join(tmpdir(), 'iommulab-trace-'));
const path = join(folder, 'dma.jsonl');

describe('iommulab trace', () => {
  it('reads back what a run has written', async () => {
    expect((await iommulab(['demo', 'dma', '--trace', path])).code).toBe(0);
    const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
    const whole = await iommulab(['trace', path]);
    expect(whole.code).toBe(0);
    expect(whole.stdout.trimEnd().split('\n').length).toBe(lines.length);
    const some = await iommulab(['trace', path, '-e', 'IOMMU_HWPT_ALLOC', '-e', 'iommu.fault']);
    expect(some.stdout).toMatch(
      /vmm\/iommufd IOMMU_HWPT_ALLOC\(flags: 1, dev_id: 2, pt_id: 1\) = 0 \{out_hwpt_id: 5\}/,
    );
    expect(some.stdout).toMatch(/guest\/viommu iommu\.fault\(/);
    expect(some.stdout).not.toMatch(/mmio/);
    const again = await iommulab(['trace', path, '--json']);
    expect(again.stdout === readFileSync(path, 'utf8')).toBe(true);
    const errors = await iommulab(['trace', path, '--errors']);
    expect(errors.stdout).toMatch(/Read\(.*\) = DATA_TRANSFER_ERROR/);
    const summary = await iommulab(['trace', path, '-s', '--json']);
    const sums = JSON.parse(summary.stdout) as { call: string; calls: number }[];
    expect(sums.reduce((sum, one) => sum + one.calls, 0)).toBe(lines.length);
  });

  it('says what is wrong with a file', async () => {
    const bad = join(folder, 'bad.jsonl');
    writeFileSync(bad, '{"time":1,"event":"a.b","properties":{}}\nnothing\n');
    const ended = await iommulab(['trace', bad]);
    expect(ended).toMatchObject({ code: 2, stdout: '     0.000 (         ): a a.b()\n' });
    expect(ended.stderr).toContain(`${bad}:2: expected an event`);
    expect((await iommulab(['trace', join(folder, 'none')])).stderr).toContain('does not exist');
    expect((await iommulab(['trace'])).code).toBe(2);
    expect((await iommulab(['trace', '/dev/null'])).stderr).toContain('no events match');
  });
});
