/**
 * Cards that come and go under Linux. Its own pciehp does all of it where the kernel has it (CONFIG_HOTPLUG_PCI_PCIE);
 * Debian's has not: there a shell switches the slot and has the bus looked at again.
 */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { iommulab } from '../cmd/iommulab.ts';
import type { Guest } from './guest.ts';
import { folder, image, imageWhy, linux, makeDisk, smallKernel, start, timeout, useDisk, why } from './lab.ts'; // prettier-ignore

const controlled = (name: string) => {
  const path = join(folder, `${name}.sock`);
  const ctl = async (...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await iommulab(['ctl', path, ...args]);
    expect(stderr.replace('done\n', '')).toBe('');
    expect(code).toBe(0);
    return stdout;
  };
  return { path, ctl };
};

/** A run of minutes has a kernel say that it left warnings about randomness out: no trouble. */
const trouble = /oops|\bbug\b|timeout|timed out|call trace|unable to|stall|lockup|i\/o error/i;
const expectCalm = async (guest: Guest): Promise<void> =>
  expect((await guest.run('dmesg')).split('\n').filter((line) => trouble.test(line))).toEqual([]);

/** Waits in the guest, whose time runs as fast as we let it. */
const eventually = async (guest: Guest, command: string, expected: string): Promise<void> => {
  const loop = `for i in $(seq 200); do [ "$(${command})" = "${expected}" ] && break; sleep 0.1; done; echo "is[$(${command})]"`;
  // What was typed comes back in several lines.
  expect(/^is\[(.*)\]$/m.exec(await guest.run(loop))?.[1]).toBe(expected);
};

describe.skipIf(!linux || image === undefined)(`pciehp (else skipped: ${imageWhy})`, () => {
  it('brings cards up, lets them go by the button, and stands their loss', { timeout }, async (context) => {
    const { path, ctl } = controlled('pciehp');
    const disk = makeDisk('hot.img');
    const options = ['--hotplug-ports', '2', '--control', path, '--append', 'quiet iommu.strict=1'];
    const guest = await start(...smallKernel(), ...options);
    await guest.ready();
    if ((await guest.run('ls /sys/bus/pci/slots')).trim() === '') return context.skip('the kernel has no pciehp');
    const objects = async (): Promise<number> => (await ctl('inspect', 'what=objects')).trim().split('\n').length;
    const before = await objects();
    const disks = 'ls /sys/block | tr -d "\\n "';

    await ctl('device_add', 'driver=nvme', 'id=disk', `path=${disk}`);
    await eventually(guest, disks, 'nvme0n1');
    expect((await guest.run('cat /sys/bus/pci/slots/1/address')).trim()).toBe('0000:01:00');
    await useDisk(guest, disk);
    await ctl('device_add', 'driver=nic', 'id=card');
    await eventually(guest, 'ls /sys/class/net | grep -c eth', '1');
    await expectCalm(guest);

    // The guest waits five seconds for a second thought, then lets it go.
    await ctl('device_del', 'id=disk');
    await eventually(guest, disks, '');
    await eventually(guest, 'cat /sys/bus/pci/slots/1/power', '0');
    await ctl('device_add', 'driver=nvme', 'id=disk', `path=${disk}`);
    await eventually(guest, disks, 'nvme0n1');

    await guest.run(
      '(while dd if=/dev/nvme0n1 of=/dev/null bs=1M iflag=direct; do :; done) >/dev/null 2>&1 & sleep 0.01',
    );
    await ctl('device_del', 'id=disk', 'surprise=true');
    await ctl('device_del', 'id=card', 'surprise=true');
    await eventually(guest, disks, '');
    await eventually(guest, 'ls /sys/class/net | grep -c eth', '0');
    expect(await guest.run('dmesg')).toMatch(/Slot\(1\): (?:Link Down|Card not present)/);
    expect(await objects()).toBe(before);
    expect(await guest.run('dmesg')).not.toMatch(/oops|\bbug\b|call trace|lockup/i);
    expect(await guest.leave()).toBe(0);
  });
});

describe.skipIf(!linux)(`Debian's kernel, which has no pciehp (else skipped: ${why})`, () => {
  it('finds a card when a shell switches its slot, and lets it go', { timeout }, async () => {
    const { path, ctl } = controlled('debian');
    const disk = makeDisk('hot-debian.img');
    const options = [
      '--kernel',
      linux!.kernel,
      '--initrd',
      linux!.initrd,
      '--hotplug-ports',
      '1',
      '--control',
      path,
      '--append',
      'quiet',
    ];
    const guest = await start(...options);
    await guest.ready();
    // Slot Control of the first port: power and its indicator.
    const control = (bytes: string): Promise<string> =>
      guest.run(
        `printf '${bytes}' | dd of=/sys/bus/pci/devices/0000:00:01.0/config bs=2 seek=48 conv=notrunc 2>/dev/null`,
      );
    await ctl('device_add', 'driver=nvme', 'id=disk', `path=${disk}`);
    await control('\\xc0\\x01');
    await guest.run('echo 1 > /sys/bus/pci/rescan; sleep 1');
    await eventually(guest, 'ls /sys/block | tr -d "\\n "', 'nvme0n1');
    await useDisk(guest, disk);
    await ctl('device_del', 'id=disk');
    expect(await ctl('query-ports')).toMatch(/disk +asked for/);
    await guest.run('echo 1 > /sys/bus/pci/devices/0000:01:00.0/remove; sleep 1');
    await control('\\xc0\\x07');
    expect(await ctl('query-ports')).toMatch(/empty/);
    await expectCalm(guest);
    expect(await guest.leave()).toBe(0);
  });
});
