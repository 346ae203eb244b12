import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { iommulab } from './cmd/iommulab.ts';
import { claims, claimingSections } from './scenarios/claims.ts';

const readme = readFileSync('README.md', 'utf8');

it('quotes what the demo really prints', async () => {
  const quoted = /<!-- output of: iommulab (.*?) -->\s*```text\n([\s\S]*?)```/.exec(readme)!;
  const { code, stdout } = await iommulab(quoted[1]!.split(' '));
  expect(code).toBe(0);
  const printed = new Set(stdout.split('\n').map((line) => line.trimEnd()));
  const lines = quoted[2]!.split('\n').filter((line) => line !== '' && line !== '…');
  expect(lines.length).toBeGreaterThan(5);
  expect(lines.filter((line) => !printed.has(line))).toEqual([]);
});

/** Commands of the README that neither take long nor leave anything behind. */
const commands = [...readme.matchAll(/^npx iommulab (.*?)(?:\s+#.*)?$/gm)]
  .map((match) => match[1]!.trim())
  .filter((line) => !/^(?:demo|bench)/.test(line));
it('shows some commands', () => expect(commands.length).toBeGreaterThan(4));
it.each(commands)('iommulab %s ends well', async (line) => {
  const { code } = await iommulab(line.split(/\s+/));
  expect(code).toBe(0);
});

describe('every claim is shown', () => {
  /** Paragraphs and bullets of the sections that make claims. */
  const blocks = readme
    .split(/^## /m)
    .filter((section, i) => claimingSections.some((name) => (i === 0 ? name === '' : section.startsWith(`${name}\n`))))
    .flatMap((section, i) =>
      section
        .slice(i === 0 ? section.indexOf('\n') : 0)
        .replaceAll(/```[^]*?```/g, '')
        .split(/\n(?=- )|\n\n/),
    ) // prettier-ignore
    .map((block) => block.trim())
    .filter((block) => /^(?:- |[A-Z`])/.test(block) && /[a-z]\b.*\s/.test(block) && block.length > 60);

  it('no paragraph or bullet is without one (a row of test/scenarios/claims.ts)', () => {
    expect(blocks.length).toBeGreaterThan(12);
    expect(blocks.filter((block) => !claims.some(({ says }) => block.includes(says)))).toEqual([]);
  });

  it.each(claims.map((claim) => [claim.says, claim] as const))('%s', (says, { scenarios = [], tests = [] }) => {
    expect(readme).toContain(says);
    expect(scenarios.length + tests.length).toBeGreaterThan(0);
    for (const path of [...scenarios.map((name) => `test/scenarios/${name}`), ...tests]) expect(existsSync(path), path).toBe(true); // prettier-ignore
  });

  it('every scenario says what it shows', () => {
    const files = readdirSync('test/scenarios', { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.yaml')); // prettier-ignore
    for (const name of files) expect(readFileSync(`test/scenarios/${name}`, 'utf8'), name).toMatch(/^claim: \S/m);
    expect(files.length).toBeGreaterThanOrEqual(30);
  });
});
