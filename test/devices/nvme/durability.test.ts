import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { fileStorage } from '#devices/backends/storage/file';
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
  for (let i = 0; i < 3; i++) expect(d.command(1, read).code).toBe(0x281);
  expect(d.events.filter((e) => e.name === 'nvme.warning')).toHaveLength(1);
  unlinkSync(path);
  d.expectOk({ opcode: 0x01, nsid: 1, prp1: 0x20000, cdw: [64, 0, 7] }, 1);
  d.expectOk(read, 1);
});
