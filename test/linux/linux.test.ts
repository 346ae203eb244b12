/** A kernel whose DMA goes through page tables: unmodified drivers, strict and lazy invalidation, and how runs end. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import {
  expectNoTrouble,
  folder,
  image,
  imageWhy,
  linux,
  makeDisk,
  smallKernel,
  start,
  timeout,
  useDisk,
} from './lab.ts';

/** Only where every unmapping is invalidated at once can a stale entry be called a mistake. */
const check = ['--check', 'stale-translations'];
const pci = ['--viommu', 'riscv,bus=pci'];
const modes = [
  ['strict', 'iommu.strict=1', 'DMA', check],
  ['strict, the IOMMU on PCI', 'iommu.strict=1', 'DMA', [...pci, ...check]],
  ['lazy', 'iommu.strict=0', 'DMA-FQ', []],
  ['lazy, the IOMMU on PCI', 'iommu.strict=0', 'DMA-FQ', pci],
  ['passthrough', 'iommu.passthrough=1', 'identity', []],
] as const;

describe.skipIf(!linux || image === undefined)(`a kernel with DMA domains (else skipped: ${imageWhy})`, () => {
  it.each(modes)('%s: every DMA of NVMe goes where it should', { timeout }, async (name, append, type, more) => {
    const disk = makeDisk(`${name.replace(/\W+/g, '-')}.img`);
    const guest = await start(...smallKernel(), '--disk', disk, '--append', append, ...more);
    await guest.ready();
    expect((await guest.run('ls /sys/bus/pci/drivers/iommu_pci | grep -c ^0000')).trim()).toBe(
      (more as readonly string[]).includes('riscv,bus=pci') ? '1' : '0',
    );
    const types = await guest.run('cat /sys/kernel/iommu_groups/*/type');
    expect(new Set(types.trim().split('\n'))).toEqual(new Set([type]));
    await useDisk(guest, disk);
    await expectNoTrouble(guest);
    expect(await guest.leave()).toBe(0);
    expect(guest.errors).not.toContain('stale');
  });

  it.each([2, 3, 4, 5, 6, 7, 8])('%i harts', { timeout }, async (harts) => {
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

  it('boots with 3 GiB of memory, from an Image compressed with gzip', { timeout }, async () => {
    const compressed = join(folder, 'Image.gz');
    writeFileSync(compressed, gzipSync(readFileSync(image!), { level: 1 }));
    const guest = await start('--kernel', compressed, '--initrd', linux!.plainInitrd, '--memory', '3G');
    await guest.ready();
    const kib = Number(/MemTotal: *(\d+) kB/.exec(await guest.run('cat /proc/meminfo'))![1]);
    expect(kib).toBeGreaterThan(2.8 * 2 ** 20);
    expect(kib).toBeLessThan(3 * 2 ** 20);
    await expectNoTrouble(guest);
    expect(await guest.leave()).toBe(0);
  });

  it(
    'virtual time runs with instructions and jumps over sleep, with --realtime it keeps to the clock',
    { timeout },
    async () => {
      const sleep = async (
        ...more: readonly string[]
      ): Promise<{ readonly guestS: number; readonly wallS: number }> => {
        const guest = await start(...smallKernel(), '--append', 'quiet', ...more);
        await guest.ready();
        const begin = performance.now();
        const said = await guest.run('cut -d" " -f1 /proc/uptime; sleep 20; cut -d" " -f1 /proc/uptime');
        const wallS = (performance.now() - begin) / 1000;
        const [from, to] = said.match(/\d+\.\d\d/g)!.map(Number);
        expect(await guest.leave()).toBe(0);
        return { guestS: to! - from!, wallS };
      };
      const free = await sleep();
      expect(free.guestS).toBeGreaterThanOrEqual(20);
      const paced = await sleep('--realtime');
      expect(paced.guestS).toBeGreaterThanOrEqual(20);
      // Never ahead of the clock, but for the slice that is under way.
      expect(paced.wallS).toBeGreaterThan(paced.guestS - 0.5);
    },
  );

  const hasScript = spawnSync('script', ['--version']).status === 0;
  it.skipIf(!hasScript)(
    'on a terminal Ctrl-C is for the guest, Ctrl-A h helps and Ctrl-A x leaves (skipped where script is not installed)',
    { timeout },
    async () => {
      const guest = await start({ terminal: true }, ...smallKernel(), '--append', 'quiet');
      await guest.ready();
      // What is typed does not hold the word that the shell prints once it runs.
      guest.type("sh -c 'echo run''ning; exec sleep 1000'\n");
      await guest.until('running');
      guest.type('\u0003');
      await guest.ready();
      guest.type('\u0001h');
      await guest.until('Ctrl-A x  leave');
      expect(await guest.run('echo a | tr a b')).toContain('b');
      guest.type('\u0001x');
      expect(await guest.ended).toBe(130);
    },
  );

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
