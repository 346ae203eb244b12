import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decodeDiskHeader, expectedWriteback, makeDiskImage } from '#guest-images/disk-image';
import { catalogue } from '#vmm/record/catalogue';
import { iommulab } from './iommulab.ts';

let folder = '';
const at = (name: string): string => join(folder, name);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iommulab-test-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Result {
  readonly outcome: string;
  readonly exitCode: number;
  readonly guestCode?: number;
  readonly console: string;
  readonly trap?: unknown;
  readonly registers?: Record<string, string>;
  readonly stats: {
    readonly instructions: number;
    readonly ioctls: Record<string, number>;
    readonly devices: { id: string; readBytes: number; writtenBytes: number; faults: number }[];
  };
  readonly checks: { what: string; passed: boolean }[];
  readonly story: { kind: string; layer?: string; text: string }[];
}

describe('run', () => {
  it('passes on what the guest says, and says on stderr how it ended', async () => {
    const { code, stdout, stderr } = await iommulab(['run', 'hello']);
    expect(stdout).toContain('hello from hart 0');
    expect(stdout).toMatch(/passed\r?\n$/);
    expect(stderr).toMatch(/^the guest passed \([\d ]+ instructions, .* virtual, .* wall\)\n$/);
    expect(code).toBe(0);
  });

  it('gives the result as one JSON document', async () => {
    const { code, stdout, stderr } = await iommulab(['run', 'hello', '--memory', '64M', '--json']);
    const result = JSON.parse(stdout) as Result;
    expect(result).toMatchObject({ outcome: 'passed', exitCode: 0 });
    expect(result.console).toContain('64 MiB');
    expect(stderr).toContain('hello from hart 0');
    expect(result.stats.instructions).toBeGreaterThan(1000);
    expect(code).toBe(0);
  });

  it.each<[string, string[], number, RegExp]>([
    ['fails', ['fail'], 1, /the guest failed with code 3/],
    ['crashes', ['crash'], 3, /registers\n(.*\n)*last events\n(.*\n)*the guest crashed: .+ at pc 0x/],
    [
      'hangs',
      ['hang', '--max-instructions', '20M'],
      4,
      /registers\n(.*\n)*the guest did not end within its time or instruction limit/,
    ],
    ['hangs by the clock', ['hang', '--timeout', '300ms'], 4, /the guest did not end within/],
    ['resets', ['reset'], 5, /the guest asked for a reset/],
  ])('has an exit code of its own for a guest that %s', async (_, args, code, said) => {
    const ended = await iommulab(['run', ...args]);
    expect(ended.stderr).toMatch(said);
    expect(ended.code).toBe(code);
  });

  it('stops at Ctrl-C with everything written', async () => {
    let isSent = false;
    const ended = await iommulab(['run', 'hang', '--trace', at('interrupted.jsonl')], (_, kill) => {
      if (!isSent) kill('SIGINT');
      isSent = true;
    });
    expect(ended.stderr).toContain('interrupted');
    expect(ended.code).toBe(130);
    for (const line of readFileSync(at('interrupted.jsonl'), 'utf8').split('\n').slice(0, -1)) JSON.parse(line);
  });

  it('refuses an ELF file for another machine', async () => {
    const elf = new Uint8Array(readFileSync('guest-images/images/hello.elf'));
    elf[18] = 62; // e_machine: x86-64
    writeFileSync(at('x86.elf'), elf);
    writeFileSync(at('noise.elf'), 'not an ELF file');
    for (const name of ['x86.elf', 'noise.elf']) {
      const { code, stderr, stdout } = await iommulab(['run', at(name), '--trace', at(`${name}.jsonl`)]);
      expect(stderr).toMatch(/^iommulab: .*\.elf: .*ELF.*\n$/);
      expect(stderr).toContain(at(name));
      expect(stdout).toBe('');
      expect(code).toBe(2);
      expect(existsSync(at(`${name}.jsonl`))).toBe(false);
    }
  });
});

describe('demo dma', () => {
  it('tells the story, checks the file, and passes', async () => {
    writeFileSync(at('disk.img'), makeDiskImage(7));
    const { code, stdout, stderr } = await iommulab(['demo', 'dma', '--disk', at('disk.img')]);
    expect(stderr).toMatch(/^the guest passed/);
    for (const part of [
      '▶ bring up the IOMMU',
      '▶ read 8192 KiB',
      'IOMMU_HWPT_ALLOC(',
      'IOTINVAL.VMA',
      'page fault',
      'IOTLB hits',
      '✔ the 1 MiB that the guest wrote is in the file',
    ])
      expect(stdout).toContain(part);
    expect(code).toBe(0);
    const bytes = readFileSync(at('disk.img'));
    const header = decodeDiskHeader(bytes)!;
    expect(
      Buffer.compare(
        bytes.subarray(header.writebackOffset, header.writebackOffset + header.writebackBytes),
        expectedWriteback(),
      ),
    ).toBe(0);
  });

  it('gives the same as data', async () => {
    const { code, stdout } = await iommulab(['demo', 'dma', '--json', '--trace', at('dma.jsonl')]);
    const result = JSON.parse(stdout) as Result;
    expect(result).toMatchObject({ outcome: 'passed', exitCode: 0 });
    expect(result.checks.map((check) => check.passed)).toEqual([true, true, true]);
    expect(result.story.filter((line) => line.kind === 'step').length).toBeGreaterThan(8);
    expect(result.story).toContainEqual({
      kind: 'step',
      text: 'bring up the IOMMU: 3-level device directory, command and fault queue',
    });
    const [nvme, ...nics] = result.stats.devices;
    expect(nvme!.writtenBytes).toBeGreaterThan(9 << 20);
    expect(nvme!.readBytes).toBeGreaterThan(1 << 20);
    expect(nvme!.faults).toBe(1);
    expect(nics).toHaveLength(2);
    expect(result.stats.ioctls['IOMMU_HWPT_INVALIDATE']).toBeGreaterThan(0);
    expect(code).toBe(0);
    let time = 0;
    const names = new Set<string>();
    for (const line of readFileSync(at('dma.jsonl'), 'utf8').trimEnd().split('\n')) {
      const event = JSON.parse(line) as { time: number; event: string; properties: Record<string, unknown> };
      expect(event.time).toBeGreaterThanOrEqual(time);
      time = event.time;
      names.add(event.event);
      expect(Object.keys(event.properties).filter((key) => !(key in catalogue.get(event.event)!.fields))).toEqual([]);
    }
    expect(names.size).toBeGreaterThan(15);
  });

  it('is the same, byte for byte, every time', async () => {
    const traces = ['a.jsonl', 'b.jsonl'];
    for (const name of traces) await iommulab(['demo', 'dma', '--seed', '5', '--json', '--trace', at(name)]);
    const [a, b] = traces.map((name) => readFileSync(at(name)));
    expect(a!.length).toBeGreaterThan(100_000);
    expect(a!.equals(b!)).toBe(true);
  });

  it('refuses an image that is not its own, and leaves it alone', async () => {
    writeFileSync(at('other.img'), new Uint8Array(8192).fill(7));
    const { code, stderr } = await iommulab(['demo', 'dma', '--disk', at('other.img')]);
    expect(stderr).toContain('expected a disk image of this demo');
    expect(code).toBe(2);
    expect(readFileSync(at('other.img')).every((byte) => byte === 7)).toBe(true);
  });
});
