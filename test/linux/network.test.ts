/** Frames that leave the process: between two guests, and to the host's own network through passt. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { debianKernel, expectNoTrouble, folder, image, linux, sha256, smallKernel, start, sumIn, timeout, why } from './lab.ts'; // prettier-ignore

const closed: (() => void)[] = [];
afterEach(() => closed.splice(0).forEach((close) => close()));

const kernel = image === undefined ? debianKernel : smallKernel;
const options = () => [...kernel(), '--append', 'quiet', '--realtime'];

describe.skipIf(!linux)(`on a wire (else skipped: ${why})`, () => {
  it('two guests ping each other and download a file', { timeout }, async () => {
    const wire = join(folder, 'wire');
    const server = await start(...options(), '--nic', `stream,local=${wire}`);
    await server.ready();
    const client = await start(...options(), '--nic', `stream,remote=${wire},mac=52:54:00:12:34:99`);
    await client.ready();
    await server.run('ip addr add 10.0.0.1/24 dev eth0; ip link set eth0 up');
    await client.run('ip addr add 10.0.0.2/24 dev eth0; ip link set eth0 up; sleep 3');
    await server.run('dd if=/dev/urandom of=/tmp/file bs=64k count=16 2>/dev/null; httpd -p 80 -h /tmp');
    expect(await client.run('ping -c 3 10.0.0.1')).toContain('3 packets received, 0% packet loss');
    const sums = await Promise.all([
      server.run('cat /tmp/file | sha256sum'),
      client.run('wget -q -O - http://10.0.0.1/file | sha256sum'),
    ]);
    expect(sumIn(sums[0])).toBeDefined();
    expect(sumIn(sums[1])).toBe(sumIn(sums[0]));
    for (const guest of [client, server]) {
      await expectNoTrouble(guest);
      expect(await guest.leave()).toBe(0);
    }
  });

  const hasPasst = spawnSync('passt', ['--version']).status === 0;
  /** The user that passt becomes may send echo requests. */
  const canPing = (): boolean => {
    const path = '/proc/sys/net/ipv4/ping_group_range';
    const [first = 1, last = 0] = existsSync(path) ? readFileSync(path, 'utf8').split('\t').map(Number) : [];
    return first <= 65534 && last >= 65534;
  };

  it.skipIf(!hasPasst)(
    'passt gives a guest an address, and a file from the loopback of the host (skipped where passt is not installed)',
    { timeout },
    async (context) => {
      const content = randomBytes(4 << 20);
      const server: Server = createServer((_, response) => response.end(content));
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      closed.push(() => server.close());
      // Started by root, passt becomes nobody before it makes its socket.
      const place = mkdtempSync(join(folder, 'passt-'));
      chmodSync(folder, 0o755);
      chmodSync(place, 0o777);
      const socket = join(place, 'socket');
      const addresses = ['-a', '10.0.2.15', '-n', '255.255.255.0', '-g', '10.0.2.2'];
      const passt: ChildProcess = spawn('passt', ['-q', '-f', '-4', '-1', ...addresses, '-s', socket]);
      closed.push(() => passt.kill());
      let said = '';
      passt.stderr!.on('data', (text: Buffer) => (said += text.toString()));
      while (!existsSync(socket) && passt.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 20));
      if (passt.exitCode !== null) context.skip(`passt does not start here: ${said.trim().split('\n').at(-1)}`);

      const guest = await start(...options(), '--nic', `stream,remote=${socket}`);
      await guest.ready();
      await guest.run('ip link set eth0 up; sleep 3');
      const script =
        '#!/bin/sh\\n[ "$1" = bound ] && ip addr add $ip/$mask dev $interface && echo lease $ip $router\\n';
      await guest.run(`printf '${script}' > /tmp/lease; chmod +x /tmp/lease`);
      expect(await guest.run('udhcpc -i eth0 -n -q -f -s /tmp/lease')).toContain('lease 10.0.2.15 10.0.2.2\n');
      if (canPing()) expect(await guest.run('ping -c 3 10.0.2.2')).toContain('3 packets received, 0% packet loss');
      const { port } = server.address() as AddressInfo;
      const got = await guest.run(`wget -q -O - http://10.0.2.2:${port}/file | sha256sum`);
      expect(sumIn(got)).toBe(sha256(content));
      await expectNoTrouble(guest);
      expect(await guest.leave()).toBe(0);
    },
  );
});
