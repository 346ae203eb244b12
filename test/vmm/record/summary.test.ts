import { expect, it } from 'vitest';
import { formatBytes, formatCount, formatTime } from '#vmm/record/bytes';
import { summaryLines } from '#vmm/record/summary';

it('sums up a run as a table', () => {
  const lines = summaryLines(
    {
      instructions: 130_000_000,
      virtualNs: 134_110_000,
      devices: [
        { id: 'nvme0', address: '00:01.0', readBytes: 1 << 20, reads: 180, writtenBytes: 9 << 20, writes: 1700, messages: 92, faults: 1 },
        { id: 'net0', address: '00:02.0', readBytes: 512, reads: 2, writtenBytes: 0, writes: 0, messages: 0, faults: 0 },
      ],
      translations: 6000,
      iotlbHits: 4500,
      iotlbMisses: 1500,
      walks: 1500,
      walkLoads: 16_500,
      hostFaults: 1,
      commands: { 'IOFENCE.C': 36 },
      ioctls: { IOMMU_IOAS_ALLOC: 1, IOMMU_HWPT_INVALIDATE: 33 },
    },
    1.3e9,
  );
  expect(lines.join('\n')).toBe(
    `
DMA
  device            read  reads  written  writes  MSI  faults
  nvme0 00:01.0  1.0 MiB    180  9.0 MiB   1 700   92       1
  net0 00:02.0     512 B      2      0 B       0    0       0

Host IOMMU
  translations  6 000
  IOTLB hits    4 500                 75.0 %
  walks         1 500  16 500 entries loaded
  faults            1

vIOMMU
  command    count
  IOFENCE.C     36

iommufd
  call                   calls
  IOMMU_HWPT_INVALIDATE     33
  IOMMU_IOAS_ALLOC           1

Guest
  instructions  130 000 000 (100 MIPS)
  virtual time               134.11 ms
  wall time                     1.30 s`.slice(1),
  );
}); // prettier-ignore

it('leaves out what a machine does not have', () => {
  const none = { instructions: 0, virtualNs: 0, devices: [], translations: 0, iotlbHits: 0, iotlbMisses: 0, walks: 0, walkLoads: 0, hostFaults: 0, commands: {}, ioctls: {} }; // prettier-ignore
  expect(summaryLines(none, 0)).toEqual([
    'Guest',
    '  instructions     0',
    '  virtual time  0 ns',
    '  wall time     0 ns',
  ]);
});

it.each([
  [formatBytes(1023), '1023 B'],
  [formatBytes(1536), '1.5 KiB'],
  [formatBytes(2 ** 43), '8.0 TiB'],
  [formatCount(1_234_567), '1 234 567'],
  [formatCount(999), '999'],
  [formatTime(999), '999 ns'],
  [formatTime(1500), '1.5 µs'],
  [formatTime(2_500_000), '2.50 ms'],
  [formatTime(61e9), '61.00 s'],
])('%s', (text, expected) => {
  expect(text).toBe(expected);
});
