import { describe, expect, it } from 'vitest';
import { runGuest } from './machine.ts';

describe('the guest nic', () => {
  const { outcome, lines, result, stats } = runGuest('nic', { nics: [{}, {}] });

  it('passes', () => {
    expect(lines.at(-1)).toBe('passed');
    expect(outcome).toBe('passed');
  });

  it('leaves nothing out', () => {
    expect(lines.filter((line) => line.includes('left out'))).toEqual([]);
    expect(result('segments')).toMatchObject({ count: '6', bytes: '8000' });
    expect(result('hash')).toMatchObject({ tcp: '0x51ccc178' });
  });

  it('has done its DMA through the IOMMU without a fault', () => {
    expect(result('nics')).toMatchObject({ iommu: 'on' });
    expect(stats.hostFaults).toBe(0);
    expect(stats.translations).toBeGreaterThan(100);
  });
});
