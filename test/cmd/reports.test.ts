/** Reports read by programs that nobody here wrote: xmllint with a schema, and Perl's TAP::Parser. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { iommulab } from './iommulab.ts';

let folder = '';
const at = (name: string): string => join(folder, name);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iommulab-reports-'));
  mkdirSync(at('all'));
  const write = (name: string, text: string): void => writeFileSync(at(`all/${name}`), text);
  write(
    'a.yaml',
    'name: "a # \\\\ <b> & \\u0007"\nimage: hello\nmemory: 32M\nsteps: [{ check: { outcome: passed } }]\n',
  );
  write('b.yaml', 'image: hello\nmemory: 32M\nsteps: [{ expect-console: "]]> & <never>" }]\n');
  write('c.yaml', 'image: hello\nskip: on\nsteps: []\n');
  write('d.yaml', 'image: fail\nsteps: [{ check: { outcome: failed, code: 3 } }]\n');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const hasXmllint = spawnSync('xmllint', ['--version']).error === undefined;
const hasTapParser = spawnSync('perl', ['-MTAP::Parser', '-e', '1']).status === 0;

/** What xmllint says of it; empty when it follows the schema. */
const judge = (path: string): string =>
  spawnSync('xmllint', ['--noout', '--schema', 'test/cmd/junit.xsd', path], { encoding: 'utf8' }).stderr.replace(
    `${path} validates\n`,
    '',
  );
const ask = (path: string, query: string): string =>
  execFileSync('xmllint', ['--xpath', query, path], { encoding: 'utf8' }).trim();

describe.skipIf(!hasXmllint)('JUnit (skipped without xmllint)', () => {
  it('of scenarios follows the schema, also an empty shard', async () => {
    for (const shard of ['1/1', '4/5', '5/5']) {
      const report = at('report.xml');
      await iommulab(['test', at('all'), '--shard', shard, '--reporter', 'junit', '--output', report]);
      expect(judge(report)).toBe('');
    }
  });

  it('of conformance follows it, too', async () => {
    const { stdout } = await iommulab([
      'conformance',
      'test/conformance/iommufd',
      '--case',
      '*ioas*',
      '--reporter',
      'junit',
    ]);
    writeFileSync(at('conformance.xml'), stdout);
    expect(judge(at('conformance.xml'))).toBe('');
    expect(Number(ask(at('conformance.xml'), 'count(//testcase)'))).toBeGreaterThan(1);
  });

  it('of shards merges by the recipe of the documents', async () => {
    for (const i of [1, 2, 3])
      await iommulab([
        'test',
        at('all'),
        '--shard',
        `${i}/3`,
        '--reporter',
        'junit',
        '--output',
        at(`report-${i}.xml`),
      ]);
    const recipe = /```sh\n([^`]*report-\*\.xml[^`]*)```/.exec(readFileSync('test/scenarios/README.md', 'utf8'))![1]!; // prettier-ignore
    execFileSync('sh', ['-c', recipe], { cwd: folder });
    expect(judge(at('report.xml'))).toBe('');
    expect(['testcase', 'failure', 'skipped'].map((name) => ask(at('report.xml'), `count(//${name})`))).toEqual([
      '4',
      '1',
      '1',
    ]);
  });
});

describe.skipIf(!hasTapParser)("TAP (skipped without Perl's TAP::Parser)", () => {
  const read = (tap: string): unknown => {
    const program =
      'my $p = TAP::Parser->new({ tap => join("", <STDIN>) }); while (my $r = $p->next) { push @n, $r->description if $r->is_test } print join("|", $p->version, $p->plan, scalar $p->passed, scalar $p->failed, scalar $p->skipped, scalar $p->parse_errors, @n)';
    return execFileSync('perl', ['-MTAP::Parser', '-e', program], { input: tap, encoding: 'utf8' });
  };

  it('of scenarios is understood: plan, results and names', async () => {
    const { stdout } = await iommulab(['test', at('all'), '--reporter', 'tap']);
    // Version 14 is 13 with escapes and subtests, of which this parser knows the former only as text.
    const names = [String.raw`- a \# \\ <b> & ` + '\u0007', ...['b', 'c', 'd'].map((name) => `- ${at(`all/${name}.yaml`)}`)]; // prettier-ignore
    expect(read(stdout.replace('TAP version 14', 'TAP version 13'))).toBe(`13|1..4|3|1|1|0|${names.join('|')}`);
  });

  it('of conformance, and of nothing', async () => {
    const cases = await iommulab(['conformance', 'test/conformance/iommufd', '--case', '*ioas*', '--reporter', 'tap']);
    const found = String(read(cases.stdout.replace('TAP version 14', 'TAP version 13'))).split('|');
    expect([found[2], found[3], found[5]]).toEqual([found[1]!.slice(3), '0', '0']);
    const none = await iommulab(['test', at('all/a.yaml'), '--shard', '2/2', '--reporter', 'tap']);
    expect(String(read(none.stdout.replace('version 14', 'version 13')))).toBe('13|1..0|0|0|0|0');
  });
});

describe('Ctrl-C', () => {
  it('once: the report holds what was run, and is closed', async () => {
    mkdirSync(at('long'));
    writeFileSync(at('long/a.yaml'), 'image: hello\nmemory: 32M\nsteps: [{ check: { outcome: passed } }]\n');
    for (const name of ['b', 'c', 'd'])
      writeFileSync(at(`long/${name}.yaml`), 'image: hang\nsteps: [{ advance: { instructions: 3500M } }]\n');
    const report = at('stopped.xml');
    const ended = await iommulab(
      ['test', at('long'), '--jobs', '1', '--reporter', 'junit', '--output', report],
      undefined,
      (kill) => void setTimeout(() => kill('SIGINT'), 1500),
    );
    expect(ended.code).toBe(130);
    expect(ended.stderr).toMatch(/stopping \(Ctrl-C again: at once\)\n\d of 4 scenarios/);
    if (hasXmllint) expect(judge(report)).toBe('');
    expect(readFileSync(report, 'utf8')).toContain('</testsuites>');
  });

  it('twice: at once', async () => {
    let sent = 0;
    const ended = await iommulab(['run', 'hang'], (_, kill) => {
      if (sent++ > 0) return;
      kill('SIGINT');
      const timer = setInterval(() => (sent++ < 200 ? kill('SIGINT') : clearInterval(timer)), 5);
      timer.unref();
    });
    // By its own exit, or by the signal when that came while it was leaving: 130 to a shell either way.
    expect([130, null]).toContain(ended.code);
    expect(ended.stderr).toContain('stopping (Ctrl-C again: at once)');
  });
});
