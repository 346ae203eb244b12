import type { PciFunction } from '#vmm/base/ports';
import {
  type DevicePortType,
  devicePortTypes,
  expressCapability,
  linkReset,
  msiCapability,
  msixCapability,
  powerManagement,
} from './capabilities.ts';
import type { CapabilityUse } from './capability-list.ts';
import { slotReset, withSlot } from './hot-plug.ts';
import {
  acsCapability,
  acsReset,
  atsCapability,
  pasidCapability,
  priCapability,
  priStatusBits,
} from './extended-capabilities.ts';

/**
 * The capabilities of a function, in the order of their chains, with what their registers hold after a reset. `slot`: the
 * number of a root port's hot-plug slot.
 */
export function offeredCapabilities(fn: PciFunction, type: DevicePortType, slot?: number): CapabilityUse[] {
  return [
    // Version 3, no D1, no D2, no PME; configuration survives D3hot.
    { capability: powerManagement, reset: { pm_capabilities: 3, pm_control: 1 << 3 } },
    {
      capability: slot === undefined ? expressCapability[type] : withSlot(expressCapability[type]),
      reset: {
        // Message number 0; bit 8: a slot is there.
        pcie_capabilities: 2 | (devicePortTypes[type] << 4) | (slot === undefined ? 0 : 1 << 8),
        device_capabilities: (1 << 15) | (fn.flr ? 1 << 28 : 0),
        // Max_Read_Request_Size 512 bytes, relaxed ordering and no snoop on: the defaults of §7.5.3.4.
        device_control: (0b010 << 12) | (1 << 11) | (1 << 4),
        // A PASID travels in an end-to-end TLP prefix (§6.20), of which one suffices.
        device_capabilities_2: fn.pasid ? (1 << 21) | (1 << 22) : 0,
        ...linkReset,
        ...(slot === undefined ? {} : slotReset(slot)),
      },
    },
    ...(fn.msi ? [msi(fn.msi)] : []),
    ...(fn.msix ? [msix(fn.msix)] : []),
    ...(type === 'rootPort' ? [{ capability: acsCapability, reset: acsReset }] : []),
    ...(fn.ats ? [ats(fn.ats)] : []),
    ...(fn.pri ? [pri(fn.pri, fn.pasid !== undefined)] : []),
    ...(fn.pasid ? [pasid(fn.pasid)] : []),
  ];
}

const msi = ({ vectors }: NonNullable<PciFunction['msi']>): CapabilityUse => ({
  capability: msiCapability,
  reset: { msi_control: (Math.log2(vectors) << 1) | (1 << 7) | (1 << 8) },
});

const msix = (msix: NonNullable<PciFunction['msix']>): CapabilityUse => ({
  capability: msixCapability,
  reset: {
    msix_control: msix.vectors - 1,
    msix_table: msix.tableOffset | msix.tableBar,
    msix_pba: msix.pbaOffset | msix.pbaBar,
  },
});

/** Page Aligned Request: untranslated addresses of translation requests are always whole pages. */
const ats = ({ invalidateQueueDepth, globalInvalidate }: NonNullable<PciFunction['ats']>): CapabilityUse => ({
  capability: atsCapability,
  reset: { ats_capability: (invalidateQueueDepth & 31) | (1 << 5) | (globalInvalidate === true ? 1 << 6 : 0) },
});

const pri = ({ capacity }: NonNullable<PciFunction['pri']>, hasPasid: boolean): CapabilityUse => ({
  capability: priCapability,
  reset: {
    pri_status: priStatusBits.stopped | (hasPasid ? priStatusBits.pasidRequired : 0),
    pri_capacity: capacity,
  },
});

const pasid = ({ bits, execute, privileged }: NonNullable<PciFunction['pasid']>): CapabilityUse => ({
  capability: pasidCapability,
  reset: {
    pasid_capability: (bits << 8) | (execute === true ? 1 << 1 : 0) | (privileged === true ? 1 << 2 : 0),
  },
});
