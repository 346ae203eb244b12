import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { builtFrom, guestImages, zigVersion } from '#guest-images/manifest';
import { programs } from '#guest-images/programs';
import { sourcesDigest } from '#guest-images/sources';

const folder = fileURLToPath(new URL('../../guest-images/', import.meta.url));
const load = (file: string): Buffer => readFileSync(folder + file);

describe('the manifest', () => {
  it('lists every program in order, with its words', () => {
    expect(guestImages.map(({ name, title, proves }) => ({ name, title, proves }))).toEqual(
      programs.map((program) => ({ ...program })),
    );
    expect(zigVersion).toMatch(/^\d+\.\d+\.\d+$/);
  });

  it('was made from the sources as they are now: if not, run `npm run guests`', () => {
    expect(builtFrom).toBe(sourcesDigest());
  });

  it('lists exactly the files of images/ and the folders of programs/', () => {
    expect(readdirSync(`${folder}images`).sort()).toEqual(programs.map(({ name }) => `${name}.elf`).sort());
    expect(readdirSync(`${folder}programs`).sort()).toEqual(programs.map(({ name }) => name).sort());
  });

  it.each(guestImages)('$name has the size and the SHA-256 of its row', ({ file, bytes, sha256 }) => {
    const elf = load(file);
    expect(elf.length).toBe(bytes);
    expect(createHash('sha256').update(elf).digest('hex')).toBe(sha256);
  });
});

// The fields of an ELF64 header and its program headers (System V gABI, chapters 4 and 5).
describe.each(guestImages)('$name as an ELF file', ({ file }) => {
  const elf = load(file);
  const segments = Array.from({ length: elf.readUInt16LE(56) }, (_, i) => {
    const at = Number(elf.readBigUInt64LE(32)) + i * elf.readUInt16LE(54);
    const u64 = (offset: number): number => Number(elf.readBigUInt64LE(at + offset));
    return { type: elf.readUInt32LE(at), offset: u64(8), address: u64(24), fileBytes: u64(32), memoryBytes: u64(40) };
  }).filter(({ type }) => type === 1);

  it('is a 64-bit little-endian RISC-V executable that starts at 0x80200000', () => {
    expect(elf.subarray(0, 7)).toEqual(Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]));
    expect(elf.readUInt16LE(16)).toBe(2);
    expect(elf.readUInt16LE(18)).toBe(243);
    expect(Number(elf.readBigUInt64LE(24))).toBe(0x80200000);
  });

  it('has segments inside the file, one after another in the first 4 MiB', () => {
    expect(segments.length).toBeGreaterThan(0);
    let end = 0x80200000;
    for (const segment of segments) {
      expect(segment.address).toBeGreaterThanOrEqual(end);
      expect(segment.offset + segment.fileBytes).toBeLessThanOrEqual(elf.length);
      expect(segment.memoryBytes).toBeGreaterThanOrEqual(segment.fileBytes);
      end = segment.address + segment.memoryBytes;
    }
    expect(end).toBeLessThan(0x80600000);
  });

  it('is small and names no place where it was built', () => {
    expect(elf.length).toBeLessThan(100_000);
    expect(elf.toString('latin1')).not.toMatch(/\.c\0|\/home\/|\/work\/|\/root\/|\/tmp\//);
  });
});
