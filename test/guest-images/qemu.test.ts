/** The same images on another implementation of the machine: QEMU's `virt`, where it is installed. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { diskLayout, expectedWriteback, makeDiskImage } from '#guest-images/disk-image';

const QEMU = 'qemu-system-riscv64';
const machines = spawnSync(QEMU, ['-M', 'virt,help'], { encoding: 'utf8' }).stdout ?? '';
const missing = machines.includes('aia=') ? undefined : `${QEMU} with an IMSIC is not installed`;
// QEMU 10 and later has the platform IOMMU as well.
const hasIommu = machines.includes('iommu-sys');
if (missing !== undefined) process.stderr.write(`skipped: ${missing}\n`);

const scratch = mkdtempSync(join(tmpdir(), 'guest-images-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function boot(name: string, ...args: string[]): { status: number | null; lines: string[] } {
  const kernel = fileURLToPath(new URL(`../../guest-images/images/${name}.elf`, import.meta.url));
  // prettier-ignore
  const machine = [
    '-M', `virt,aia=aplic-imsic${hasIommu ? ',iommu-sys=on' : ''}`, '-m', '128M', '-display', 'none',
    '-monitor', 'none', '-serial', 'stdio', '-no-reboot', '-kernel', kernel,
  ];
  const { status, stdout } = spawnSync(QEMU, [...machine, ...args], { encoding: 'utf8', input: '', timeout: 50_000 });
  return { status, lines: stdout.split(/\r?\n/).filter((line) => line !== '') };
}

describe.skipIf(missing !== undefined)('on QEMU', () => {
  it('hello passes', () => {
    const { status, lines } = boot('hello');
    expect(lines.at(-1)).toBe('passed');
    expect(lines).toContain('hello from hart 0');
    expect(status).toBe(0);
  });

  it('irq passes', () => {
    expect(boot('irq').lines.at(-1)).toBe('passed');
  });

  it('smp passes on three harts', () => {
    expect(boot('smp', '-smp', '3').lines.at(-1)).toBe('passed');
  });

  it('fail ends with its code', () => {
    const { status, lines } = boot('fail');
    expect(lines.at(-1)).toBe('failed: on purpose, with code 3');
    expect(status).toBe(3);
  });

  it('dma passes, and the disk holds what the guest wrote', () => {
    const disk = join(scratch, 'disk.img');
    writeFileSync(disk, makeDiskImage(7));
    // prettier-ignore
    const { lines } = boot(
      'dma',
      '-drive', `file=${disk},if=none,id=d0,format=raw`, '-device', 'nvme,serial=one,drive=d0',
      '-netdev', 'hubport,id=h0,hubid=0', '-device', 'e1000e,netdev=h0,romfile=',
      '-netdev', 'hubport,id=h1,hubid=0', '-device', 'e1000e,netdev=h1,romfile=',
    );
    expect(lines.at(-1)).toBe('passed');
    expect(lines.filter((line) => line.startsWith('frames: '))).toHaveLength(2);
    expect(lines.filter((line) => line.startsWith('fault: '))).toHaveLength(hasIommu ? 3 : 0);
    const { writebackOffset, writebackBytes } = diskLayout;
    const written = readFileSync(disk).subarray(writebackOffset, writebackOffset + writebackBytes);
    expect(Buffer.compare(written, expectedWriteback())).toBe(0);
  });

  it('nvme passes', () => {
    const disk = join(scratch, 'nvme.img');
    writeFileSync(disk, makeDiskImage(7));
    const { lines } = boot(
      'nvme',
      '-drive',
      `file=${disk},if=none,id=d0,format=raw`,
      '-device',
      'nvme,serial=one,drive=d0',
    );
    expect(lines.at(-1)).toBe('passed');
    expect(lines.filter((line) => line.startsWith('alive: '))).toHaveLength(3);
  });

  it('nic passes', () => {
    // prettier-ignore
    const { lines } = boot(
      'nic',
      '-netdev', 'hubport,id=h0,hubid=0', '-device', 'e1000e,netdev=h0,romfile=',
      '-netdev', 'hubport,id=h1,hubid=0', '-device', 'e1000e,netdev=h1,romfile=',
    );
    expect(lines.at(-1)).toBe('passed');
    expect(lines).toContain('hash: tcp=0x51ccc178 type=1');
  });
});
