import type { BarSpec, MmioDevice } from '#vmm/base/ports';
import { vendorId } from './identify.ts';

/** BAR 0: registers, doorbells from 0x1000, MSI-X table and pending bits in pages of their own. */
const barBytes = 0x4000;
const msixTable = 0x2000;
const msixPending = 0x3000;

/** What the bus shows of the function: the numbers of QEMU's controller, so that the same guests run on both. */
export const pciIdentity = {
  vendorId,
  deviceId: 0x0010,
  // Mass storage, non-volatile memory, NVM Express (NVMe 1.4 §2.1.5).
  classCode: 0x01_08_02,
  revision: 2,
  subsystemVendorId: 0x1af4,
  subsystemId: 0x1100,
  flr: true,
} as const;

export const bars = (device: MmioDevice): readonly BarSpec[] => [
  { index: 0, bytes: barBytes, kind: 'memory64', device },
];

/** One vector for the admin queue and one for each I/O queue pair. */
export const msix = (ioQueues: number) =>
  ({ vectors: ioQueues + 1, tableBar: 0, tableOffset: msixTable, pbaBar: 0, pbaOffset: msixPending }) as const;
