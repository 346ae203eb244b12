import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { threadId } from 'node:worker_threads';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bundle } from '../build.ts';

/** The library's examples as a user would run them: one program, on the bundle. */
const source = readFileSync('index.ts', 'utf8');
const exported = [...source.matchAll(/^export \{ (.*?) \} from/gm)].flatMap(([, names]) => names!.split(', '));
const examples = [...source.matchAll(/\/\*\*((?:(?!\*\/)[^])*?)\*\/\s*export \{ (\w+) \}/g)].flatMap(
  ([, doc, name]) => {
    const [, code] = doc!.split('@example');
    return code === undefined ? [] : [{ name: name!, code: code.replaceAll(/^ \* ?/gm, '').trim() }];
  },
);

let folder = '';
beforeAll(async () => {
  const file = join(process.cwd(), '.cache', `library-test-${threadId}.js`);
  mkdirSync('.cache', { recursive: true });
  await bundle('index.ts', file);
  folder = mkdtempSync(join(tmpdir(), 'iommulab-examples-'));
  const program = [
    "import { rmSync, writeFileSync } from 'node:fs';",
    "import { tmpdir } from 'node:os';",
    "import { join } from 'node:path';",
    "import assert from 'node:assert/strict';",
    "import test from 'node:test';",
    `import { ${exported.join(', ')} } from ${JSON.stringify(file)};`,
    ...examples.map(({ name, code }) => `test(${JSON.stringify(name)}, async () => {\n${code}\n});`),
  ];
  writeFileSync(join(folder, 'examples.mjs'), program.join('\n'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('has an example on every export', () => {
  expect(exported.length).toBeGreaterThan(12);
  expect(examples.map(({ name }) => name)).toEqual(exported);
});

it('has only examples that work, under node:test', () => {
  const said = execFileSync(process.execPath, ['--test', '--test-reporter=tap', join(folder, 'examples.mjs')], {
    encoding: 'utf8',
    env: { ...process.env, NODE_TEST_CONTEXT: undefined },
  });
  expect(said.split('\n')).toContain('# fail 0');
  expect(said.split('\n')).toContain(`# pass ${examples.length}`);
});
