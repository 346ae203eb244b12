/** Debian's kernel as it is: its IOMMU, NVMe, network and file system drivers. */
import { execFileSync, spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { debianKernel, expectNoTrouble, linux, makeDisk, start, timeout, useDisk, why } from './lab.ts';

const hasExt4 = spawnSync('mkfs.ext4', ['-V']).status === 0;

describe.skipIf(!linux)(`Debian's kernel (else skipped: ${why})`, () => {
  it('its IOMMU, NVMe, network and file system drivers do their work', { timeout }, async () => {
    const disk = makeDisk('debian.img');
    const options = [...debianKernel(), '--append', 'quiet'];
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
    await expectNoTrouble(guest);
    expect(await guest.leave()).toBe(0);
  });

  it.skipIf(!hasExt4)(
    'fills an ext4 file system, and e2fsck finds nothing (skipped where e2fsprogs is not installed)',
    { timeout },
    async () => {
      const disk = makeDisk('ext4.img');
      execFileSync('mkfs.ext4', ['-q', '-F', disk]);
      const options = [...debianKernel(), '--append', 'quiet'];
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
      await expectNoTrouble(guest);
      expect(await guest.leave()).toBe(0);
      // Throws where the exit code is not 0: clean, and nothing was corrected.
      execFileSync('e2fsck', ['-fn', disk], { stdio: 'ignore' });
    },
  );
});
