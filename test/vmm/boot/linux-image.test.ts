import { describe, expect, test } from 'vitest';
import { isLinuxImage, parseLinuxImage, riscvImageHeader } from '#vmm/boot/linux-image';

const header = {
  text_offset: 0x20_0000n,
  image_size: 0x239_a000n,
  flags: 0n,
  version: 2,
  magic: 0x5643534952n,
  magic2: 0x05435352,
};
const image = (over: Partial<typeof header> = {}): Uint8Array => riscvImageHeader.encode({ ...header, ...over });

describe('kernel images', () => {
  test('magic numbers are where the boot protocol puts them', () => {
    const file = image();
    expect(file.length).toBe(64);
    expect(new TextDecoder().decode(file.subarray(0x30, 0x35))).toBe('RISCV');
    expect([...file.subarray(0x38, 0x3c)]).toEqual([0x52, 0x53, 0x43, 5]);
    expect(isLinuxImage(file)).toBe(true);
    expect(isLinuxImage(new Uint8Array(64))).toBe(false);
    expect(isLinuxImage(file.subarray(0, 63))).toBe(false);
  });

  test('the header of a current kernel', () => {
    expect(parseLinuxImage(image())).toEqual({
      isOk: true,
      image: { textOffset: 0x20_0000, imageBytes: 0x239_a000, version: { major: 0, minor: 2 } },
    });
  });

  // prettier-ignore
  test.each<[Uint8Array, string[]]>([
    [new Uint8Array(10), ['too short for a kernel Image']],
    [new Uint8Array(64), ['not a RISC-V kernel Image: its magic number is missing']],
    [image({ flags: 1n }), ['a big-endian kernel; the machine is little-endian']],
    [image({ text_offset: 0x1000n, image_size: 0n }), [
      'text_offset 0x1000 is not a multiple of 2 MiB below 4 GiB', 'image_size 0x0 is not between 1 and 4 GiB',
    ]],
    [image({ image_size: 2n ** 60n }), ['image_size 0x1000000000000000 is not between 1 and 4 GiB']],
  ])('problem %#', (file, problems) => {
    expect(parseLinuxImage(file)).toEqual({ isOk: false, problems });
  });
});
