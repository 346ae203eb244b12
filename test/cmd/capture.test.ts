import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeDiskImage } from '#guest-images/disk-image';
import { iommulab } from './iommulab.ts';

const folder = mkdtempSync(join(tmpdir(), 'iommulab-capture-'));
const disk = join(folder, 'disk.img');
const capture = join(folder, 'frames.pcapng');
afterAll(() => rmSync(folder, { recursive: true, force: true }));

beforeAll(async () => {
  writeFileSync(disk, makeDiskImage(1));
  const { code } = await iommulab(['run', 'dma', '--disk', disk, '--nic', 'hub', '--nic', 'hub', '--capture', capture]);
  expect(code).toBe(0);
});

/** Walks the blocks by their lengths, front and back. */
const blocks = (bytes: Uint8Array): { type: number; body: DataView }[] => {
  const out: { type: number; body: DataView }[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length;) {
    const length = view.getUint32(at + 4, true);
    expect(view.getUint32(at + length - 4, true)).toBe(length);
    out.push({
      type: view.getUint32(at, true),
      body: new DataView(bytes.buffer, bytes.byteOffset + at + 8, length - 12),
    });
    at += length;
  }
  return out;
};

it('is one section, an interface a card, and every frame twice: out of one card and into the other', () => {
  const all = blocks(new Uint8Array(readFileSync(capture)));
  expect(all.slice(0, 3).map(({ type }) => type)).toEqual([0x0a0d0d0a, 1, 1]);
  const frames = all.slice(3);
  expect(frames.every(({ type }) => type === 6)).toBe(true);
  // 224 each way, one whose receive buffer was taken away; the one nic0 could not read never left.
  expect(frames.length).toBe(2 * (224 + 224 + 1));
  const lengths = frames.map(({ body }) => body.getUint32(12, true));
  expect([Math.min(...lengths), Math.max(...lengths)]).toEqual([60, 1514]);
});

const tshark = ((): boolean => {
  try {
    execFileSync('tshark', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    process.stdout.write('tshark is not installed: nobody else reads the capture\n');
    return false;
  }
})();
describe.skipIf(!tshark)('tshark', () => {
  it('reads the frames and the way each took', () => {
    const args = ['-r', capture, '-T', 'fields', '-e', 'frame.interface_name', '-e', 'frame.comment'];
    const rows = execFileSync('tshark', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
      .trimEnd()
      .split('\n');
    expect(rows.length).toBe(898);
    const told = rows.filter((row) => /^net[01]\tiova 0x[0-9a-f]+ → gpa 0x8[0-9a-f]+ → hpa 0x[0-9a-f]+$/.test(row));
    expect(told.length).toBe(897);
    expect(rows.filter((row) => row === 'net1\tdropped: DMA fault').length).toBe(1);
  });
});
