import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { encodeCpio, fileTypes } from '#guest-images/linux/cpio';
import { buildInitramfs, fileSystemTools } from '#guest-images/linux/initramfs';
import { collectModules } from '#guest-images/linux/modules';
import { tarFiles } from '#guest-images/linux/tar';

const has = (command: string): boolean => spawnSync(command, ['--version']).status === 0;
const bytes = (text: string): Buffer => Buffer.from(text);

describe('cpio', () => {
  it('has the header that the kernel reads, every piece padded to 4 bytes', () => {
    const archive = encodeCpio([{ name: 'a', mode: fileTypes.file | 0o644, content: bytes('hello') }]);
    expect(archive.subarray(0, 6).toString()).toBe('070701');
    expect(archive.subarray(14, 22).toString()).toBe('000081a4');
    expect(archive.subarray(54, 62).toString()).toBe('00000005');
    expect(archive.subarray(110, 112).toString()).toBe('a\0');
    expect(archive.subarray(112, 117).toString()).toBe('hello');
    expect(archive.subarray(120, 126).toString()).toBe('070701');
    expect(archive.toString('latin1')).toContain('TRAILER!!!');
    expect(archive.length % 4).toBe(0);
  });

  it.skipIf(!has('cpio'))('is read by cpio (skipped where it is not installed)', () => {
    const archive = buildInitramfs(bytes('busybox'), [{ name: 'nvme', content: bytes('module') }]);
    const listing = execFileSync('cpio', ['-itv', '--quiet'], { input: archive }).toString();
    expect(listing).toMatch(/^crw-------.* 5, +1 .* dev\/console$/m);
    expect(listing).toMatch(/^-rwxr-xr-x.* init$/m);
    expect(listing).toMatch(/^-rw-r--r--.* 6 .* lib\/modules\/nvme\.ko$/m);
  });

  it('file system tools lie where they and their libraries are looked for, whatever their versions', () => {
    const file = (name: string, target?: string) => ({ name, content: bytes(name), ...(target ? { target } : {}) });
    const entries = fileSystemTools([
      file('usr/sbin/mke2fs'), file('usr/sbin/mkfs.ext4', 'mke2fs'), file('sbin/e2fsck'), file('usr/sbin/tune2fs'),
      file('usr/lib/riscv64-linux-gnu/libext2fs.so.2.4'), file('usr/lib/riscv64-linux-gnu/libext2fs.so.2', 'libext2fs.so.2.4'),
      file('usr/lib/riscv64-linux-gnu/libc.so.6'), file('lib/ld-linux-riscv64-lp64d.so.1'), file('usr/lib/riscv64-linux-gnu/libcrypt.so.1'),
    ]); // prettier-ignore
    expect(entries.map(({ name }) => name).toSorted()).toEqual([
      'lib/ld-linux-riscv64-lp64d.so.1', 'lib/libc.so.6', 'lib/libext2fs.so.2', 'sbin/e2fsck', 'sbin/mke2fs',
    ]); // prettier-ignore
  });

  it('the same entries give the same bytes', () => {
    expect(buildInitramfs(bytes('x'), [])).toEqual(buildInitramfs(bytes('x'), []));
  });
});

describe('tar', () => {
  it.skipIf(!has('tar'))(
    'files, long names and links as GNU tar writes them (skipped where it is not installed)',
    () => {
      const folder = mkdtempSync(join(tmpdir(), 'iommulab-tar-'));
      try {
        const long = 'd'.repeat(120);
        mkdirSync(join(folder, 'usr', long), { recursive: true });
        writeFileSync(join(folder, 'usr', long, 'file'), 'content');
        writeFileSync(join(folder, 'empty'), '');
        symlinkSync('empty', join(folder, 'link'));
        const archive = execFileSync('tar', ['--sort=name', '-cf', '-', '-C', folder, '.']);
        const files = [...tarFiles(archive)];
        expect(files.map(({ name }) => name)).toEqual(['empty', 'link', `usr/${long}/file`]);
        expect(Buffer.from(files[2]!.content).toString()).toBe('content');
        expect(files[1]!.target).toBe('empty');
        expect(() => [...tarFiles(archive.subarray(0, 512 * 3 + 100))]).not.toThrow(TypeError);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    },
  );
});

describe('modules', () => {
  const module = (name: string, depends: string) => ({
    name: `usr/lib/modules/7.2/kernel/${name}.ko`,
    content: bytes(`\u007fELF license=GPL\0depends=${depends}\0name=${name}\0`),
  });

  it('come behind what they depend on; what is built in is missing', () => {
    const files = [
      module('nvme', 'nvme-core,builtin'),
      module('nvme-core', 'nvme-auth'),
      module('nvme-auth', ''),
      module('e1000e', ''),
      module('unrelated', ''),
    ];
    expect(collectModules(files).map(({ name }) => name)).toEqual(['nvme_auth', 'nvme_core', 'nvme', 'e1000e']);
  });

  it.skipIf(!has('xz'))('are unpacked (skipped where xz is not installed)', () => {
    const plain = module('e1000e', '');
    const packed = { name: `${plain.name}.xz`, content: execFileSync('xz', ['-c'], { input: plain.content }) };
    expect(collectModules([packed])[0]!.content).toEqual(plain.content);
  });
});
