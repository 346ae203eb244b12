import { mkdtempSync, existsSync, statSync, writeFileSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { iommulab } from './iommulab.ts';

const folder = mkdtempSync(join(tmpdir(), 'iommulab-ctl-'));

describe('--control and iommulab ctl', () => {
  it('stops a run, looks at it, lets it go on and ends it', async () => {
    const path = join(folder, 'vm.sock');
    // A run that was killed left its socket behind.
    await new Promise<void>((resolve) => {
      const server = createServer().listen(path, () => {
        server.close();
        resolve();
      });
    });
    const run = iommulab(['run', 'hang', '--control', path]);
    while (!existsSync(path)) await new Promise((resolve) => setTimeout(resolve, 20));
    const ctl = (...args: string[]) => iommulab(['ctl', path, ...args]);
    // The socket is there a moment before the machine is.
    let status = await ctl('query-status');
    for (let i = 0; i < 20 && status.code !== 0; i++) status = await ctl('query-status');
    expect(JSON.parse(status.stdout)).toMatchObject({ status: 'running' });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect((await ctl('stop')).stderr).toBe('done\n');
    const first = await ctl('query-status');
    expect(JSON.parse(first.stdout)).toMatchObject({ status: 'paused' });
    // It stands still.
    expect((await ctl('query-status')).stdout).toBe(first.stdout);
    expect((await ctl('inspect', 'what=registers')).stdout).toMatch(/^hart0 +pc /m);
    expect((await ctl('query-pci')).stdout).toContain('host-bridge');
    const refused = await ctl('device_add', 'driver=nvme');
    expect(refused).toMatchObject({ code: 1, stdout: '' });
    expect(refused.stderr).toContain('no hot-plug slots');
    // A client that sends rubbish, and one that goes away, disturb nobody.
    await new Promise<void>((resolve) => {
      const socket = createConnection(path, () => socket.end(`${'{'.repeat(100_000)}\n${'x'.repeat(3 << 20)}`));
      socket.resume().on('close', () => resolve()).on('error', () => {});
    }); // prettier-ignore
    expect((await ctl('cont')).code).toBe(0);
    expect((await ctl('quit')).code).toBe(0);
    expect((await run).code).toBe(130);
    expect(existsSync(path)).toBe(false);
  });

  it('says what is wrong with a path', async () => {
    expect(await iommulab(['ctl', join(folder, 'none'), 'stop'])).toMatchObject({ code: 2 });
    const file = join(folder, 'file');
    writeFileSync(file, '');
    const taken = await iommulab(['run', 'hello', '--control', file]);
    expect(taken).toMatchObject({ code: 6, stdout: '' });
    expect(taken.stderr).toContain('there is something already');
    expect(existsSync(file)).toBe(true);
    const long = await iommulab(['run', 'hello', '--control', join(folder, 'x'.repeat(200))]);
    expect(long.code).toBe(2);
  });
});
