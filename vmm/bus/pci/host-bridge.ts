import type { PciFunction } from '#vmm/base/ports';

/** The generic PCIe host bridge that guests of QEMU's `virt` find at 00:00.0. It has no registers of its own. */
export const hostBridge = (): PciFunction => ({
  name: 'host-bridge',
  vendorId: 0x1b36,
  deviceId: 0x0008,
  classCode: 0x060000,
  revision: 0,
  subsystemVendorId: 0x1af4,
  subsystemId: 0x1100,
  bars: [],
  flr: false,
  connect() {},
  reset() {},
  busMaster() {},
});
