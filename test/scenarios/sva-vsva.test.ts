import { describe, expect, it } from 'vitest';
import { runGuest } from './machine.ts';

describe('the guest sva-vsva', () => {
  const { outcome, lines, result, stats } = runGuest('sva-vsva', {
    disks: [{ path: 'memory', 'pasid-bits': 20 }],
    nics: [{}, {}],
  });
  const all = (name: string): Record<string, string>[] =>
    lines
      .filter((line) => line.startsWith(`${name}: `))
      .map((line) => Object.fromEntries([...line.matchAll(/(\S+?)=(\S+)/g)].map(([, key, value]) => [key!, value!])));

  it('passes', () => {
    expect(lines.at(-1)).toBe('passed');
    expect(outcome).toBe('passed');
  });

  it('brings every byte of both processes from the disk to the far end', () => {
    expect(all('process')).toMatchObject([
      { name: 'first', code: '0', frames: '256', received: '256' },
      { name: 'second', code: '0', frames: '256', received: '256' },
    ]);
    expect(all('way')).toHaveLength(1);
  });

  it('stops the third', () => {
    expect(all('fault').map(({ iova }) => iova)).toEqual(['0x1020800000', '0x80200000', '0x10000000000000']);
    expect(new Set(all('fault').map(({ pasid }) => pasid)).size).toBe(1);
    expect(result('theft')).toMatchObject({ own: '0x0', secret: '0x4', kernel: '0x4', nonsense: '0x4', code: '139' });
    expect(stats.devices[0]!.faults).toBe(3);
  });

  it('leaks nothing', () => {
    expect(result('leaks')).toEqual({ pages: '0', strays: '0' });
  });
});
