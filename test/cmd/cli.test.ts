import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { wantsColor } from '#cmd/output';
import { exitCodes } from '#cmd/exit';
import { guestImages } from '#guest-images/manifest';
import { demos } from '../../cmd/demos.ts';
import { iommulab } from './iommulab.ts';
import { explain, program } from '#cmd/program';

let folder = '';
const at = (name: string): string => join(folder, name);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iommulab-test-'));
  writeFileSync(at('odd.img'), new Uint8Array(1000));
  writeFileSync(at('good.img'), new Uint8Array(4096));
  writeFileSync(at('bad.yaml'), 'memory: 12Q\nnics:\n  - bakend: hub\n');
  writeFileSync(at('good.yaml'), '# a machine\nimage: hello\nmemory: 64M\nnics: [{ mac: "52:54:00:00:00:02" }]\n');
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('a wrong command line is exit 2 and one sentence a problem', () => {
  it.each<[string, string[], string]>([
    ['option', ['run', 'hello', '--memroy', '64M'], "unknown option '--memroy' (did you mean --memory?)"],
    ['command', ['rnu', 'hello'], "unknown command 'rnu' (did you mean run?)"],
    ['guest', ['run', 'helo'], `unknown guest "helo": expected the path of a kernel, or one of ${guestImages.map((image) => image.name).join(', ')} (did you mean hello?)`],
    ['no guest', ['run'], 'no guest: expected its name or path, or image or kernel in the configuration'],
    ['missing file', ['run', './missing.elf'], './missing.elf: expected a kernel, but it does not exist'],
    ['memory too small', ['run', 'hello', '--memory', '1M'], 'memory: expected a size from 16M to 3G, a multiple of 2M (suffixes K, M, G), found "1M"'],
    ['memory too large', ['run', 'hello', '--memory', '4G'], 'memory: expected a size from 16M to 3G, a multiple of 2M (suffixes K, M, G), found "4G"'],
    ['key', ['run', 'hello', '--disk', 'path=a.img,seriall=x'], expect.stringMatching(/^disks\[0\]\.seriall: expected one of the keys path, .*, found the key "seriall" \(did you mean serial\?\)$/) as string],
    ['grammar', ['run', 'hello', '--nic', 'id="a'], '--nic id="a: expected key=value,…, found a quote that is not closed (character 4)'],
    ['missing disk', ['run', 'hello', '--disk', 'missing.img'], 'disks[0].path: missing.img: expected a disk image, but it does not exist'],
    ['address', ['run', 'hello', '--nic', 'address=3', '--nic', 'address=3'], 'nics[1].address: expected a PCI device number that no other device has, found 3, which nics[0] has too'],
    ['missing config', ['run', '--config', 'missing.yaml'], 'missing.yaml: expected a configuration file, but it does not exist'],
    ['demo', ['demo', 'dam'], `command-argument value 'dam' is invalid for argument 'demo'. Allowed choices are ${Object.keys(demos).join(', ')}.`],
    ['value', ['run', 'hello', '--memory'], "option '--memory <size>' argument missing"],
    ['too many', ['images', 'x'], "too many arguments for 'images'. Expected 0 arguments but got 1."],
    ['events', ['run', 'hello', '--trace', 'file=nowhere/t.jsonl,events=[nvm.*]'], 'trace.events: expected globs that match events (see iommulab trace list), found nvm.*'],
    ['trace into a missing folder', ['run', 'hello', '--trace', 'nowhere/t.jsonl'], 'nowhere/t.jsonl: expected a place for a trace file, but its folder does not exist'],
    ['trace over the guest', ['run', './guest-images/images/hello.elf', '--trace', 'guest-images/../guest-images/images/hello.elf'], 'trace.file: expected a file of its own, found "guest-images/../guest-images/images/hello.elf", which is ./guest-images/images/hello.elf'],
    ['disk that is a folder', ['run', 'hello', '--disk', 'cmd'], 'disks[0].path: expected a file, found "cmd", which is none'],
    ['reporter', ['conformance', '.', '--reporter', 'xml'], "option '--reporter <name>' argument 'xml' is invalid. Allowed choices are pretty, tap, junit, json."],
    ['measurement', ['bench', '--only', 'nothing'], expect.stringMatching(/^no measurement matches nothing: there are hart: integer loop, /) as string],
  ])('%s', async (_, args, sentence) => {
    const error: unknown = await program()
      .parseAsync(args, { from: 'user' })
      .then(() => undefined, (reason: unknown) => reason);
    expect(explain(error)).toEqual({ sentences: [sentence], code: exitCodes.usage.code });
  }); // prettier-ignore

  it('on stderr, with nothing on stdout', async () => {
    expect(await iommulab(['run', 'hello', '--memroy', '64M'])).toEqual({
      code: 2,
      stdout: '',
      stderr: "iommulab: unknown option '--memroy' (did you mean --memory?)\n",
    });
  });

  it.each(['--trace', '--trace-perfetto'])('of a demo, before it tells anything: %s', async (option) => {
    const { code, stdout, stderr } = await iommulab(['demo', 'dma', option, at('nowhere/t')]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^iommulab: \S+nowhere\/t: expected a place for a .*, but its folder does not exist\n$/);
  });

  it('with every problem of a file at once, in its place', async () => {
    const { code, stderr } = await iommulab(['config', 'check', at('bad.yaml')]);
    expect(stderr.split('\n').map((line) => line.replace(folder, '').replace(/: expected .*/, ''))).toEqual([
      `iommulab: /bad.yaml:3:5: nics[0].bakend`,
      `iommulab: /bad.yaml:1:9: memory`,
      '',
    ]);
    expect(code).toBe(2);
  });

  it('of an odd-sized image, before anything is written', async () => {
    const { code, stderr } = await iommulab([
      'run',
      'hello',
      '--disk',
      at('odd.img'),
      '--disk',
      at('good.img'),
      '--disk',
      at('good.img'),
      '--trace',
      at('t.jsonl'),
    ]);
    expect(stderr).toContain(
      `disks[0].path: expected an image of whole 512-byte sectors, found "${at('odd.img')}" of 1000 bytes`,
    );
    expect(stderr).toContain(`disks[2].path: expected an image that no other disk writes`);
    expect(code).toBe(2);
    expect(existsSync(at('t.jsonl'))).toBe(false);
  });

  it('without any command: the help', async () => {
    const { code, stderr } = await iommulab([]);
    expect(stderr).toContain('Usage: iommulab');
    expect(code).toBe(2);
  });
});

describe('the command line', () => {
  it('says its version and its exit codes', async () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    expect(await iommulab(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
    const { code, stdout } = await iommulab(['--help']);
    expect(code).toBe(0);
    for (const { code: number, doc } of Object.values(exitCodes)) expect(stdout).toContain(`${number}  ${doc}`);
  });

  it('lists keys and defaults of every option', async () => {
    const { stdout } = await iommulab(['run', '--help']);
    expect(stdout).toContain('--memory <size>');
    expect(stdout).toMatch(/path=path +image file.*\(key may be omitted; required\)/);
    expect(stdout).toMatch(/model=riscv\|none .*default riscv/);
    expect(stdout.indexOf('Examples:')).toBe(0);
  });

  it('lists the guests', async () => {
    const { stdout } = await iommulab(['images', '--json']);
    const images = JSON.parse(stdout) as { name: string; proves: string }[];
    expect(images.map((image) => image.name)).toContain('dma');
    const table = (await iommulab(['images'])).stdout;
    for (const { name, proves } of images)
      expect(table.split('\n').some((line) => line.startsWith(name) && line.endsWith(proves))).toBe(true);
  });

  it('prints the whole machine, from a file and options together', async () => {
    const good = await iommulab([
      'config',
      'print',
      '--config',
      at('good.yaml'),
      '--memory',
      '256M',
      '--nic',
      'backend=none,id=x',
      '--reboot',
      '--json',
    ]);
    expect(good.stderr).toBe('');
    expect(JSON.parse(good.stdout)).toMatchObject({
      image: 'hello',
      memory: 256 * 2 ** 20,
      reboot: true,
      nics: [
        { id: 'net0', mac: '52:54:00:00:00:02', address: 1 },
        { id: 'x', backend: 'none', address: 2 },
      ],
    });
    const yaml = (await iommulab(['config', 'print', '--config', at('good.yaml')])).stdout;
    writeFileSync(at('again.yaml'), yaml);
    expect((await iommulab(['config', 'print', '--config', at('again.yaml')])).stdout).toBe(yaml);
  });

  it('measures', async () => {
    const { code, stdout } = await iommulab(['bench', '--only', 'iommu: IOTLB hit, 1 page', '--json']);
    const { results } = JSON.parse(stdout) as { results: { name: string; value: number; unit: string }[] };
    expect(results).toMatchObject([{ name: 'iommu: IOTLB hit, 1 page', unit: '/s' }]);
    expect(results[0]!.value).toBeGreaterThan(100_000);
    expect(code).toBe(0);
  });

  it('lists the events', async () => {
    const events = JSON.parse((await iommulab(['trace', 'list', 'nvme.*', '--json'])).stdout) as { name: string }[];
    expect(events.length).toBeGreaterThan(3);
    expect(events.every((event) => event.name.startsWith('nvme.'))).toBe(true);
  });
});

describe('colour', () => {
  it.each<[boolean, Record<string, string>, string[], boolean]>([
    [true, {}, [], true],
    [false, {}, [], false],
    [true, { NO_COLOR: '1' }, [], false],
    [true, { NO_COLOR: '' }, [], true],
    [false, { FORCE_COLOR: '1' }, [], true],
    [true, { FORCE_COLOR: '0' }, [], false],
    [true, { FORCE_COLOR: '1', NO_COLOR: '1' }, [], false],
    [true, { TERM: 'dumb' }, [], false],
    [true, {}, ['--no-color'], false],
    [false, { NO_COLOR: '1' }, ['--color'], true],
  ])('terminal %s, %j, %j: %s', (isTerminal, env, argv, expected) => {
    expect(wantsColor(isTerminal, env, argv)).toBe(expected);
  });
});
