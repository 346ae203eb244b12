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
    expect(refused.stderr).toContain('path: expected the path of a disk image, found nothing');
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

  it('plugs devices in and takes them out, and tells when they are gone', async () => {
    const path = join(folder, 'hot.sock');
    const disk = join(folder, 'hot.img');
    writeFileSync(disk, new Uint8Array(1 << 20));
    const run = iommulab(['run', 'hotplug', '--hotplug-ports', '2', '--append', 'departures=2', '--control', path]);
    const ctl = (...args: string[]) => iommulab(['ctl', path, ...args]);
    let status = await ctl('query-status');
    for (let i = 0; i < 100 && status.code !== 0; i++) status = await ctl('query-status');
    const told: string[] = [];
    const listener = createConnection(path).setEncoding('utf8');
    listener.on('data', (text: string) => told.push(...text.split('\n').filter((line) => line !== '')));
    listener.on('error', () => {});
    const inUse = async (id: string): Promise<boolean> => (await ctl('query-stats')).stdout.includes(`"id": "${id}"`);
    expect(await ctl('device_add', 'driver=nvme', 'id=d', `path=${disk}`)).toMatchObject({ code: 0 });
    expect(await inUse('d')).toBe(true);
    const twice = await ctl('device_add', 'driver=nvme', 'id=e', `path=${disk}`);
    expect(twice).toMatchObject({ code: 1 });
    expect(twice.stderr).toContain('an image that no other disk writes');
    expect((await ctl('device_add', 'driver=nvme', `path=${join(folder, 'none')}`)).stderr).toContain('does not exist');
    expect((await ctl('device_add', 'driver=exerciser', 'id=x', 'bus=port1')).stdout).toContain('"id": "x"');
    expect((await ctl('query-ports')).stdout).toMatch(/port0 +d +there\nport1 +x +there/);
    // Until the guest has brought a card up it goes at once; then it is asked for.
    expect((await ctl('device_del', 'id=d')).code).toBe(0);
    expect((await ctl('device_del', 'id=x', 'surprise=true')).code).toBe(0);
    await ctl('device_add', 'driver=exerciser', 'id=y');
    await ctl('device_del', 'id=y');
    const { code, stdout } = await run;
    expect({ code, passed: stdout.trimEnd().endsWith('passed') }).toEqual({ code: 0, passed: true });
    const events = told.map(
      (line) => JSON.parse(line) as { event?: string; data?: { device?: string; path?: string } },
    );
    const deleted = events.filter(({ event }) => event === 'DEVICE_DELETED').map(({ data }) => data!);
    expect(deleted.map(({ device }) => device)).toEqual(expect.arrayContaining(['d', 'x']));
    expect(deleted[0]!.path).toBe(`/machine/peripheral/${deleted[0]!.device}`);
  });

  it('stands whatever clients send: noise, requests without end, many at once, none that reads', async () => {
    const path = join(folder, 'fuzz.sock');
    const run = iommulab(['run', 'hang', '--control', path]);
    const ctl = (...args: string[]) => iommulab(['ctl', path, ...args]);
    let status = await ctl('query-status');
    for (let i = 0; i < 100 && status.code !== 0; i++) status = await ctl('query-status');
    const rubbish = (seed: number): Buffer => {
      let state = seed * 2654435761 + 1;
      return Buffer.from(
        Array.from({ length: 4096 }, () => ((state = (state * 1103515245 + 12345) >>> 0) >>> 16) & 255),
      );
    };
    const visit = (act: (socket: ReturnType<typeof createConnection>) => void): Promise<void> =>
      new Promise((resolve) => {
        const socket = createConnection(path, () => act(socket));
        socket.on('error', () => {}).on('close', () => resolve());
      });
    const ask = Buffer.from('{"execute":"query-pci"}\n'.repeat(500));
    await Promise.all([
      ...Array.from({ length: 10 }, (_, i) => visit((socket) => socket.resume().end(rubbish(i)))),
      ...Array.from({ length: 10 }, (_, i) => visit((socket) => socket.write(rubbish(i), () => socket.destroy()))),
      visit((socket) => socket.resume().end(Buffer.alloc(8 << 20, '['))),
      visit((socket) => socket.resume().end(Buffer.alloc(2 << 20, '\n'))),
      // Asks and does not read the answers.
      visit((socket) => socket.write(ask, () => setTimeout(() => socket.destroy(), 200))),
    ]);
    expect((await ctl('query-status')).code).toBe(0);
    expect((await ctl('quit')).code).toBe(0);
    expect((await run).code).toBe(130);
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
