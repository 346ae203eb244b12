import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { demos } from '../../cmd/demos.ts';
import { iommulab } from './iommulab.ts';

interface Result {
  readonly outcome: string;
  readonly console: string;
  readonly checks: readonly { readonly what: string; readonly passed: boolean }[];
  readonly process: readonly Readonly<Record<string, string>>[];
  readonly story: readonly { readonly kind: string; readonly layer?: string; readonly text: string }[];
  readonly pageRequests?: Readonly<Record<string, { readonly ns: Distribution; readonly instructions: Distribution }>>;
}
interface Distribution {
  readonly count: number;
  readonly median: number;
  readonly most: number;
  readonly buckets: readonly number[];
}
interface Perfetto {
  readonly traceEvents: readonly { readonly ph: string; readonly id?: number | string; readonly name: string; readonly args?: { readonly name?: string } }[]; // prettier-ignore
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
    // What happened on every layer, in its order: guest step, vIOMMU command, iommufd call, effect.
    const trace = result.story.map(({ kind, layer, text }) => `${kind === 'event' ? layer : kind}: ${text}\n`).join('');
    await expect(trace).toMatchFileSnapshot(`../goldens/demo-${name}.story.txt`);
  });
});

describe('demo vpri', () => {
  it('tells the steps of its page requests, and writes them down for Perfetto', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'iommulab-demo-'));
    const path = join(folder, 'vpri.json');
    const { code, stdout } = await iommulab(['demo', 'vpri', '--json', '--trace-perfetto', path]);
    expect(code).toBe(0);
    const { pageRequests } = JSON.parse(stdout) as Result;
    for (const { ns, instructions } of Object.values(pageRequests!))
      for (const { count, buckets, median, most } of [ns, instructions]) {
        expect(count).toBeGreaterThan(1000);
        expect(buckets.reduce((sum, n) => sum + n, 0)).toBe(count);
        expect(most).toBeGreaterThanOrEqual(median);
      }
    const { queue, guest, all } = pageRequests!;
    expect(queue!.ns.median + guest!.ns.median).toBeLessThanOrEqual(all!.ns.most);
    const { traceEvents } = JSON.parse(readFileSync(path, 'utf8')) as Perfetto;
    rmSync(folder, { recursive: true });
    const of = (phase: string): Perfetto['traceEvents'] => traceEvents.filter(({ ph }) => ph === phase);
    // A track a device and PASID; page requests as asynchronous spans that end; arrows that arrive.
    const tracks = of('M').map(({ args }) => args?.name);
    for (const track of ['exerciser0', 'vIOMMU', 'iommufd calls', 'PASID 74560', 'PASID 74561']) expect(tracks).toContain(track); // prettier-ignore
    const begun = of('b').filter(({ name }) => name === 'page request');
    expect(begun.length).toBeGreaterThan(1000);
    expect(of('e').map(({ id }) => id)).toEqual(expect.arrayContaining(begun.map(({ id }) => id)));
    expect(new Set(of('s').map(({ id }) => id))).toEqual(new Set(of('f').map(({ id }) => id)));
    expect(of('s').length).toBeGreaterThan(1000);
  });
});
