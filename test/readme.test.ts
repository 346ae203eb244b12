import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { iommulab } from './cmd/iommulab.ts';

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
