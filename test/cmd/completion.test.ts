import { spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { allNodes, commandTree } from '#cmd/command-tree';
import { shells } from '#cmd/completion-scripts';
import { manPage } from '#cmd/man-page';
import { program } from '#cmd/program';

const folder = mkdtempSync(join(tmpdir(), 'iommulab-completion-'));
writeFileSync(join(folder, 'a file.img'), '');
const tree = () => commandTree(program());
const scripts = Object.fromEntries(
  Object.entries(shells).map(([shell, make]) => {
    const path = join(folder, `completion.${shell}`);
    writeFileSync(path, make(tree()));
    return [shell, path];
  }),
);
const has = (program: string): boolean => spawnSync(program, ['--version']).error === undefined;
const q = (text: string): string => `'${text}'`;

function run(program: string, args: readonly string[]): string[] {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', cwd: folder });
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return stdout.split('\n').filter((line) => line !== '');
}

/** What each shell offers behind these words; the last is being typed. */
const offers: Readonly<Record<string, (words: readonly string[]) => string[]>> = {
  bash: (words) =>
    run('bash', ['--norc', '-c', `source ${scripts['bash']}; COMP_WORDS=(${words.map(q).join(' ')}); COMP_CWORD=${words.length - 1}; _iommulab; printf '%s\\n' "\${COMPREPLY[@]}"`]),
  // The completion system of zsh wants a terminal: its functions are replaced, the script is the real one.
  zsh: (words) =>
    run('zsh', ['-f', '-c', `compdef() { :; }; _files() { print -l -- *(N); }; _describe() { [[ $1 == -o ]] && shift; local a; for a in "\${(@P)2}"; do print -r -- "\${a%%:*}"; done; }; source ${scripts['zsh']}; words=(${words.map(q).join(' ')}); CURRENT=${words.length}; PREFIX=${q(words.at(-1)!)}; _iommulab`])
      .filter((word) => word.startsWith(words.at(-1)!)),
  fish: (words) =>
    run('fish', ['--no-config', '-c', `source ${scripts['fish']}; complete -C ${q(words.join(' '))}`]).map((line) => line.split('\t')[0]!),
}; // prettier-ignore

describe.each(Object.keys(shells))('completion for %s', (shell) => {
  const offer = offers[shell]!;
  it.runIf(has(shell))('offers commands, options and values', () => {
    expect(offer(['iommulab', '']).filter((word) => !word.includes('.'))).toEqual(
      expect.arrayContaining(['run', 'demo', 'inspect', 'trace', 'ctl', 'completion', 'man']),
    );
    expect(offer(['iommulab', 'run', '--max'])).toEqual(['--max-instructions']);
    expect(offer(['iommulab', 'run', '--entry-mode', '']).sort()).toEqual(['m', 's']);
    expect(offer(['iommulab', 'run', '--viommu', 'r'])).toEqual(['riscv']);
    expect(offer(['iommulab', 'run', 'hel'])).toEqual(['hello']);
    expect(offer(['iommulab', 'inspect', 'page'])).toEqual(['page-table']);
    expect(offer(['iommulab', 'inspect', 'registers', '--run', 'bench-n'])).toEqual(['bench-nvme']);
    expect(offer(['iommulab', 'config', 'p'])).toEqual(['print']);
    expect(offer(['iommulab', 'config', 'print', '--mem'])).toEqual(['--memory']);
    expect(offer(['iommulab', 'ctl', 'vm.sock', 'query-st']).sort()).toEqual(['query-stats', 'query-status']);
    expect(offer(['iommulab', 'trace', 'list', 'iommufd.i'])).toEqual(['iommufd.ioctl']);
    expect(offer(['iommulab', 'completion', 'f'])).toEqual(['fish']);
    expect(offer(['iommulab', 'run', '--memory', ''])).toEqual([]);
  });

  it.runIf(has(shell))('offers files where a path is wanted', () => {
    expect(offer(['iommulab', 'run', '--kernel', 'a']).join(' ')).toMatch(/a(?:\\)? file\.img/);
    expect(offer(['iommulab', 'trace', 'a']).join(' ')).toMatch(/a(?:\\)? file\.img/);
  });
});

describe('the man page', () => {
  const page = manPage(tree());

  it('has every command and every option', () => {
    for (const { path, command } of allNodes(tree()).slice(1)) {
      expect(page).toContain(`.SS "${['iommulab', ...path].join(' ').replaceAll('-', String.raw`\-`)}"`);
      for (const { long } of command.options)
        if (long !== undefined) expect(page).toContain(long.replaceAll('-', String.raw`\-`));
    }
  });

  it.runIf(has('man'))('is formatted without a warning', () => {
    const path = join(folder, 'iommulab.1');
    writeFileSync(path, page);
    const env = { ...process.env, LC_ALL: 'C.UTF-8', MANWIDTH: '100' };
    const { status, stdout, stderr } = spawnSync('man', ['--warnings', '-l', path], { encoding: 'utf8', env });
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(stdout).toContain('EXIT STATUS');
    expect(stdout).toContain('--trace-perfetto <file>');
  });
});

describe('--help', () => {
  const leaves = allNodes(tree()).filter(({ children, path }) => children.length === 0 || path.length === 0);
  it.each(leaves.map(({ path, command }) => [['iommulab', ...path].join(' '), command] as const))(
    'of %s begins with examples that the command line takes',
    (name, command) => {
      let text = '';
      command.configureOutput({ writeOut: (piece) => (text += piece) }).outputHelp();
      expect(text).toMatch(/^Examples:\n {2}\S/);
      if (name !== 'iommulab') expect(text.slice(0, text.indexOf('Usage:'))).toContain(name);
    },
  );
});
