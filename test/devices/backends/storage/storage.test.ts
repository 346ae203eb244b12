import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { fileStorage } from '#devices/backends/storage/file';
import { memoryStorage } from '#devices/backends/storage/memory';
import { overlayStorage } from '#devices/backends/storage/overlay';
import { readOnlyStorage } from '#devices/backends/storage/read-only';
import type { StorageBackend } from '#vmm/base/ports';

const folder = mkdtempSync(join(tmpdir(), 'storage-'));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;
const image = (content: Uint8Array): string => {
  const path = join(folder, `${files++}.img`);
  writeFileSync(path, content);
  return path;
};
const bytes = 200_000;
const kinds: Record<string, (content: Uint8Array) => StorageBackend> = {
  memory: (content) => memoryStorage(content.slice()),
  file: (content) => fileStorage(image(content)),
  overlay: (content) => overlayStorage(readOnlyStorage(memoryStorage(content.slice()))),
};

const range = fc.record({ offset: fc.nat(bytes - 1), length: fc.nat(150_000), seed: fc.nat(255) });
const step = fc.record({ what: fc.constantFrom('read', 'write', 'discard', 'flush'), range });

describe.each(Object.keys(kinds))('%s', (kind) => {
  it('is a flat array of bytes', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const model = new Uint8Array(bytes).map((_, i) => (i * 7) & 0xff);
        const disk = kinds[kind]!(model);
        expect(disk.bytes).toBe(bytes);
        for (const { what, range } of steps) {
          const length = Math.min(range.length, bytes - range.offset);
          if (what === 'read') {
            const got = new Uint8Array(length);
            disk.read(range.offset, got);
            expect(Buffer.compare(got, model.subarray(range.offset, range.offset + length))).toBe(0);
          } else if (what === 'write') {
            const data = new Uint8Array(length).fill(range.seed);
            disk.write(range.offset, data);
            model.set(data, range.offset);
          } else if (what === 'discard') {
            disk.discard(range.offset, length);
            model.fill(0, range.offset, range.offset + length);
          } else disk.flush();
        }
        const all = new Uint8Array(bytes);
        disk.read(0, all);
        expect(Buffer.compare(all, model)).toBe(0);
        disk.close();
      }),
      { numRuns: 40 },
    );
  });

  it('refuses ranges that leave the disk', () => {
    const disk = kinds[kind]!(new Uint8Array(bytes));
    const isRange = expect.objectContaining({ name: 'StorageError', kind: 'range' });
    expect(() => disk.read(bytes - 1, new Uint8Array(2))).toThrow(isRange);
    expect(() => disk.write(bytes, new Uint8Array(1))).toThrow(isRange);
    expect(() => disk.write(-1, new Uint8Array(1))).toThrow(isRange);
    expect(() => disk.discard(1, bytes)).toThrow(isRange);
    disk.close();
  });
});

describe('file', () => {
  it('stores in the file itself', () => {
    const path = image(new Uint8Array(8192));
    const disk = fileStorage(path);
    disk.write(4000, Uint8Array.of(1, 2, 3));
    disk.flush();
    expect([...readFileSync(path).subarray(3999, 4004)]).toEqual([0, 1, 2, 3, 0]);
    disk.close();
  });

  it('moves several pieces with one call', () => {
    const path = image(new Uint8Array(8192).map((_, i) => i & 0xff));
    const disk = fileStorage(path);
    const parts = [3, 500, 0, 1000].map((length) => new Uint8Array(length));
    disk.readVector!(7, parts);
    expect(Buffer.compare(Buffer.concat(parts), readFileSync(path).subarray(7, 1510))).toBe(0);
    disk.writeVector!(4000, parts.toReversed());
    expect(Buffer.compare(Buffer.concat(parts.toReversed()), readFileSync(path).subarray(4000, 5503))).toBe(0);
    const isRange = expect.objectContaining({ kind: 'range' });
    expect(() => disk.readVector!(8000, parts)).toThrow(isRange);
    expect(() => disk.writeVector!(8000, parts)).toThrow(isRange);
    truncateSync(path, 100);
    expect(() => disk.readVector!(7, parts)).toThrow(expect.objectContaining({ kind: 'io' }));
    disk.close();
  });

  it('opens read-only and refuses to change anything', () => {
    const path = image(new Uint8Array(8192).fill(9));
    const disk = fileStorage(path, { readOnly: true });
    expect(disk.readOnly).toBe(true);
    const isReadOnly = expect.objectContaining({ kind: 'read-only' });
    expect(() => disk.write(0, Uint8Array.of(1))).toThrow(isReadOnly);
    expect(() => disk.discard(0, 512)).toThrow(isReadOnly);
    disk.flush();
    expect(readFileSync(path).every((b) => b === 9)).toBe(true);
    disk.close();
  });

  it('says that a file became shorter', () => {
    const path = image(new Uint8Array(8192));
    const disk = fileStorage(path);
    truncateSync(path, 4096);
    expect(() => disk.read(4000, new Uint8Array(200))).toThrow(expect.objectContaining({ kind: 'io' }));
    disk.close();
  });

  it('keeps holes when it discards, and frees the tail', () => {
    const path = image(new Uint8Array(0));
    truncateSync(path, 8 << 20);
    const disk = fileStorage(path);
    disk.write(4 << 20, new Uint8Array(1 << 20).fill(1));
    const before = statSync(path).blocks;
    disk.discard(0, 4 << 20);
    expect(statSync(path).blocks).toBeLessThanOrEqual(before);
    disk.discard(1 << 20, 7 << 20);
    expect(statSync(path)).toMatchObject({ size: 8 << 20, blocks: 0 });
    disk.close();
  });

  it('gives large ranges back to the file system, whatever became of the name', () => {
    const path = image(new Uint8Array(8 << 20).fill(3));
    const disk = fileStorage(path);
    renameSync(path, `${path}.moved`);
    disk.discard((1 << 20) + 100, 4 << 20);
    const { size, blocks } = statSync(`${path}.moved`);
    expect(size).toBe(8 << 20);
    const hasFallocate = spawnSync('fallocate', ['--version']).status === 0;
    if (hasFallocate) expect(blocks).toBeLessThan(((5 << 20) / 512) | 0);
    const content = readFileSync(`${path}.moved`);
    const expected = Buffer.alloc(8 << 20, 3).fill(0, (1 << 20) + 100, (5 << 20) + 100);
    expect(content.equals(expected)).toBe(true);
    disk.close();
  });

  it('does not open what is not there', () => {
    expect(() => fileStorage(join(folder, 'nothing'))).toThrow(/ENOENT/);
  });
});

it('an overlay leaves the disk below as it was', () => {
  const content = new Uint8Array(bytes).fill(5);
  const disk = overlayStorage(memoryStorage(content));
  disk.write(70_000, new Uint8Array(1000).fill(6));
  disk.discard(0, 131_072);
  expect(content.every((b) => b === 5)).toBe(true);
  const got = new Uint8Array(2);
  disk.read(131_071, got);
  expect([...got]).toEqual([0, 5]);
});
