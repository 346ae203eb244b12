import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { tableUnder, tables } from './readme.ts';

describe('README.md shows what is declared', () => {
  const text = readFileSync(new URL('../../../devices/exerciser/README.md', import.meta.url), 'utf8');
  it.each(Object.entries(tables))('%s', (heading, table) => {
    expect(tableUnder(text, heading)).toEqual(table);
  });
});
