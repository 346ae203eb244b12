/**
 * Unmodified Linux with its own drivers. IOMMULAB_LINUX_IMAGE names a kernel with all drivers built in and DMA domains
 * behind the RISC-V IOMMU; IOMMULAB_LINUX=1 lets the tests fetch Debian's kernel and busybox (130 MB) with apt. What
 * `npm run linux` left in the cache is used as it is.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { cachedLinux, makeLinux } from '#guest-images/linux/make';
import { NoPackages } from '#guest-images/linux/packages';
import { Guest } from './guest.ts';

let why = 'neither .cache/linux is there nor IOMMULAB_LINUX=1 set';
const findLinux = () => {
  try {
    return cachedLinux() ?? (process.env['IOMMULAB_LINUX'] ? makeLinux(() => {}) : undefined);
  } catch (error) {
    if (!(error instanceof NoPackages)) throw error;
    why = error.message;
    return undefined;
  }
};
const linux = findLinux();
const image = process.env['IOMMULAB_LINUX_IMAGE'];
const imageWhy = image === undefined ? 'IOMMULAB_LINUX_IMAGE is unset' : why;

const folder = mkdtempSync(join(tmpdir(), 'iommulab-linux-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const guests: Guest[] = [];
afterEach(() => guests.splice(0).forEach((guest) => guest.kill()));
const start = async (...args: readonly string[]): Promise<Guest> => {
  const guest = await Guest.start(args);
  guests.push(guest);
  return guest;
};

const hasExt4 = spawnSync('mkfs.ext4', ['-V']).status === 0;
const timeout = 300_000;
/** What a kernel says when something is wrong. */
const trouble = /warning|oops|\bbug\b|timeout|timed out|call trace|unable to|\bfault|stall|lockup|i\/o error/i;
const troubles = (dmesg: string): string[] => dmesg.split('\n').filter((line) => trouble.test(line));

const diskBytes = 16 << 20;
const makeDisk = (name: string): string => {
  const path = join(folder, name);
  writeFileSync(path, new Uint8Array(diskBytes));
  return path;
};
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Fills 4 MiB of the disk, reads it back past the page cache, and compares with what lies in the file. */
async function useDisk(guest: Guest, disk: string): Promise<void> {
  await guest.run('dd if=/dev/urandom of=/tmp/a bs=64k count=64 2>/dev/null');
  await guest.run('dd if=/tmp/a of=/dev/nvme0n1 bs=64k oflag=direct conv=notrunc 2>/dev/null');
  await guest.run('dd if=/dev/nvme0n1 of=/tmp/b bs=1M count=4 iflag=direct 2>/dev/null');
  const sums = (await guest.run('cat /tmp/a | sha256sum; cat /tmp/b | sha256sum')).match(/[0-9a-f]{64}/g)!;
  expect(sums).toHaveLength(2);
  expect(sums[1]).toBe(sums[0]);
  expect(sha256(readFileSync(disk).subarray(0, 4 << 20))).toBe(sums[0]);
}

const modes = [
  ['strict', 'iommu.strict=1', 'DMA'],
  ['lazy', 'iommu.strict=0', 'DMA-FQ'],
  ['passthrough', 'iommu.passthrough=1', 'identity'],
] as const;

describe.skipIf(!linux || image === undefined)(`a kernel with DMA domains (else skipped: ${imageWhy})`, () => {
  it.each(modes)('%s: every DMA of NVMe goes where it should', { timeout }, async (name, append, type) => {
    const disk = makeDisk(`${name}.img`);
    const guest = await start('--kernel', image!, '--initrd', linux!.plainInitrd, '--disk', disk, '--append', append);
    await guest.ready();
    const types = await guest.run('cat /sys/kernel/iommu_groups/*/type');
    expect(new Set(types.trim().split('\n'))).toEqual(new Set([type]));
    await useDisk(guest, disk);
    expect(troubles(await guest.run('dmesg'))).toEqual([]);
    expect(await guest.leave()).toBe(0);
  });

  it.each([2, 3, 4])('%i harts', { timeout }, async (harts) => {
    const disk = makeDisk(`smp${harts}.img`);
    const options = ['--kernel', image!, '--initrd', linux!.plainInitrd, '--disk', disk, '--smp', `${harts}`];
    const guest = await start(...options, '--append', 'quiet');
    await guest.ready();
    expect((await guest.run('nproc')).trim()).toBe(`${harts}`);
    expect((await guest.run('grep -c nvme0q /proc/interrupts')).trim()).toBe(`${harts + 1}`);
    await useDisk(guest, disk);
    expect(troubles(await guest.run('dmesg'))).toEqual([]);
    expect(await guest.leave()).toBe(0);
  });

  it('two guests on one wire ping each other and download a file', { timeout }, async () => {
    const wire = join(folder, 'wire');
    const options = ['--kernel', image!, '--initrd', linux!.plainInitrd, '--append', 'quiet', '--realtime'];
    const server = await start(...options, '--nic', `stream,local=${wire}`);
    await server.ready();
    const client = await start(...options, '--nic', `stream,remote=${wire},mac=52:54:00:12:34:99`);
    await client.ready();
    await server.run('ip addr add 10.0.0.1/24 dev eth0; ip link set eth0 up');
    await client.run('ip addr add 10.0.0.2/24 dev eth0; ip link set eth0 up; sleep 2');
    await server.run('dd if=/dev/urandom of=/tmp/file bs=64k count=16 2>/dev/null; httpd -p 80 -h /tmp');
    expect(await client.run('ping -c 3 10.0.0.1')).toContain('3 packets received, 0% packet loss');
    const sums = await Promise.all([
      server.run('cat /tmp/file | sha256sum'),
      client.run('wget -q -O - http://10.0.0.1/file | sha256sum'),
    ]);
    expect(sums[0]).toMatch(/[0-9a-f]{64}/);
    expect(sums[1]).toBe(sums[0]);
    for (const guest of [client, server]) {
      expect(troubles(await guest.run('dmesg'))).toEqual([]);
      expect(await guest.leave()).toBe(0);
    }
  });

  it('a panic ends with exit code 3 and the last lines of the console', { timeout }, async () => {
    for (const append of ['panic=-1', 'panic=0', 'panic=3']) {
      const guest = await start('--kernel', image!, '--append', append);
      expect(await guest.ended).toBe(3);
      expect(guest.errors).toContain('last console lines');
      expect(guest.errors).toContain('the guest crashed: Kernel panic - not syncing: VFS: Unable to mount root fs');
    }
  });

  it('a reboot is a reset, and with --reboot boots again', { timeout }, async () => {
    const options = ['--kernel', image!, '--initrd', linux!.plainInitrd, '--append', 'quiet'];
    const once = await start(...options);
    await once.ready();
    void once.run('reboot -f').catch(() => {});
    expect(await once.ended).toBe(5);
    const again = await start(...options, '--reboot');
    await again.ready();
    void again.run('reboot -f').catch(() => {});
    await again.until('init: Linux');
    await again.ready();
    expect(await again.leave()).toBe(0);
  });
});

describe.skipIf(!linux)(`Debian's kernel (else skipped: ${why})`, () => {
  it('its IOMMU, NVMe, network and file system drivers do their work', { timeout }, async () => {
    const disk = makeDisk('debian.img');
    const options = ['--kernel', linux!.kernel, '--initrd', linux!.initrd, '--memory', '512M', '--append', 'quiet'];
    const guest = await start(...options, '--disk', disk, '--nic', 'hub', '--nic', 'hub');
    await guest.ready();
    expect((await guest.run('uname -r')).trim()).toBe(linux!.version);
    expect(await guest.run('dmesg | grep iommu')).toContain('riscv,iommu 3010000.iommu: using MSIs');
    await useDisk(guest, disk);

    // The second card lives in a network of its own, so that what is sent to it goes over the wire.
    await guest.run('unshare -n sleep 100000 & sleep 1; N=$!; ip link set eth1 netns $N');
    await guest.run('nsenter -t $N -n ip addr add 10.0.0.2/24 dev eth1; nsenter -t $N -n ip link set eth1 up');
    await guest.run('ip addr add 10.0.0.1/24 dev eth0; ip link set eth0 up; sleep 4');
    expect(await guest.run('ping -c 3 10.0.0.2')).toContain('3 packets received, 0% packet loss');
    await guest.run('nsenter -t $N -n httpd -p 80 -h /tmp');
    const sums = (await guest.run('cat /tmp/a | sha256sum; wget -q -O - http://10.0.0.2/a | sha256sum')).match(
      /[0-9a-f]{64}/g,
    )!;
    expect(sums[1]).toBe(sums[0]);
    expect(troubles(await guest.run('dmesg'))).toEqual([]);
    expect(await guest.leave()).toBe(0);
  });

  it.skipIf(!hasExt4)(
    'fills an ext4 file system, and e2fsck finds nothing (skipped where e2fsprogs is not installed)',
    { timeout },
    async () => {
      const disk = makeDisk('ext4.img');
      execFileSync('mkfs.ext4', ['-q', '-F', disk]);
      const options = ['--kernel', linux!.kernel, '--initrd', linux!.initrd, '--memory', '512M', '--append', 'quiet'];
      const guest = await start(...options, '--disk', disk);
      await guest.ready();
      await guest.run('mount -t ext4 /dev/nvme0n1 /mnt');
      await guest.run('for i in 1 2 3 4; do dd if=/dev/urandom of=/mnt/f$i bs=1M count=1 2>/dev/null; done');
      await guest.run('cd /mnt; sha256sum f* > /tmp/sums; cd /; umount /mnt');
      // Fill it up; the last write must fail for want of space and nothing else.
      await guest.run('mount -t ext4 /dev/nvme0n1 /mnt');
      expect(await guest.run('dd if=/dev/zero of=/mnt/rest bs=1M')).toContain('No space left on device');
      expect((await guest.run('cd /mnt; sha256sum -c /tmp/sums; cd /')).match(/: OK/g)).toHaveLength(4);
      await guest.run('umount /mnt');
      expect(troubles(await guest.run('dmesg'))).toEqual([]);
      expect(await guest.leave()).toBe(0);
      // Throws where the exit code is not 0: clean, and nothing was corrected.
      execFileSync('e2fsck', ['-fn', disk], { stdio: 'ignore' });
    },
  );
});
