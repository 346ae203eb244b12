import { describe, expect, it } from 'vitest';
import { LinuxHost } from '#iommufd/linux/host';
import { loadLibc } from '#iommufd/linux/libc';
import { LinuxTarget } from '#iommufd/linux/target';
import { iommulab } from '#test/cmd/iommulab';
import { errno } from '#vmm/base/errno';

/** koffi is optional: KOFFI names one that lies elsewhere. */
const libc = process.platform === 'linux' ? await loadLibc(process.env['KOFFI'] ?? 'koffi') : undefined;
const hasIommufd = libc !== undefined && new LinuxHost(libc).open('/dev/iommu') >= 0;

describe('--host kernel', () => {
  it.skipIf(hasIommufd)('says in one sentence what is missing, and ends with exit code 6', async () => {
    const ended = await iommulab(['conformance', 'test/conformance/iommufd', '--host', 'kernel']);
    expect(ended.code).toBe(6);
    expect(ended.stdout).toBe('');
    expect(ended.stderr).toMatch(/^iommulab: --host kernel: expected .*(koffi|\/dev\/iommu|Linux).*\n$/);
  });

  it('offers only what there is', async () => {
    const ended = await iommulab(['conformance', 'test/conformance/iommufd', '--host', 'windows']);
    expect(ended.code).toBe(2);
    expect(ended.stderr).toContain('simulated');
  });

  it('answers undefined for a package that is not there', async () => {
    expect(await loadLibc('no-such-package-as-koffi')).toBeUndefined();
  });
});

/** Skipped where koffi is not installed. */
describe.skipIf(!libc)('system calls of the running Linux', () => {
  it('memory, pipes and files, with their errnos', () => {
    const host = new LinuxHost(libc!);
    expect(host.open('/no/such/file')).toBe(-errno.ENOENT);
    const { address, bytes } = host.scratch(100);
    expect(bytes.length).toBe(4096);
    const zero = host.open('/dev/zero');
    bytes.fill(7);
    expect(host.read(zero, address, 10)).toBe(10);
    expect([...bytes.subarray(8, 12)]).toEqual([0, 0, 7, 7]);
    expect(host.ioctl(zero, 0x3b80, address)).toBe(-errno.ENOTTY);
    expect(host.read(zero, address + 4090, 100)).toBe(6);
    expect(host.read(zero, 0, 10)).toBe(-errno.EFAULT);
    expect(host.close(zero)).toBe(0);
    expect(host.close(zero)).toBe(-errno.EBADF);
    expect(host.ioctl(zero, 0x3b80, address)).toBe(-errno.EBADF);
  });

  it('a target keeps its promises, and gives everything back', () => {
    const target = new LinuxTarget(libc!);
    const pipe = target.openOther('pipe');
    const { address, bytes } = target.scratch(4096);
    expect(target.poll(pipe)).toBe(0);
    expect(target.read(pipe, address, 8)).toBe(-errno.EAGAIN);
    expect(target.ioctl(pipe, 0x3b81, 0xffff_ffff_ffff_f000)).toBe(-errno.ENOTTY);

    const memfd = target.memfd(1);
    bytes.set([1, 2, 3]);
    expect(target.write(memfd, address, 3)).toBe(3);
    expect(target.poll(memfd)).toBe(1 | 4 | 64);
    expect(target.read(memfd, address, 8)).toBe(0);
    expect(target.ftruncate(memfd, 8192)).toBe(0);
    const shown = target.map({ kind: 'memfd', bytes: 8192, prot: 3, residue: 0x5000, fd: memfd, offset: 0 });
    expect(shown % (2 << 20)).toBe(0x5000);
    target.store(shown + 4094, new Uint8Array([9, 8, 7]));
    const again = target.mmap(memfd, 8192, 3, 1, 0);
    const copy = new Uint8Array(4);
    target.load(again + 4094, copy);
    expect([...copy]).toEqual([9, 8, 7, 0]);

    const anonymous = target.map({ kind: 'anon', bytes: 4096, prot: 3, residue: 0 });
    target.protect(anonymous, 4096, 1);
    target.store(anonymous, new Uint8Array([1]));
    target.load(anonymous, copy);
    expect(copy[0]).toBe(0);
    target.munmap(anonymous, 4096);
    // What is not there reads as nothing; nobody dies of it.
    target.load(anonymous, copy);
    expect([...copy]).toEqual([0, 0, 0, 0]);

    target.release();
    expect(target.close(pipe)).toBe(-errno.EBADF);
    expect(target.close(memfd)).toBe(-errno.EBADF);
  });
});
