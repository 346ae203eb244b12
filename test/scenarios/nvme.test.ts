import { describe, expect, it } from 'vitest';
import { runGuest } from './machine.ts';

describe('the guest nvme', () => {
  const { outcome, lines, result, stats } = runGuest('nvme', { disks: [{ path: 'memory' }] });

  it('passes', () => {
    expect(lines.at(-1)).toBe('passed');
    expect(outcome).toBe('passed');
  });

  it('leaves nothing out', () => {
    expect(lines.filter((line) => line.includes('left out'))).toEqual([]);
    expect(Number(result('checks')['commands'])).toBeGreaterThan(100);
    expect(lines.filter((line) => line.startsWith('alive: '))).toHaveLength(3);
  });

  it('has done its DMA through the IOMMU, with one fault', () => {
    expect(result('nvme')).toMatchObject({ iommu: 'on', queues: '4' });
    expect(stats.hostFaults).toBeGreaterThan(0);
    expect(result('fault')).toMatchObject({ cause: '15' });
  });
});
