import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { memoryStorage } from '#devices/backends/storage/memory';
import { decodeDeviceTree } from '#vmm/boot/device-tree-reader';
import { commandLineProblems, parseGuestProgram } from '#vmm/boot/guest-program';
import { riscvImageHeader } from '#vmm/boot/linux-image';
import { Machine, type MachineConfigInput, MachineError, parseConfig } from '../../../index.ts';

const ram = { base: 0x8000_0000, bytes: 64 << 20 };
const header = {
  text_offset: 0x20_0000n,
  image_size: 0x100_0000n,
  version: 2,
  magic: 0x5643534952n,
  magic2: 0x05435352,
};
/** An Image whose code is an endless loop. */
const image = (over: { readonly image_size?: bigint } = {}): Uint8Array =>
  Uint8Array.from([...riscvImageHeader.encode({ code0: 0x6f, ...header, ...over }), ...new Uint8Array(4032)]);
const at = (length: number, offset: number, text: string): Uint8Array => {
  const file = new Uint8Array(length);
  file.set(Buffer.from(text, 'latin1'), offset);
  return file;
};

describe('guest programs', () => {
  it('a Linux Image is loaded as one piece and entered at its first byte', () => {
    const file = image();
    expect(parseGuestProgram(file, ram)).toEqual({
      isOk: true,
      image: { entry: 0x8020_0000, segments: [{ address: 0x8020_0000, bytes: file, memoryBytes: 0x100_0000 }] },
    });
  });

  it('an ELF file is one', () => {
    const parsed = parseGuestProgram(readFileSync('guest-images/images/hello.elf'), ram);
    expect(parsed.isOk && parsed.image.entry).toBe(0x8020_0000);
  });

  // prettier-ignore
  it.each<[string, Uint8Array, string]>([
    ['too big', image({ image_size: 0x400_0000n }), 'the kernel takes 0x80200000–0x841fffff, RAM is 0x80000000–0x83ffffff: expected more memory'],
    ['AArch64', at(4096, 0x38, 'ARM\u0064'), 'a Linux kernel for AArch64; the machine needs RISC-V'],
    ['x86', at(4096, 0x202, 'HdrS'), 'a Linux kernel for x86; the machine needs RISC-V'],
    ['zboot', at(4096, 4, 'zimg'), 'a kernel that unpacks itself through EFI; the machine needs the plain Image in it'],
    ['gzip twice', at(4096, 0, '\u001f\u008b'), 'a gzip file inside a gzip file'],
    ['cpio', at(4096, 0, '070701'), 'a cpio archive, which an initrd is, not a kernel'],
    ['nothing', new Uint8Array(0), 'not an ELF file'],
  ])('%s is one sentence', (_, file, sentence) => {
    expect(parseGuestProgram(file, ram)).toEqual({ isOk: false, problems: [sentence] });
  });

  it('a kernel with an EFI stub tells how long its file is', () => {
    // MZ, the PE header at 0x40, one section whose data ends at 0x3000.
    const file = new Uint8Array(0x3000);
    file.set(riscvImageHeader.encode({ ...header, code0: 0x5a4d, res3: 0x40 }));
    const view = new DataView(file.buffer);
    view.setUint32(0x40, 0x4550, true);
    view.setUint16(0x46, 1, true);
    view.setUint32(0x58 + 16, 0x2000, true);
    view.setUint32(0x58 + 20, 0x1000, true);
    expect(parseGuestProgram(file, ram).isOk).toBe(true);
    for (const length of [0x2fff, 0x1000, 0x70, 0x48])
      expect(parseGuestProgram(file.subarray(0, length), ram)).toMatchObject({
        problems: [expect.stringMatching(/^truncated: \d+ of its \d+ bytes are there$/)],
      });
  });

  it('whatever the file holds, the answer is an image or sentences', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, isImage) => {
        const file = isImage ? image() : bytes;
        if (isImage) file.set(bytes.subarray(0, 0x30));
        const parsed = parseGuestProgram(file, ram);
        if (!parsed.isOk) expect(parsed.problems.length).toBeGreaterThan(0);
      }),
    );
  });

  it('takes a command line as long as the kernel can', () => {
    expect(commandLineProblems(image(), 'x'.repeat(1023))).toEqual([]);
    expect(commandLineProblems(image(), 'x'.repeat(1024))).toEqual([
      'the kernel takes at most 1023 characters of command line, append has 1024',
    ]);
    expect(commandLineProblems(new Uint8Array(100), 'x'.repeat(1024))).toEqual([]);
  });
});

describe('a kernel in a machine', () => {
  const create = (keys: MachineConfigInput, initrd?: Uint8Array): Machine => {
    const parsed = parseConfig({ memory: '64M', ...keys });
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.issues));
    return Machine.create(parsed.config, {
      image: image(),
      openDisk: () => memoryStorage(512),
      console: () => {},
      ...(initrd ? { initrd } : {}),
    });
  };

  it('is told where its RAM disk lies and what its command line is', () => {
    const initrd = Uint8Array.from({ length: 5000 }, (_, i) => i);
    const machine = create({ append: 'quiet' }, initrd);
    const tree = Number(machine.registers()['a1']);
    const blob = machine.readMemory(tree, ram.base + ram.bytes - tree);
    const { properties } = decodeDeviceTree(blob).children.find(({ name }) => name === 'chosen')!;
    const cell = (name: string): number => Number(Buffer.from(properties.get(name)!).readBigUInt64BE());
    expect(Buffer.from(properties.get('bootargs')!).toString()).toBe('quiet\0');
    const first = cell('linux,initrd-start');
    expect(cell('linux,initrd-end') - first).toBe(initrd.length);
    expect(first % 4096).toBe(0);
    expect(machine.readMemory(first, initrd.length)).toEqual(initrd);
    expect(machine.registers()).toMatchObject({ pc: 0x8020_0000n, a0: 0n, satp: 0n });
  });

  it('needs room for its RAM disk', () => {
    expect(() => create({}, new Uint8Array(60 << 20))).toThrow(MachineError);
    expect(() => create({}, new Uint8Array(60 << 20))).toThrow(
      /an initrd of 61440 KiB and a device tree of \d+ bytes do not fit into the 47104 KiB of memory above the kernel/,
    );
  });
});
