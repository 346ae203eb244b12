import {
  copyFileSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { makeDiskImage } from '#guest-images/disk-image';
import { readLargeFile } from '#cmd/files';
import { readSnapshot, saveSnapshot } from '#cmd/snapshot-file';
import { bundledGuest, Lab } from '../../index.ts';
import { iommulab } from './iommulab.ts';

const folder = mkdtempSync(join(tmpdir(), 'iommulab-snapshot-'));
const at = (name: string): string => join(folder, name);
const read = (name: string): string => readFileSync(at(name), 'utf8');

/** A run that is saved and ended, and then taken up by another process, against one that was left alone. */
async function twoHalves(name: string, args: readonly string[], point: string): Promise<void> {
  const whole = await iommulab(['run', ...args, '--trace', at(`${name}.jsonl`)]);
  const saved = ['--snapshot-at', point, '--snapshot-to', at(name)];
  const first = await iommulab(['run', ...args, '--trace', at(`${name}.1.jsonl`), ...saved]);
  expect(first.stderr).toContain(`saved in ${at(name)}`);
  const second = await iommulab(['resume', at(name), '--trace', at(`${name}.2.jsonl`)]);
  expect([first.code, second.code]).toEqual([0, whole.code]);
  expect(read(`${name}.1.jsonl`) + read(`${name}.2.jsonl`) === read(`${name}.jsonl`)).toBe(true);
  expect(read(`${name}.2.jsonl`)).not.toBe('');
  expect(first.stdout + second.stdout).toBe(whole.stdout);
}

describe('run --snapshot-at and resume', () => {
  it('write the trace and the console of a run that was left alone', async () => {
    await twoHalves('hello', ['hello'], 'console:SBI');
    await twoHalves('smp', ['smp', '--smp', '3'], 'instructions:9000');
  });

  it('leave a disk with an overlay as it was, so that what was saved can be resumed again and again', async () => {
    const disk = makeDiskImage(7);
    writeFileSync(at('base.img'), disk);
    const args = ['dma', '--disk', `${at('base.img')},overlay=on`, '--nic', 'hub', '--nic', 'hub'];
    await twoHalves('dma', args, 'event:iommu.fault');
    const third = await iommulab(['resume', at('dma'), '--trace', at('dma.3.jsonl')]);
    expect(third.code).toBe(0);
    expect(read('dma.3.jsonl') === read('dma.2.jsonl')).toBe(true);
    expect(readFileSync(at('base.img')).equals(disk)).toBe(true);

    // Its contents count, not when they were written or where.
    utimesSync(at('base.img'), 1, 1);
    expect((await iommulab(['resume', at('dma')])).code).toBe(0);
    copyFileSync(at('base.img'), at('moved.img'));
    rmSync(at('base.img'));
    const gone = await iommulab(['resume', at('dma')]);
    expect(gone).toMatchObject({ code: 2, stdout: '' });
    expect(gone.stderr).toBe(
      `iommulab: disk nvme0: expected ${at('base.img')} as it was when the machine was saved, but it does not exist\n`,
    );
    expect((await iommulab(['resume', at('dma'), '--disk', `nvme0=${at('moved.img')}`])).code).toBe(0);
    expect((await iommulab(['resume', at('dma'), '--disk', `x=${at('moved.img')}`])).stderr).toContain(
      '--disk: expected the id of a disk of the snapshot (nvme0), found x',
    );
    writeFileSync(at('moved.img'), makeDiskImage(8));
    const changed = await iommulab(['resume', at('dma'), '--disk', `nvme0=${at('moved.img')}`]);
    expect(changed).toMatchObject({ code: 2, stdout: '' });
    expect(changed.stderr).toContain('but it has changed since');
    writeFileSync(at('moved.img'), new Uint8Array(1 << 19));
    expect((await iommulab(['resume', at('dma'), '--disk', `nvme0=${at('moved.img')}`])).stderr).toContain(
      `but it has 524288 bytes now instead of ${disk.length}`,
    );
  }, 60_000);

  it('go on in the same process, and save at the end', async () => {
    const whole = await iommulab(['run', 'hello']);
    const saved = ['--snapshot-to', at('on'), '--snapshot-then', 'continue'];
    const on = await iommulab(['run', 'hello', '--snapshot-at', 'time:20us', ...saved]);
    expect(on).toMatchObject({ code: 0, stdout: whole.stdout });
    // What is resumed can be saved again, at a point that counts from power-on.
    const again = await iommulab(['resume', at('on'), '--snapshot-at', 'end', '--snapshot-to', at('end')]);
    expect(again.code).toBe(0);
    const ended = await iommulab(['resume', at('end'), '--json']);
    expect(JSON.parse(ended.stdout)).toMatchObject({ outcome: 'passed' });
    expect(statSync(at('end')).mode & 0o777).toBe(0o600);
  });

  it('are written and read piece by piece', () => {
    const { machine } = new Lab({ memory: '32M' }, { image: bundledGuest('hello') });
    machine.run({ instructions: 1000 });
    const note = { name: 'hello', sha256: '', isLinux: false };
    const whole = saveSnapshot(machine, note, at('whole'));
    expect(saveSnapshot(machine, note, at('pieces'), 1000)).toMatchObject({ bytes: whole.bytes });
    expect(readFileSync(at('pieces')).equals(readFileSync(at('whole')))).toBe(true);
    expect(whole.bytes).toBe(statSync(at('whole')).size);
    expect(whole.bytes).toBeGreaterThan(10_000);
    for (const pieceBytes of [1, 4099, whole.bytes, whole.bytes + 1])
      expect(Buffer.from(readLargeFile(at('whole'), 'a snapshot', pieceBytes)).equals(readFileSync(at('whole')))).toBe(
        true,
      );
    expect(readSnapshot(at('whole'), new Map(), 777).snapshot.instructions).toBe(1000);
    expect(() => readLargeFile(folder, 'a snapshot')).toThrow('is a directory');
  });

  it('say in one sentence what is wrong with a file', async () => {
    await iommulab(['run', 'hello', '--snapshot-at', 'console:SBI', '--snapshot-to', at('good')]);
    const good = readFileSync(at('good'));
    const damaged = Buffer.from(good);
    damaged[good.length >> 1]! ^= 1;
    const newer = Buffer.from(good);
    newer[8]! += 1;
    const cases: readonly (readonly [string, Uint8Array, RegExp])[] = [
      ['truncated', good.subarray(0, good.length - 100), /ends|short|truncated/],
      ['damaged', damaged, /damaged/],
      ['newer', newer, /format 2, found format 3/],
      ['other', Buffer.from('not a snapshot at all, but text'), /snapshot/],
      ['empty', new Uint8Array(0), /snapshot/],
    ];
    for (const [name, bytes, sentence] of cases) {
      writeFileSync(at(name), bytes);
      const { code, stdout, stderr } = await iommulab(['resume', at(name)]);
      expect({ name, code, stdout }).toEqual({ name, code: 2, stdout: '' });
      expect(stderr).toMatch(sentence);
      expect(stderr.trimEnd().split('\n')).toHaveLength(1);
    }
    expect(await iommulab(['resume', at('nowhere')])).toMatchObject({ code: 2, stdout: '' });
  }, 30_000);

  it.each([
    [['--snapshot-at', 'end'], 'expected --snapshot-at and --snapshot-to together'],
    [['--snapshot-at', 'noon', '--snapshot-to', 'x'], '--snapshot-at: expected'],
    [['--snapshot-at', 'end', '--snapshot-to', 'x', '--snapshot-then', 'wait'], '--snapshot-then: expected stop or'],
    [['--snapshot-at', 'end', '--snapshot-to', 'x', '--gdb', '1234'], 'expected --snapshot-at without --gdb'],
    [['--snapshot-at', 'end', '--snapshot-to', join(folder, 'no', 'x')], 'but its folder does not exist'],
  ])('refuse %s', async (args, sentence) => {
    const { code, stderr } = await iommulab(['run', 'hello', ...args]);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(sentence) as string });
  });

  it('tell when the run ended before the point', async () => {
    const run = await iommulab(['run', 'hello', '--snapshot-at', 'console:never', '--snapshot-to', at('never')]);
    expect(run.code).toBe(1);
    expect(run.stderr).toContain('the run ended before console:never: no snapshot was written');
    expect(statSync(at('never'), { throwIfNoEntry: false })).toBeUndefined();
  });

  it('hold what is in hot-plug ports; its disks are looked for as others are', async () => {
    const path = at('ports.sock');
    writeFileSync(at('port.img'), makeDiskImage(9));
    const guest = ['hotplug', '--hotplug-ports', '2', '--append', 'departures=1'];
    const run = iommulab(['run', ...guest, '--control', path]);
    const ctl = (...args: string[]) => iommulab(['ctl', path, ...args]);
    let status = await ctl('stop');
    for (let i = 0; i < 100 && status.code !== 0; i++) status = await ctl('stop');
    await ctl('device_add', 'driver=exerciser', 'id=x', 'bus=port1');
    await ctl('device_add', 'driver=nvme', 'id=d', `path=${at('port.img')}`);
    expect((await ctl('snapshot', `file=${at('ports')}`)).code).toBe(0);
    await ctl('quit');
    expect((await run).code).toBe(130);

    renameSync(at('port.img'), at('port-moved.img'));
    const gone = await iommulab(['resume', at('ports')]);
    expect(gone).toMatchObject({ code: 2, stdout: '' });
    expect(gone.stderr).toContain(`disk d: expected ${at('port.img')} as it was when the machine was saved`);
    const moved = ['resume', at('ports'), '--disk', `d=${at('port-moved.img')}`];
    const spoiled = await iommulab([...moved, '--trace', at('port-moved.img')]);
    expect(spoiled).toMatchObject({ code: 2, stdout: '' });

    const again = iommulab([...moved, '--control', path]);
    const until = async (wanted: RegExp): Promise<string> => {
      let seen = '';
      for (let i = 0; i < 100 && !wanted.test(seen); i++) seen = (await ctl('query-ports')).stdout;
      return seen;
    };
    expect(await until(/port0/)).toMatch(/port0 +d +there\nport1 +x +there/);
    await ctl('device_del', 'id=d');
    const { code, stdout } = await again;
    expect(code).toBe(0);
    expect(stdout).toContain('hotplug: arrived=');
  }, 60_000);

  it('work over the control socket', async () => {
    const path = at('vm.sock');
    const run = iommulab(['run', 'hang', '--control', path]);
    const ctl = (...args: string[]) => iommulab(['ctl', path, ...args]);
    let status = await ctl('stop');
    for (let i = 0; i < 100 && status.code !== 0; i++) status = await ctl('stop');
    const { stdout } = await ctl('snapshot', `file=${at('hang')}`);
    const { instructions } = JSON.parse((await ctl('query-status')).stdout) as { instructions: number };
    expect(JSON.parse(stdout)).toMatchObject({ instructions });
    expect((await ctl('snapshot', `file=${join(folder, 'no', 'x')}`)).stderr).toContain('its folder does not exist');
    await ctl('quit');
    expect((await run).code).toBe(130);
    const resumed = await iommulab(['resume', at('hang'), '--max-instructions', '1000', '--json']);
    expect(resumed.code).toBe(4);
    expect(JSON.parse(resumed.stdout)).toMatchObject({ stats: { instructions: instructions + 1000 } });
  }, 30_000);
});
