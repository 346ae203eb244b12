/** A kernel whose DMA goes through page tables: unmodified drivers, strict and lazy invalidation, and how runs end. */
import { describe, expect, it } from 'vitest';
import { expectNoTrouble, image, imageWhy, linux, makeDisk, smallKernel, start, timeout, useDisk } from './lab.ts';

const modes = [
  ['strict', 'iommu.strict=1', 'DMA'],
  ['lazy', 'iommu.strict=0', 'DMA-FQ'],
  ['passthrough', 'iommu.passthrough=1', 'identity'],
] as const;

describe.skipIf(!linux || image === undefined)(`a kernel with DMA domains (else skipped: ${imageWhy})`, () => {
  it.each(modes)('%s: every DMA of NVMe goes where it should', { timeout }, async (name, append, type) => {
    const disk = makeDisk(`${name}.img`);
    const guest = await start(...smallKernel(), '--disk', disk, '--append', append);
    await guest.ready();
    const types = await guest.run('cat /sys/kernel/iommu_groups/*/type');
    expect(new Set(types.trim().split('\n'))).toEqual(new Set([type]));
    await useDisk(guest, disk);
    await expectNoTrouble(guest);
    expect(await guest.leave()).toBe(0);
  });

  it.each([2, 3, 4])('%i harts', { timeout }, async (harts) => {
    const disk = makeDisk(`smp${harts}.img`);
    const options = [...smallKernel(), '--disk', disk, '--smp', `${harts}`];
    const guest = await start(...options, '--append', 'quiet');
    await guest.ready();
    expect((await guest.run('nproc')).trim()).toBe(`${harts}`);
    expect((await guest.run('grep -c nvme0q /proc/interrupts')).trim()).toBe(`${harts + 1}`);
    await useDisk(guest, disk);
    await expectNoTrouble(guest);
    expect(await guest.leave()).toBe(0);
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
    const options = [...smallKernel(), '--append', 'quiet'];
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
