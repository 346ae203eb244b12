import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { iommulab } from './iommulab.ts';

let folder = '';
const file = (name: string): string => join(folder, name);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iommulab-scenarios-'));
  const write = (name: string, text: string): void => writeFileSync(file(name), text);
  mkdirSync(file('all'));
  write(
    'all/a-passes.yaml',
    'claim: It boots & <passes>.\nimage: hello\nmemory: 32M\nsteps:\n  - check: { outcome: passed }\n',
  );
  write(
    'all/b-fails.yaml',
    'image: hello\nmemory: 32M\nsteps:\n  - expect-console: devices\n  - expect-console: "<never> & written"\n',
  );
  write('all/c-skipped.yaml', 'image: hello\nskip: on\nsteps: []\n');
  write('all/d #4.yaml', 'image: fail\nsteps:\n  - check: { outcome: failed, code: 3 }\n');
  write('wrong.yaml', 'image: hello\nmemry: 32M\nsteps:\n  - expect-consol: x\n  - advance: 3 parsecs\n');
  write('also-wrong.yaml', 'image: hello\nsteps: [\n');
  write('golden.yaml', 'image: hello\nmemory: 32M\nsteps:\n  - check: { outcome: passed, golden: golden.txt }\n');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Whether a program is there to judge with. */
const has = (program: string): boolean => {
  try {
    execFileSync('which', [program], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};

describe('iommulab test', () => {
  it('passes every scenario that ships, at least thirty', async () => {
    const { code, stdout } = await iommulab(['test', 'test/scenarios', '--reporter', 'json', '--jobs', '2']);
    const report = JSON.parse(stdout) as { scenarios: number; results: { status: string; file: string }[] };
    expect(report.results.filter(({ status }) => status !== 'passed')).toEqual([]);
    expect(report.scenarios).toBeGreaterThanOrEqual(30);
    expect(code).toBe(0);
  }, 300_000);

  it('shows what one failing step expected, what came, the last events and the console', async () => {
    const { code, stdout, stderr } = await iommulab(['test', file('all')]);
    expect(code).toBe(1);
    expect(stdout).toContain(`${file('all/b-fails.yaml')}:5: step 2 (expect-console)`);
    expect(stdout).toContain('expected  "<never> & written" on the console');
    expect(stdout).toMatch(/actual {4}the guest passed at .* ms, whose console ends with "passed"/);
    expect(stdout).toMatch(/last events\n.*ms {2}iommu/);
    expect(stdout).toMatch(/console\n(?:.*\n)*? +hello from hart 0/);
    expect(stdout).toContain('2 of 4 scenarios passed, 1 failed, 1 skipped');
    expect(stderr).toContain('4 of 4 scenarios in');
  });

  it('prints the same however many threads there are', async () => {
    const runs = await Promise.all(
      ['1', '3'].map((jobs) => iommulab(['test', file('all'), '--jobs', jobs, '--reporter', 'json'])),
    );
    expect(runs[0]!.stdout).toBe(runs[1]!.stdout);
  });

  it('divides scenarios over shards, each to one', async () => {
    const names: string[] = [];
    for (const shard of ['1/3', '2/3', '3/3']) {
      const { stdout } = await iommulab(['test', file('all'), '--shard', shard, '--reporter', 'json']);
      names.push(...(JSON.parse(stdout) as { results: { name: string }[] }).results.map(({ name }) => name));
    }
    expect(names.toSorted()).toEqual(
      ['a-passes', 'b-fails', 'c-skipped', 'd #4'].map((name) => file(`all/${name}.yaml`)),
    );
  });

  it('has an empty shard of few scenarios pass', async () => {
    const { code, stdout } = await iommulab(['test', file('all/a-passes.yaml'), '--shard', '2/2', '--reporter', 'tap']);
    expect([code, stdout]).toEqual([0, 'TAP version 14\n1..0\n']);
  });

  it('tells every problem of every file at once, with line, column and suggestion, and runs nothing', async () => {
    const report = file('never.xml');
    const { code, stdout, stderr } = await iommulab([
      'test',
      file('wrong.yaml'),
      file('also-wrong.yaml'),
      file('all'),
      '--output',
      report,
    ]);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain(`${file('wrong.yaml')}:2:1: memry: expected one of the keys`);
    expect(stderr).toContain('(did you mean memory?)');
    expect(stderr).toContain(`${file('wrong.yaml')}:4:5: steps[0].expect-consol: expected one of`);
    expect(stderr).toMatch(
      /wrong\.yaml:5:\d+: steps\[1\]\.advance\.time: expected a virtual time .*, found "3 parsecs"/,
    );
    expect(stderr).toContain(`${file('also-wrong.yaml')}:`);
    expect(existsSync(report)).toBe(false);
  });

  it.each([
    [['no-such.yaml'], 'no-such.yaml: expected a scenario, or a folder of them, but it does not exist'],
    [['test/cmd'], 'test/cmd: expected a folder with scenarios (.yaml), found none in it'],
    [['x.yaml', '--shard', '3/2'], 'i/n with i from 1 to n'],
    [['x.yaml', '--jobs', '0'], 'a whole number from 1 to 256'],
    [['x.yaml', '--reporter', 'xml'], 'junit'],
  ])('refuses %j', async (args, said) => {
    const { code, stderr } = await iommulab(['test', ...args]);
    expect(code).toBe(2);
    expect(stderr).toContain(said);
  });

  it('compares with goldens, and writes them when asked', async () => {
    const golden = file('golden.txt');
    const run = (...more: string[]) => iommulab(['test', file('golden.yaml'), ...more]);
    expect((await run()).stdout).toContain('--update-goldens writes it');
    expect((await run('--update-goldens')).code).toBe(0);
    expect(readFileSync(golden, 'utf8')).toContain('hello from hart 0');
    expect((await run()).code).toBe(0);
    writeFileSync(golden, readFileSync(golden, 'utf8').replace('SBI 2.0', 'SBI 9.9'));
    const { code, stdout } = await run();
    expect(code).toBe(1);
    expect(stdout).toMatch(/line 2: "SBI 9\.9.*\n.*actual +"SBI 2\.0/);
  });

  it('gives every scenario the seed', async () => {
    const seeded = file('seed.yaml');
    writeFileSync(
      seeded,
      'image: hello\ndisks: [{ path: "memory:demo" }]\nsteps:\n  - check: { disk: nvme0, offset: 1048576, length: 64, crc32: 0 }\n',
    );
    const found = async (...more: string[]): Promise<string | undefined> =>
      /actual +(\S+)/.exec((await iommulab(['test', seeded, ...more])).stdout)?.[1];
    expect(await found()).toBe(await found('--seed', '1'));
    expect(await found('--seed', '2')).not.toBe(await found('--seed', '1'));
  });
});

describe('reports', () => {
  it('as JUnit, which merges with others of its kind', async () => {
    const report = file('report.xml');
    const { code, stdout } = await iommulab(['test', file('all'), '--reporter', 'junit', '--output', report]);
    expect([code, stdout]).toEqual([1, '']);
    const text = readFileSync(report, 'utf8');
    expect(text).toContain('<testsuite name="scenarios" tests="4" failures="1" skipped="1">');
    if (!has('xmllint')) return;
    const ask = (path: string): string =>
      execFileSync('xmllint', ['--xpath', path, report], { encoding: 'utf8' }).trim();
    expect(ask('count(//testcase)')).toBe('4');
    expect(ask('count(//testcase/failure)')).toBe('1');
    expect(ask('count(//testcase/skipped)')).toBe('1');
    expect(ask('string(//failure)')).toContain('expected  "<never> & written" on the console');
  });

  it('as TAP, which a consumer reads', async () => {
    const { stdout } = await iommulab(['test', file('all'), '--reporter', 'tap']);
    const lines = stdout.split('\n');
    expect(lines[0]).toBe('TAP version 14');
    expect(lines).toContain('1..4');
    const points = lines.flatMap((line) => {
      const [, no, number, name, directive] = /^(not )?ok (\d+) - ((?:\\.|[^#\\])*?)(?: # (\S+))?$/.exec(line) ?? [];
      return number === undefined ? [] : [{ ok: no === undefined, number: Number(number), name, directive }];
    });
    expect(points.map(({ ok, number, directive }) => [ok, number, directive])).toEqual([
      [true, 1, undefined],
      [false, 2, undefined],
      [true, 3, 'SKIP'],
      [true, 4, undefined],
    ]);
    expect(points[3]!.name!.replaceAll(/\\(.)/g, '$1')).toBe(file('all/d #4.yaml'));
    // Whatever is no point, plan or version belongs to a diagnostic, indented by two.
    expect(lines.filter((line) => !/^(?:TAP |1\.\.|(?:not )?ok | {2}|$)/.test(line))).toEqual([]);
  });
});
