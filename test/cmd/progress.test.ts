/** What a person sees on a terminal while something takes long, through a pseudo terminal of util-linux's script. */
import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { bundlePath, iommulab } from './iommulab.ts';

const hasScript = spawnSync('script', ['--version']).status === 0;

async function onTerminal(args: string, env: Readonly<Record<string, string>> = {}): Promise<string> {
  const command = `${process.execPath} ${await bundlePath()} ${args}`;
  const { stdout } = spawnSync('script', ['-qec', command, '/dev/null'], {
    env: { ...process.env, NO_COLOR: '', FORCE_COLOR: '', TERM: 'xterm', ...env },
    encoding: 'utf8',
  });
  return stdout;
}

describe.skipIf(!hasScript)('progress on a terminal (skipped without script of util-linux)', () => {
  it('a run that takes longer than a second says how far it is, and leaves nothing of it', async () => {
    const said = await onTerminal('run hang --timeout 2.5s', { NO_COLOR: '1' });
    expect(said).toMatch(/running: [^\r]+ instructions, [\d.]+ m?s virtual/);
    // The last line that was shown is gone before the report begins.
    expect(said.slice(said.lastIndexOf('running: '))).toMatch(/virtual\r\u001b\[2Kregisters/); // eslint-disable-line no-control-regex
    expect(said).not.toMatch(/\u001b\[\d*m/); // eslint-disable-line no-control-regex -- colours
  });

  it('colours obey NO_COLOR and FORCE_COLOR; a short command has no progress', async () => {
    const coloured = await onTerminal('run hello');
    expect(coloured).toContain('\u001b[32m');
    expect(coloured).not.toContain('running: ');
    expect(await onTerminal('run hello', { FORCE_COLOR: '0' })).not.toContain('\u001b[32m');
  });
});

it('nothing of it goes into a pipe', async () => {
  const { stderr } = await iommulab(['run', 'hang', '--timeout', '2s']);
  expect(stderr).not.toContain('\u001b');
  expect(stderr).not.toContain('running: ');
});
