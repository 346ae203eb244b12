import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { makeDiskImage } from '#guest-images/disk-image';
import type { Explanation } from '#iommufd/host/riscv/explain';
import { iommulab } from './iommulab.ts';

const folder = mkdtempSync(join(tmpdir(), 'iommulab-explain-'));
afterAll(() => rmSync(folder, { recursive: true }));
const disk = join(folder, 'disk.img');
writeFileSync(disk, makeDiskImage(7));
const guest = ['--run', 'dma', '--disk', `path=${disk},overlay`, '--nic', 'hub', '--nic', 'hub'];
const explain = (...args: string[]) => iommulab(['explain', ...guest, ...args]);

describe('explain', () => {
  it('tells of the first fault of a run', async () => {
    const { code, stdout } = await explain('--fault', '1');
    expect(code).toBe(0);
    const lines = stdout.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^nvme0: write of 0x[0-9a-f]+$/);
    expect(lines.filter((line) => /^ {2}stage 1 level/.test(line))).toHaveLength(3);
    expect(lines.slice(-2)).toEqual(['      → the entry is not valid', 'fault 15: Write/AMO page fault (§2.3)']);
  });

  it('tells of the same address at another moment of the same run, as JSON', async () => {
    const first = JSON.parse((await explain('--fault', '1', '--json')).stdout) as Explanation;
    const asked = ['--device', 'nvme0', '--iova', first.iova, '--json'];
    const [start, end] = await Promise.all([explain(...asked, '--at', 'instructions:1000'), explain(...asked)]);
    expect(JSON.parse(start!.stdout)).toMatchObject({ outcome: { kind: 'fault', cause: 258 } });
    expect(JSON.parse(end!.stdout)).toMatchObject({
      device: 'nvme0',
      iova: first.iova,
      outcome: { kind: 'translated' },
    });
  });

  // prettier-ignore
  it.each([
    [['--fault', '99'], 1, /the run had 3 faults/],
    [['--device', 'nvme0', '--iova', '0', '--at', 'console:no such words'], 1, /before console:no such words/],
    [['--device', 'nvme7', '--iova', '0', '--at', 'instructions:10'], 2, /--device: expected one of nvme0, .*, found "nvme7"/],
    [['--device', 'nvme0', '--iova', '0', '--at', 'event:nvme.redy'], 2, /did you mean event:nvme.ready/],
    [['--device', 'nvme0'], 2, /either --fault, or --device and --iova/],
    [['--device', 'nvme0', '--iova', '1g'], 2, /--iova: expected an address/],
    [['--device', 'nvme0', '--iova', '0', '--at', 'noon'], 2, /--at: expected console/],
  ])('%o: exit %i', async (args, exit, says) => {
    const { code, stderr, stdout } = await explain(...args);
    expect([code, stdout]).toEqual([exit, '']);
    expect(stderr).toMatch(says);
  });
});

describe('--check stale-translations', () => {
  it('says nothing of a guest that is right', async () => {
    const args = ['run', 'dma', ...guest.slice(2), '--check', 'stale-translations', '--json'];
    const { code, stdout } = await iommulab(args);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).not.toHaveProperty('findings');
  });
});
