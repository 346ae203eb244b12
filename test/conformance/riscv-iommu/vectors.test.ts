import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { replayScenario, type Scenario } from '#iommufd/conformance/riscv-iommu';

interface Index {
  readonly themes: readonly { readonly theme: string; readonly file: string; readonly scenarios: number }[];
  readonly steps: number;
}
const read = (name: string): Buffer => readFileSync(new URL(name, import.meta.url));
const index = JSON.parse(read('index.json').toString()) as Index;
const scenariosOf = (file: string): Scenario[] =>
  gunzipSync(read(file))
    .toString()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Scenario);

describe('scenarios recorded from the reference model', () => {
  let steps = 0;
  it.each(index.themes)('$theme: every binding step of $scenarios scenarios', ({ file, scenarios }) => {
    const failures: string[] = [];
    let count = 0;
    for (const scenario of scenariosOf(file)) {
      const result = replayScenario(scenario);
      steps += result.steps;
      count++;
      for (const failure of result.failures)
        if (failure.binding)
          failures.push(`${result.id} step ${failure.step} (${failure.op}): ${failure.differences.join('; ')}`);
    }
    expect(failures.slice(0, 5)).toEqual([]);
    expect(count).toBe(scenarios);
  });

  it('replayed every step there is', () => {
    expect(steps).toBe(index.steps);
  });
});

describe('the comparison itself', () => {
  const [first] = scenariosOf('vectors/faults.jsonl.gz') as [Scenario];
  const spoil = (change: (out: Record<string, unknown>) => void): Scenario => {
    const copy = structuredClone(first) as unknown as { steps: { out: Record<string, unknown>; tags?: string[] }[] };
    for (const step of copy.steps) if (step.out['mem'] || step.out['regs']) change(step.out);
    return copy as unknown as Scenario;
  };

  it('notices a missing store', () => {
    expect(replayScenario(spoil((out) => delete out['mem'])).failures).not.toEqual([]);
  });
  it('notices a register that should not have changed', () => {
    expect(replayScenario(spoil((out) => delete out['regs'])).failures).not.toEqual([]);
  });
  it('notices another answer', () => {
    expect(replayScenario(spoil((out) => (out['status'] = 'elsewhere'))).failures).not.toEqual([]);
  });
});
