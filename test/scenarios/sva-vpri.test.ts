import { describe, expect, it } from 'vitest';
import { runGuest } from './machine.ts';

describe('the guest sva-vpri', () => {
  const { outcome, lines, result, stats } = runGuest('sva-vpri', { disks: [{ path: 'memory' }], exercisers: [{}] });
  const processes = lines
    .filter((line) => line.startsWith('process: '))
    .map((line) => Object.fromEntries([...line.matchAll(/(\S+?)=(\S+)/g)].map(([, key, value]) => [key!, value!])));
  const named = (name: string): Record<string, string> => processes.find((one) => one['name'] === name)!;

  it('passes', () => {
    expect(lines.at(-1)).toBe('passed');
    expect(outcome).toBe('passed');
  });

  it('gives every process the pages that its device asked for', () => {
    for (const name of ['first', 'second', 'bystander'])
      expect(named(name)).toMatchObject({ code: '0', page_requests: '128', refused: '0', bytes: '786440' });
    expect(named('reader')).toMatchObject({ loaded: '32', refused: '1' });
  });

  it('reclaims and brings back', () => {
    expect(Number(result('reclaim')['pages'])).toBeGreaterThan(100);
    expect(Number(named('pressed')['swapped_in'])).toBeGreaterThan(100);
  });

  it('survives an overflow and a kill, and leaks nothing', () => {
    expect(Number(result('overflow')['times'])).toBeGreaterThan(0);
    expect(Number(result('killed')['outstanding'])).toBeGreaterThan(0);
    expect(Number(result('killed')['refused'])).toBeGreaterThan(0);
    expect(result('leaks')).toEqual({ pages: '0', outstanding: '0' });
  });

  it('takes no more than 3000 guest instructions a page request', () => {
    expect(Number(result('handler')['instructions_each'])).toBeLessThan(3000);
    expect(stats.commands['ATS.PRGR']).toBeGreaterThan(500);
    expect(stats.commands['ATS.INVAL']).toBeGreaterThan(500);
  });
});
