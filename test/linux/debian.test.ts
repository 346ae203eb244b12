/** Debian's kernel as it is: its IOMMU, NVMe, network and file system drivers. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { debianKernel, expectNoTrouble, folder, linux, makeDisk, start, timeout, useDisk, why } from './lab.ts';

describe.skipIf(!linux)(`Debian's kernel (else skipped: ${why})`, () => {
  const places = [
    ['a platform device', 'platform', 'riscv,iommu 3010000.iommu: using MSIs'],
    ['a PCI function', 'pci', 'iommu_pci 0000:00:01.0: enabling device'],
  ] as const;
  it.each(places)('its NVMe and network drivers do their work behind %s', { timeout }, async (_, bus, bound) => {
    const disk = makeDisk(`debian-${bus}.img`);
    const options = [...debianKernel(), '--append', 'quiet', '--viommu', `riscv,bus=${bus}`];
    const guest = await start(...options, '--disk', disk, '--nic', 'hub', '--nic', 'hub');
    await guest.ready();
    expect((await guest.run('uname -r')).trim()).toBe(linux!.version);
    expect(await guest.run('dmesg | grep iommu')).toContain(bound);
    expect((await guest.run('ls /sys/class/iommu | wc -l')).trim()).toBe('1');
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
    await expectNoTrouble(guest);
    expect(await guest.leave()).toBe(0);
  });

  it(
    'partitions its disk, makes an ext4 file system, fills it, and finds nothing wrong with it',
    { timeout },
    async () => {
      const disk = makeDisk('ext4.img', 64 << 20);
      const guest = await start(...debianKernel(), '--append', 'quiet', '--disk', disk);
      await guest.ready();
      // Two primary partitions: 16 MiB, and the rest.
      await guest.run("printf 'o\\nn\\np\\n1\\n\\n+16M\\nn\\np\\n2\\n\\n\\nw\\n' | fdisk /dev/nvme0n1 >/dev/null 2>&1");
      expect(await guest.run('cat /proc/partitions')).toMatch(/ 49152 nvme0n1p2\n/);
      expect(await guest.run('/sbin/mke2fs -q -t ext4 /dev/nvme0n1p2; echo status $?')).toContain('status 0');
      await guest.run('mount -t ext4 /dev/nvme0n1p2 /mnt');
      await guest.run('for i in 1 2 3 4; do dd if=/dev/urandom of=/mnt/f$i bs=1M count=1 2>/dev/null; done');
      await guest.run('cd /mnt; sha256sum f* > /tmp/sums; cd /; umount /mnt');
      // Fill it up; the last write must fail for want of space and nothing else.
      await guest.run('mount -t ext4 /dev/nvme0n1p2 /mnt');
      expect(await guest.run('dd if=/dev/zero of=/mnt/rest bs=1M')).toContain('No space left on device');
      expect((await guest.run('cd /mnt; sha256sum -c /tmp/sums; cd /')).match(/: OK/g)).toHaveLength(4);
      await guest.run('umount /mnt');
      // 0: clean, and nothing had to be corrected.
      expect(await guest.run('/sbin/e2fsck -fn /dev/nvme0n1p2; echo status $?')).toContain('status 0');
      await expectNoTrouble(guest);
      expect(await guest.leave()).toBe(0);

      // What lies in the file, to the host's own eyes: a PC partition table, and a file system that its e2fsck likes too.
      const bytes = readFileSync(disk);
      expect(bytes.readUInt16LE(510)).toBe(0xaa55);
      const [sector, sectors] = [bytes.readUInt32LE(0x1ce + 8), bytes.readUInt32LE(0x1ce + 12)];
      const partition = bytes.subarray(512 * sector, 512 * (sector + sectors));
      expect(partition.length).toBe(48 << 20);
      expect(partition.readUInt16LE(1024 + 56)).toBe(0xef53);
      if (spawnSync('e2fsck', ['-V']).status !== 0) return;
      const file = makeDisk('partition.img', 0);
      writeFileSync(file, partition);
      execFileSync('e2fsck', ['-fn', file], { stdio: 'ignore' });
    },
  );

  it('a panic ends with exit code 3 and the last lines of the console', { timeout }, async () => {
    const guest = await start('--kernel', linux!.kernel, '--memory', '512M', '--append', 'quiet panic=-1');
    expect(await guest.ended).toBe(3);
    expect(guest.errors).toContain('last console lines');
    expect(guest.errors).toMatch(/the guest crashed: Kernel panic - not syncing: VFS: Unable to mount root fs/);
  });

  it(
    'boots with 8 harts and 3 GiB, from an Image compressed with gzip, and ends with a reboot',
    { timeout },
    async () => {
      const compressed = join(folder, 'Image.gz');
      writeFileSync(compressed, gzipSync(readFileSync(linux!.kernel), { level: 1 }));
      const options = ['--kernel', compressed, '--initrd', linux!.initrd, '--memory', '3G', '--smp', '8'];
      const guest = await start(...options, '--append', 'quiet');
      await guest.ready();
      expect((await guest.run('nproc')).trim()).toBe('8');
      expect(Number(/MemTotal: *(\d+) kB/.exec(await guest.run('cat /proc/meminfo'))![1])).toBeGreaterThan(
        2.7 * 2 ** 20,
      );
      await expectNoTrouble(guest);
      void guest.run('reboot -f').catch(() => {});
      expect(await guest.ended).toBe(5);
    },
  );
});
