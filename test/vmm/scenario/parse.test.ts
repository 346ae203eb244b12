import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { keysOfSchema } from '#vmm/config/keys';
import { injections } from '#vmm/machine/inject';
import { parseScenario, parseScenarioYaml } from '#vmm/scenario/parse';
import { stepSchemas } from '#vmm/scenario/schema';

const issues = (text: string) => {
  const parsed = parseScenarioYaml(text);
  return parsed.ok ? [] : parsed.issues;
};

describe('what is wrong with a scenario', () => {
  it.each([
    ['  - expect-consol: x', 'steps[0].expect-consol', 'expect-console'],
    ['  - expect-event: iommufd.ioctll', 'steps[0].expect-event.event', 'iommufd.ioctl'],
    ['  - expect-event: { event: iommufd.ioctl, where: { nam: x } }', 'steps[0].expect-event.where.nam', 'name'],
    ['  - inject: { ioctl: { name: IOMMU_HWPT_ALOC, errno: EIO } }', 'steps[0].inject.ioctl.name', 'IOMMU_HWPT_ALLOC'],
    ['  - inject: { ioctl: { name: IOMMU_HWPT_ALLOC, errno: EIOO } }', 'steps[0].inject.ioctl.errno', 'EIO'],
    ['  - inject: { iotcl: {} }', 'steps[0].inject.iotcl', 'ioctl'],
    ['  - check: { outcome: pased }', 'steps[0].check.outcome', 'passed'],
  ])('%s', (step, path, suggestion) => {
    const found = issues(`image: hello\nsteps:\n${step}\n`);
    expect(found).toContainEqual(expect.objectContaining({ path, suggestion, line: 3 }));
  });

  it.each([
    ['  - {}', 'steps[0]'],
    ['  - { expect-console: x, type: y }', 'steps[0]'],
    ['  - inject: {}', 'steps[0].inject'],
    ['  - expect-console: {}', 'steps[0].expect-console'],
    ['  - expect-console: { pattern: "(" }', 'steps[0].expect-console.pattern'],
    ['  - advance: {}', 'steps[0].advance'],
    ['  - snapshot: ../here', 'steps[0].snapshot.name'],
    ['  - resume: here\n  - snapshot: here', 'steps[0].resume.name'],
    ['  - dma: { device: x }', 'steps[0].dma.address'],
    ['  - dma: { device: x, address: -1 }', 'steps[0].dma.address'],
    ['  - dma: { device: x, address: 0, write: "f" }', 'steps[0].dma.write'],
    ['  - just text', 'steps[0]'],
  ])('%s', (step, path) => {
    const found = issues(`image: hello\nsteps:\n${step}\n`);
    expect(found.map((issue) => issue.path)).toContain(path);
    expect(found.every((issue) => issue.line !== undefined && issue.column !== undefined)).toBe(true);
  });

  it('is told all at once, in the order of the file', () => {
    const lines = issues('imag: x\nsmp: 99\nsteps:\n  - advanc: 1\n  - check: { cod: 1 }\n').map(({ line }) => line);
    expect(lines).toEqual([1, 2, 4, 5]);
  });

  it('never throws, whatever the file holds', () => {
    const kind = fc.constantFrom(...Object.keys(stepSchemas), ...Object.keys(injections), 'steps', 'where');
    const { value } = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 4 },
        fc.jsonValue(),
        fc.array(tie('value'), { maxLength: 3 }),
        fc.dictionary(kind, tie('value'), { maxKeys: 3 }),
      ),
    }));
    fc.assert(
      fc.property(value, fc.array(value, { maxLength: 3 }), (any, steps) => {
        expect(typeof parseScenario(any).ok).toBe('boolean');
        expect(typeof parseScenario({ image: 'hello', steps }).ok).toBe('boolean');
      }),
    );
  });
});

it('lets a plain value stand for the first key of a step', () => {
  const parsed = parseScenario({
    steps: [{ 'expect-console': 'x' }, { advance: '10us' }, { 'expect-event': 'nic.link' }],
  });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.issues));
  expect(parsed.scenario.steps.map(({ step }) => step)).toEqual([
    { 'expect-console': { text: 'x' } },
    { advance: { time: 10_000 } },
    { 'expect-event': { event: 'nic.link', where: {}, times: 1, since: 'last' } },
  ]);
});

it('has every step, and every key of each, in the documents', () => {
  const rows = readFileSync('test/scenarios/README.md', 'utf8').split('\n');
  for (const { name, doc, shape } of keysOfSchema({ entries: stepSchemas })) {
    const row = rows.find((line) => line.startsWith(`| \`${name}\` `));
    expect(row, name).toContain(doc);
    for (const key of shape.kind === 'group' ? shape.keys : []) expect(row, name).toContain(`\`${key.name}\``);
  }
});
