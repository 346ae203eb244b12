/** What the function is on the bus: identity, BARs, MSI-X, and the capabilities it wants. */
import type { BarSpec, MmioDevice, PciFunction } from '#vmm/base/ports';
import { localBytes } from './local-memory.ts';
import { queueCount, registerBytes } from './registers.ts';

/** Deviation: the vendor id is not one that PCI-SIG gave out for this; the device exists in simulation only. */
export const identity = {
  vendorId: 0x1efd,
  deviceId: 0xe001,
  // Unassigned class: no driver of an operating system claims it.
  classCode: 0xff_0000,
  revision: 1,
  subsystemVendorId: 0x1efd,
  subsystemId: 0xe001,
} as const;

const msixTable = 0x4000;
const msixPending = 0x4800;

/** One vector a queue. */
export const msix = {
  vectors: queueCount,
  tableBar: 0,
  tableOffset: msixTable,
  pbaBar: 0,
  pbaOffset: msixPending,
} as const satisfies PciFunction['msix'];

export const bars = (registers: MmioDevice, local: MmioDevice): readonly BarSpec[] => [
  { index: 0, bytes: registerBytes, kind: 'memory64', device: registers },
  { index: 2, bytes: localBytes, kind: 'memory64', device: local },
];
