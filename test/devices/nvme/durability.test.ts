import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { fileStorage } from '#devices/backends/storage/file';
import { statusTable } from '#devices/nvme/status';
import { pattern, ready } from './driver.ts';

const folder = mkdtempSync(join(tmpdir(), 'nvme-'));
afterAll(() => rmSync(folder, { recursive: true }));
const image = (name: string): string => {
  const path = join(folder, name);
  writeFileSync(path, new Uint8Array(1 << 20));
  return path;
};

it('an acknowledged flush survives kill -9', async () => {
  const path = image('killed.img');
  const script = new URL('acknowledge.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, ['--import', 'tsx', script, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [said] = (await once(child.stdout, 'data')) as [Buffer];
  expect(said.toString()).toBe('flushed\n');
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(Buffer.compare(readFileSync(path).subarray(8192, 12288), pattern(4096, 77))).toBe(0);
});

it('a file that shrinks or loses its name under the controller ends in a status', () => {
  const path = image('shrinks.img');
  const d = ready({ backend: fileStorage(path) });
  const read = { opcode: 0x02, nsid: 1, prp1: 0x20000, cdw: [64, 0, 7] };
  d.expectOk(read, 1);
  truncateSync(path, 100);
  for (let i = 0; i < 3; i++)
    expect(d.command(1, { ...read, cdw: [64 + i * 100, 0, i] }).code).toBe(
      statusTable.UNRECOVERED_READ_ERROR.sc | 0x200,
    );
  expect(d.events.filter((e) => e.name === 'nvme.warning')).toHaveLength(1);
  unlinkSync(path);
  d.expectOk({ opcode: 0x01, nsid: 1, prp1: 0x20000, cdw: [64, 0, 7] }, 1);
  d.expectOk(read, 1);
});

describe('on a file system of 256 KiB', () => {
  const mounted = join(folder, 'small');
  mkdirSync(mounted);
  // Only root may mount; elsewhere the status of ENOSPC is tested with a backend that says so.
  const isMounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', mounted]).status === 0;
  afterAll(() => {
    if (isMounted) spawnSync('umount', ['--lazy', mounted]);
  });

  it.skipIf(!isMounted)('a full disk is Capacity Exceeded and one warning, and what was acknowledged stays', () => {
    const path = join(mounted, 'sparse.img');
    writeFileSync(path, '');
    truncateSync(path, 1 << 20);
    const backend = fileStorage(path);
    const d = ready({ backend });
    const page = d.pages();
    d.poke(page, pattern(4096, 5));
    const write = (block: number): number =>
      d.command(1, { opcode: 0x01, nsid: 1, prp1: page, cdw: [block * 8, 0, 7] }).code;
    const codes = Array.from({ length: 256 }, (_, block) => write(block));
    const first = codes.findIndex((code) => code !== 0);
    expect(first).toBeGreaterThan(32);
    expect(first).toBeLessThanOrEqual(64);
    expect(new Set(codes.slice(first))).toEqual(new Set([statusTable.CAPACITY_EXCEEDED.sc]));
    const warnings = d.events.filter((e) => e.name === 'nvme.warning');
    expect(warnings.map((e) => e.fields['what'])).toEqual([`Write: cannot write ${path}: ENOSPC`]);
    // What is there can still be read, written over and given back; then there is room again.
    expect(write(0)).toBe(0);
    d.expectOk({ opcode: 0x00, nsid: 1 }, 1);
    expect(Buffer.compare(readFileSync(path).subarray(0, 4096), pattern(4096, 5))).toBe(0);
    d.expectOk({ opcode: 0x08, nsid: 1, cdw: [0, 0, 2047 | (1 << 25)] }, 1);
    expect(write(200)).toBe(0);
    backend.close();
  });
});
