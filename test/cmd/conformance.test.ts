import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { iommulab } from './iommulab.ts';

/** A folder with one recorded case as it is, and one whose answer to a call was changed. */
let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iommulab-test-'));
  mkdirSync(join(folder, 'traces'));
  const text = gunzipSync(readFileSync('test/conformance/iommufd/traces/iommufd.cmd_fail.jsonl.gz')).toString();
  writeFileSync(join(folder, 'traces/good.jsonl'), text);
  const lines = text.split('\n');
  const call = lines.findIndex((line) => line.includes('"t":"ioctl"') && line.includes('ENOENT'));
  expect(call).toBeGreaterThan(0);
  lines[call] = lines[call]!.replace('"errno":2', '"errno":22');
  writeFileSync(join(folder, 'traces/bad.jsonl'), lines.join('\n'));
  const index = [
    { case: 'good <&> "case"', file: 'traces/good.jsonl' },
    { case: 'bad', file: 'traces/bad.jsonl' },
  ];
  writeFileSync(join(folder, 'index.json'), JSON.stringify(index));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('conformance', () => {
  it('agrees with what was recorded', async () => {
    const vectors = await iommulab(['conformance', 'test/conformance/riscv-iommu', '--case', 'debug-0000?']);
    expect(vectors).toMatchObject({ code: 0, stderr: '' });
    expect(vectors.stdout).toMatch(/^8 of 8 cases agree \(\d+ answers compared\)\n$/);
  });

  it('shows the first answer that differs, and fails', async () => {
    const { code, stdout } = await iommulab(['conformance', folder]);
    expect(stdout).toMatch(/✘ \S+: call \d+: IOMMU_.*\n +result: expected EINVAL, got ENOENT\n1 of 2 cases agree/);
    expect(code).toBe(1);
  });

  it('as TAP', async () => {
    const { code, stdout } = await iommulab(['conformance', folder, '--reporter', 'tap']);
    const lines = stdout.trimEnd().split('\n');
    expect(lines[0]).toBe('TAP version 14');
    expect(lines.filter((line) => /^(not )?ok \d+ - /.test(line))).toHaveLength(2);
    expect(lines.filter((line) => line.startsWith('not ok'))).toHaveLength(1);
    expect(lines.at(-1)).toBe('1..2');
    expect(code).toBe(1);
  });

  it('as JUnit', async () => {
    const { code, stdout } = await iommulab(['conformance', folder, '--reporter', 'junit']);
    expect(stdout).toContain('<testsuites tests="2" failures="1" skipped="0">');
    expect(stdout.match(/<testcase /g)).toHaveLength(2);
    expect(stdout.replaceAll(/<(\?xml|\/?(testsuites?|testcase|failure))\b[^<>]*>|&#\d+;/g, '')).not.toMatch(/[<>&]/);
    expect(code).toBe(1);
  });

  it('as JSON, of the cases that were asked for', async () => {
    const { code, stdout } = await iommulab(['conformance', folder, '--case', 'good*', '--reporter', 'json']);
    expect(JSON.parse(stdout)).toMatchObject({ cases: 1, passed: 1, failed: 0 });
    expect(code).toBe(0);
  });

  it('refuses a pattern that nothing matches', async () => {
    const { code, stderr } = await iommulab(['conformance', folder, '--case', 'nothing*']);
    expect(stderr).toBe(`iommulab: ${folder}: no case matches "nothing*"\n`);
    expect(code).toBe(2);
  });

  it.each([
    ['nowhere', 'expected a recording, but it does not exist'],
    ['test/cmd', 'expected a recording, but it does not exist'],
  ])('refuses a folder that is none: %s', async (dir, sentence) => {
    const { code, stderr } = await iommulab(['conformance', dir]);
    expect(stderr).toContain(sentence);
    expect(code).toBe(2);
  });
});
