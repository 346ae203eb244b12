/**
 * What the Linux tests share. IOMMULAB_LINUX_IMAGE names a kernel with all drivers built in and DMA domains behind the
 * RISC-V IOMMU; IOMMULAB_LINUX=1 lets the tests fetch Debian's kernel and busybox (130 MB) with apt. What `npm run linux`
 * left in the cache is used as it is.
 */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, expect } from 'vitest';
import { cachedLinux, makeLinux } from '#guest-images/linux/make';
import { NoPackages } from '#guest-images/linux/packages';
import { Guest, type GuestOptions } from './guest.ts';

let missing = 'neither .cache/linux is there nor IOMMULAB_LINUX=1 set';
const findLinux = () => {
  try {
    return cachedLinux() ?? (process.env['IOMMULAB_LINUX'] ? makeLinux(() => {}) : undefined);
  } catch (error) {
    if (!(error instanceof NoPackages)) throw error;
    missing = error.message;
    return undefined;
  }
};
export const linux = findLinux();
/** Why there is no Debian guest. */
export const why = missing;
export const image = process.env['IOMMULAB_LINUX_IMAGE'];
/** Why there is no guest with DMA domains. */
export const imageWhy = image === undefined ? 'IOMMULAB_LINUX_IMAGE is unset' : why;

/** Of one test, ms: a boot of Debian's kernel takes some 10 s of CPU time. */
export const timeout = 300_000;

/** A folder of the test file's own. */
export const folder = mkdtempSync(join(tmpdir(), 'iommulab-linux-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const guests: Guest[] = [];
afterEach(() => guests.splice(0).forEach((guest) => guest.kill()));
/** `iommulab run` with these arguments, killed after the test. */
export const start = async (...given: readonly (string | GuestOptions)[]): Promise<Guest> => {
  const isText = (one: string | GuestOptions): one is string => typeof one === 'string';
  const guest = await Guest.start(given.filter(isText), given.find((one) => !isText(one)) as GuestOptions | undefined);
  guests.push(guest);
  return guest;
};

/** Options that boot each kernel with its initial RAM disk. */
export const smallKernel = (): string[] => ['--kernel', image!, '--initrd', linux!.plainInitrd];
export const debianKernel = (): string[] => ['--kernel', linux!.kernel, '--initrd', linux!.initrd, '--memory', '512M'];

/** What a kernel says when something is wrong. */
const trouble = /warning|oops|\bbug\b|timeout|timed out|call trace|unable to|\bfault|stall|lockup|i\/o error/i;
export const expectNoTrouble = async (guest: Guest): Promise<void> =>
  expect((await guest.run('dmesg')).split('\n').filter((line) => trouble.test(line))).toEqual([]);

export const makeDisk = (name: string, bytes = 16 << 20): string => {
  const path = join(folder, name);
  writeFileSync(path, new Uint8Array(bytes));
  return path;
};
export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
/** The one SHA-256 in what a guest said. */
export const sumIn = (said: string): string | undefined => /\b[0-9a-f]{64}\b/.exec(said)?.[0];

/** Fills 4 MiB of the disk, reads it back past the page cache, and compares with what lies in the file. */
export async function useDisk(guest: Guest, disk: string): Promise<void> {
  await guest.run('dd if=/dev/urandom of=/tmp/a bs=64k count=64 2>/dev/null');
  await guest.run('dd if=/tmp/a of=/dev/nvme0n1 bs=64k oflag=direct conv=notrunc 2>/dev/null');
  await guest.run('dd if=/dev/nvme0n1 of=/tmp/b bs=1M count=4 iflag=direct 2>/dev/null');
  const sums = (await guest.run('cat /tmp/a | sha256sum; cat /tmp/b | sha256sum')).match(/[0-9a-f]{64}/g)!;
  expect(sums).toHaveLength(2);
  expect(sums[1]).toBe(sums[0]);
  expect(sha256(readFileSync(disk).subarray(0, 4 << 20))).toBe(sums[0]);
}
