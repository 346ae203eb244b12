/** What the function is on the bus (§9): identity, BARs, MSI-X. */
import type { BarSpec, MmioDevice } from '#vmm/base/ports';
import { field, parts, type Saved } from '#vmm/base/saved';
import { vectorCount } from './interrupts.ts';
import { registerBytes } from './registers.ts';

export const identity = {
  vendorId: 0x8086,
  deviceId: 0x10d3,
  classCode: 0x02_0000,
  revision: 0,
  subsystemVendorId: 0x8086,
  subsystemId: 0,
} as const;

const flashBytes = 0x20000;
const ioBytes = 32;
const msixBytes = 0x4000;
const msixBar = 3;

export const msix = { vectors: vectorCount, tableBar: msixBar, tableOffset: 0, pbaBar: msixBar, pbaOffset: 0x2000 };

/** §9.1.1: registers, flash (empty), the I/O window onto the registers, the MSI-X table (which the bus answers). */
export const bars = (registers: MmioDevice, window: MmioDevice): readonly BarSpec[] => [
  { index: 0, bytes: registerBytes, kind: 'memory32', device: registers },
  { index: 1, bytes: flashBytes, kind: 'memory32' },
  { index: 2, bytes: ioBytes, kind: 'io', device: window },
  { index: msixBar, bytes: msixBytes, kind: 'memory32' },
];

const ioAddress = 0;
const ioData = 4;

/** IOADDR and IODATA (§10.1.1.2): a way to the registers for software without memory space. */
export const ioWindow = (registers: MmioDevice): MmioDevice & { readonly saved: Saved } => {
  let address = 0;
  return {
    read(offset, bytes) {
      if (bytes !== 4) return bytes === 8 ? 0n : 0;
      if (offset === ioAddress) return address;
      return offset === ioData && address < registerBytes ? registers.read(address, 4) : 0;
    },
    write(offset, bytes, value) {
      if (bytes !== 4) return;
      if (offset === ioAddress) address = Number(value) >>> 0;
      else if (offset === ioData && address < registerBytes) registers.write(address, 4, value);
    },
    reset() {
      address = 0;
    },
    saved: parts({
      address: field(
        () => address,
        (value) => (address = value),
      ),
    }),
  };
};
