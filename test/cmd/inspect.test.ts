import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { makeDiskImage } from '#guest-images/disk-image';
import { iommulab } from './iommulab.ts';

const folder = mkdtempSync(join(tmpdir(), 'iommulab-inspect-'));
const disk = join(folder, 'disk.img');
writeFileSync(disk, makeDiskImage(1));
const dma = ['--run', 'dma', '--disk', `path=${disk},serial=IOMMULAB-DEMO`, '--nic', 'hub', '--nic', 'hub'];

describe('iommulab inspect', () => {
  it('shows static tables without a run', async () => {
    const { code, stdout } = await iommulab(['inspect', 'commands']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^IOTINVAL\.VMA +1\/0 +§3\.1\.1 +IOMMU_HWPT_INVALIDATE/m);
  });

  it('runs a guest to a point, deterministically', async () => {
    const args = ['inspect', 'registers', '--run', 'hello', '--at', 'instructions:20000', '--json'];
    const [first, second] = await Promise.all([iommulab(args), iommulab(args)]);
    expect(first.code).toBe(0);
    expect(first.stdout).toBe(second.stdout);
    const rows = JSON.parse(first.stdout) as { unit: string; register: string; value: string }[];
    expect(rows.find(({ unit, register }) => unit === 'hart0' && register === 'pc')!.value).toMatch(/^0x0{8}8/);
    expect(first.stderr).toContain('at instructions:20000: 20 000 instructions');
  });

  it('shows the host after a guest has set up its IOMMU', async () => {
    const { code, stdout } = await iommulab(['inspect', 'objects', ...dma, '--at', 'event:nvme.ready']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/hwpt \(nested\)/);
    expect(stdout).toMatch(/nvme0, attached to hwpt \d+/);
  });

  it.each([
    [['inspect', 'iotlb'], 2, 'expected --run'],
    [['inspect', 'register'], 2, 'Allowed choices'],
    [['inspect', 'registers', '--run', 'hello', '--at', 'event:nvme.redy'], 2, 'did you mean event:nvme.ready?'],
    [['inspect', 'registers', '--run', 'hello', '--at', 'tomorrow'], 2, 'expected console:TEXT'],
    [['inspect', 'registers', '--run', 'hello', '--at', 'console:never said'], 1, 'before console:never said'],
    [['inspect', 'registers', '--run', 'hang', '--at', 'event:nvme.ready', '--max-instructions', '1000000'], 4, 'before event:nvme.ready'],
  ])('%s ends with %i and a sentence', async (args, code, sentence) => {
    const ended = await iommulab(args);
    expect(ended.stderr).toContain(sentence);
    expect(ended.code).toBe(code);
    expect(ended.stdout).toBe('');
  }); // prettier-ignore
});
