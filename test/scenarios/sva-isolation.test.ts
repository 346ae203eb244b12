import { describe, expect, it } from 'vitest';
import { runGuest } from './machine.ts';

describe('the guest sva-isolation', () => {
  const { outcome, lines, result } = runGuest('sva-isolation', { exercisers: [{}] });
  const causes = new Map(
    lines.flatMap((line) => {
      const found = /^attempt: name="([^"]+)".* cause=(\d+)/.exec(line);
      return found ? [[found[1]!, Number(found[2])] as const] : [];
    }),
  );

  it('passes', () => {
    expect(lines.at(-1)).toBe('passed');
    expect(outcome).toBe('passed');
  });

  it.each([
    ['a page outside memory', 7],
    ['a table outside memory', 7],
    ['a page of the supervisor', 15],
    ['an instruction from a page of data', 12],
    ['a PASID without a context', 266],
    ['a process directory outside memory', 265],
    ['a privileged request where there is no supervisor', 260],
    ['a translated address without ATS', 260],
    ['a message to the interrupt file', 15],
  ])('%s ends in cause %i', (name, cause) => {
    expect(causes.get(name)).toBe(cause);
  });

  it('lets no process reach another, whatever its descriptors say', () => {
    const statuses = lines.flatMap((line) => /^owned: .* status="([^"]+)"/.exec(line)?.[1] ?? []);
    expect(statuses).toHaveLength(5);
    expect(statuses).not.toContain('success');
    expect(Number(result('isolation')['attempts'])).toBe(causes.size + 5);
  });
});
