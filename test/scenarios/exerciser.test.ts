import { describe, expect, it } from 'vitest';
import { runGuest } from './machine.ts';

describe('the guest exerciser', () => {
  const { outcome, lines, result, stats } = runGuest('exerciser', { exercisers: [{}] });

  it('passes', () => {
    expect(lines.at(-1)).toBe('passed');
    expect(outcome).toBe('passed');
  });

  it('keeps two processes apart in directories of all three sizes', () => {
    const modes = lines.flatMap((line) => /^processes: mode=(\S+)/.exec(line)?.[1] ?? []);
    expect(modes).toEqual(['PD8', 'PD17', 'PD20']);
    expect(stats.commands['IODIR.INVAL_PDT']).toBeGreaterThan(10);
  });

  it('has every page request answered', () => {
    expect(result('pages')).toMatchObject({ requests: '16', groups: '16', interrupts: '16' });
    expect(result('parallel')).toMatchObject({ requests: '16' });
    expect(Number(result('overflow')['overflows'])).toBeGreaterThan(0);
    expect(stats.commands['ATS.PRGR']).toBeGreaterThan(30);
    expect(stats.commands['ATS.INVAL']).toBeGreaterThan(2);
  });
});
