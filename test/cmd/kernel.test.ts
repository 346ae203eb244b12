import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { riscvImageHeader } from '#vmm/boot/linux-image';
import { iommulab } from './iommulab.ts';

let folder = '';
const at = (name: string): string => join(folder, name);
const hello = 'guest-images/images/hello.elf';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iommulab-test-'));
  const header = { text_offset: 0x20_0000n, image_size: 0x100_0000n, version: 2, magic: 0x5643534952n, magic2: 0x05435352 }; // prettier-ignore
  writeFileSync(at('Image'), Buffer.concat([riscvImageHeader.encode({ ...header, code0: 0x6f }), Buffer.alloc(64)]));
  // With an EFI stub: a PE header behind the kernel's, and one section that the file no longer holds whole.
  const efi = Buffer.alloc(0x1000);
  efi.set(riscvImageHeader.encode({ ...header, code0: 0x5a4d, res3: 0x40 }));
  efi.write('PE', 0x40);
  efi.writeUInt16LE(1, 0x46);
  efi.writeUInt32LE(0x1800, 0x58 + 16);
  efi.writeUInt32LE(0x800, 0x58 + 20);
  writeFileSync(at('cut'), efi);
  writeFileSync(at('bzImage'), Buffer.concat([Buffer.alloc(0x202), Buffer.from('HdrS'), Buffer.alloc(0x200)]));
  writeFileSync(at('hello.gz'), gzipSync(readFileSync(hello)));
  writeFileSync(at('cut.gz'), gzipSync(readFileSync(hello)).subarray(0, 3000));
  const arm = Buffer.alloc(4096);
  arm.write('ARMd', 0x38);
  writeFileSync(at('arm.gz'), gzipSync(arm));
  writeFileSync(at('initrd'), Buffer.alloc(8 << 20));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('kernels', () => {
  it('an ELF file compressed with gzip boots', async () => {
    const { code, stdout } = await iommulab(['run', '--kernel', at('hello.gz')]);
    expect(stdout).toContain('hello from hart 0');
    expect(code).toBe(0);
  });

  // prettier-ignore
  it.each<[string, () => string[], RegExp]>([
    ['guest and --kernel', () => ['hello', '--kernel', hello], /^iommulab: --kernel: expected either a guest or --kernel, found both\n$/],
    ['cut short', () => ['--kernel', at('cut.gz')], /cut\.gz: expected a kernel compressed with gzip, which does not unpack: unexpected end of file\n$/],
    ['cut short, not compressed', () => ['--kernel', at('cut')], /cut: truncated: 4096 of its 8192 bytes are there\n$/],
    ['another machine, not compressed', () => ['--kernel', at('bzImage')], /bzImage: a Linux kernel for x86; the machine needs RISC-V\n$/],
    ['another machine', () => ['--kernel', at('arm.gz')], /arm\.gz: a Linux kernel for AArch64; the machine needs RISC-V\n$/],
    ['missing initrd', () => ['--kernel', at('Image'), '--initrd', 'nowhere'], /nowhere: expected an initial RAM disk, but it does not exist\n$/],
    ['too little memory', () => ['--kernel', at('Image'), '--memory', '16M'], /the kernel takes 0x80200000–0x811fffff, RAM is 0x80000000–0x80ffffff: expected more memory\n$/],
    ['initrd that does not fit', () => ['--kernel', at('Image'), '--memory', '20M', '--initrd', at('initrd')], /an initrd of 8192 KiB and a device tree of \d+ bytes do not fit into the 2048 KiB of memory above the kernel\n$/],
    ['--append too long', () => ['--kernel', at('Image'), '--append', 'x'.repeat(1500)], /the kernel takes at most 1023 characters of command line, append has 1500\n$/],
    ['--wait alone', () => ['hello', '--wait'], /^iommulab: --wait: expected --gdb with it\n$/],
    ['--gdb', () => ['hello', '--gdb', 'nowhere'], /^iommulab: --gdb: expected \[host:\]port, found "nowhere"\n$/],
  ])('%s is one sentence and exit 2', async (_, args, sentence) => {
    const { code, stdout, stderr } = await iommulab(['run', ...args()]);
    expect(stderr).toMatch(sentence);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });
});
