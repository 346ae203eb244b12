import { describe, expect, it } from 'vitest';
import { demos } from '../../cmd/demos.ts';
import { iommulab } from './iommulab.ts';

interface Result {
  readonly outcome: string;
  readonly console: string;
  readonly checks: readonly { readonly what: string; readonly passed: boolean }[];
  readonly process: readonly Readonly<Record<string, string>>[];
  readonly story: readonly { readonly kind: string }[];
}

describe.each(Object.keys(demos).filter((name) => name !== 'dma'))('demo %s', (name) => {
  it('passes, tells its story, and says on its console what it said the last time', async () => {
    const { code, stdout } = await iommulab(['demo', name, '--json']);
    const result = JSON.parse(stdout) as Result;
    expect(code).toBe(0);
    expect(result.outcome).toBe('passed');
    expect(result.checks.length).toBeGreaterThan(1);
    expect(result.checks.filter(({ passed }) => !passed)).toEqual([]);
    expect(result.story.filter(({ kind }) => kind === 'step').length).toBeGreaterThan(3);
    expect(result.console).toMatch(/^(?:leaks: pages=0 |isolation: attempts=)/m);
    await expect(result.console).toMatchFileSnapshot(`../goldens/demo-${name}.txt`);
  });
});
