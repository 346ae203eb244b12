import { register } from '#vmm/base/bits';
import { invariant } from '#vmm/base/invariant';
import { type ConfigRow, type ConfigSpace, row } from './config-space.ts';

/** One capability structure: where its registers lie, and what they hold after a reset. */
export interface Capability {
  readonly name: string;
  readonly id: number;
  /** Extended capabilities live from 0x100 on, with a version. */
  readonly extended?: { readonly version: number };
  readonly bytes: number;
  /** Offsets from the start of the capability, without its header. */
  readonly registers: readonly ConfigRow[];
}

/** A capability as one function has it. */
export interface CapabilityUse {
  readonly capability: Capability;
  /** Reset values by register name; absent = 0. */
  readonly reset?: Readonly<Record<string, number>>;
}

const spec = (section: string): string => `PCI Express Base 6.0 §${section}`;

const capabilityHeader = register({
  width: 16,
  spec: spec('7.5.3.1'),
  fields: { capability_id: { bits: [7, 0], access: 'ro' }, next: { bits: [15, 8], access: 'ro' } },
});
const extendedHeader = register({
  width: 32,
  spec: spec('7.6.3'),
  fields: {
    capability_id: { bits: [15, 0], access: 'ro' },
    version: { bits: [19, 16], access: 'ro' },
    next: { bits: [31, 20], access: 'ro' },
  },
});

const powerManagementCapabilities = register({
  width: 16,
  spec: spec('7.5.2.1'),
  fields: {
    version: { bits: [2, 0], access: 'ro' },
    d1_support: { bits: 9, access: 'ro' },
    d2_support: { bits: 10, access: 'ro' },
    pme_support: { bits: [15, 11], access: 'ro' },
  },
});
const powerManagementControl = register({
  width: 16,
  spec: spec('7.5.2.2'),
  fields: {
    power_state: { bits: [1, 0], access: 'warl', values: { 0: 'D0', 3: 'D3hot' } },
    no_soft_reset: { bits: 3, access: 'ro' },
    pme_enable: { bits: 8 },
    pme_status: { bits: 15, access: 'w1c' },
  },
});

export const powerManagement: Capability = {
  name: 'Power Management',
  id: 0x01,
  bytes: 8,
  registers: [
    row('pm_capabilities', 0x02, powerManagementCapabilities),
    row('pm_control', 0x04, powerManagementControl),
  ],
};

const msixControl = register({
  width: 16,
  spec: spec('7.7.2.2'),
  fields: {
    table_size: { bits: [10, 0], access: 'ro', doc: 'vectors - 1' },
    function_mask: { bits: 14 },
    enable: { bits: 15 },
  },
});
export const msixControlBits = { functionMask: 1 << 14, enable: 1 << 15 } as const;
const msixPlace = register({
  width: 32,
  spec: spec('7.7.2.3'),
  fields: { bir: { bits: [2, 0], access: 'ro' }, offset: { bits: [31, 3], access: 'ro' } },
});

export const msixCapability: Capability = {
  name: 'MSI-X',
  id: 0x11,
  bytes: 12,
  registers: [
    row('msix_control', 0x02, msixControl),
    row('msix_table', 0x04, msixPlace),
    row('msix_pba', 0x08, msixPlace),
  ],
};

const expressCapabilities = register({
  width: 16,
  spec: spec('7.5.3.2'),
  fields: {
    version: { bits: [3, 0], access: 'ro' },
    device_port_type: {
      bits: [7, 4],
      access: 'ro',
      values: { 0: 'endpoint', 4: 'root port', 9: 'root complex integrated endpoint' },
    },
    slot_implemented: { bits: 8, access: 'ro' },
    interrupt_message_number: { bits: [13, 9], access: 'ro' },
  },
});
const deviceCapabilities = register({
  width: 32,
  spec: spec('7.5.3.3'),
  fields: {
    max_payload_size_supported: { bits: [2, 0], access: 'ro', values: { 0: '128', 1: '256', 2: '512' } },
    extended_tag_supported: { bits: 5, access: 'ro' },
    role_based_error_reporting: { bits: 15, access: 'ro' },
    flr: { bits: 28, access: 'ro' },
  },
});
const deviceControl = register({
  width: 16,
  spec: spec('7.5.3.4'),
  fields: {
    correctable_error_reporting: { bits: 0 },
    non_fatal_error_reporting: { bits: 1 },
    fatal_error_reporting: { bits: 2 },
    unsupported_request_reporting: { bits: 3 },
    relaxed_ordering: { bits: 4 },
    max_payload_size: { bits: [7, 5] },
    extended_tag: { bits: 8 },
    no_snoop: { bits: 11 },
    max_read_request_size: { bits: [14, 12] },
    initiate_flr: { bits: 15, access: 'wo' },
  },
});
export const initiateFlr = 1 << 15;
export const maxPayloadField = 0b111 << 5;
const deviceStatus = register({
  width: 16,
  spec: spec('7.5.3.5'),
  fields: {
    correctable_error: { bits: 0, access: 'w1c' },
    non_fatal_error: { bits: 1, access: 'w1c' },
    fatal_error: { bits: 2, access: 'w1c' },
    unsupported_request: { bits: 3, access: 'w1c' },
    transactions_pending: { bits: 5, access: 'ro' },
  },
});
const deviceCapabilities2 = register({
  width: 32,
  spec: spec('7.5.3.15'),
  fields: {
    completion_timeout_ranges: { bits: [3, 0], access: 'ro' },
    completion_timeout_disable_supported: { bits: 4, access: 'ro' },
    end_end_tlp_prefix_supported: { bits: 21, access: 'ro' },
    max_end_end_tlp_prefixes: { bits: [23, 22], access: 'ro' },
  },
});
const deviceControl2 = register({
  width: 16,
  spec: spec('7.5.3.16'),
  fields: { completion_timeout_value: { bits: [3, 0] }, completion_timeout_disable: { bits: 4 } },
});

export const devicePortTypes = { endpoint: 0, rootPort: 4, rootComplexIntegratedEndpoint: 9 } as const;

export const expressCapability: Capability = {
  name: 'PCI Express',
  id: 0x10,
  bytes: 0x3c,
  registers: [
    row('pcie_capabilities', 0x02, expressCapabilities),
    row('device_capabilities', 0x04, deviceCapabilities),
    row('device_control', 0x08, deviceControl),
    row('device_status', 0x0a, deviceStatus),
    row('device_capabilities_2', 0x24, deviceCapabilities2),
    row('device_control_2', 0x28, deviceControl2),
  ],
};

const firstCapability = 0x40;
const firstExtended = 0x100;

/**
 * Lays the capabilities out in the order given, chained by their headers; the rows of the common header must be
 * placed already.
 */
export function placeCapabilities(space: ConfigSpace, uses: readonly CapabilityUse[]): void {
  const plain = uses.filter(({ capability }) => !capability.extended);
  const extended = uses.filter(({ capability }) => capability.extended);
  let at = firstCapability;
  plain.forEach(({ capability, reset }, index) => {
    const end = at + Math.ceil(capability.bytes / 4) * 4;
    invariant(end <= firstExtended, `no room for the ${capability.name} capability`);
    if (index === 0) {
      space.setReset('cap_pointer', at);
      space.setReset('status', space.get('status') | (1 << 4));
    }
    const next = index + 1 < plain.length ? end : 0;
    space.place(row(`${capability.name} header`, 0, capabilityHeader), at, capability.id | (next << 8));
    for (const entry of capability.registers) space.place(entry, at, reset?.[entry.name] ?? 0);
    at = end;
  });
  at = firstExtended;
  extended.forEach(({ capability, reset }, index) => {
    const end = at + Math.ceil(capability.bytes / 4) * 4;
    const next = index + 1 < extended.length ? end : 0;
    const header = (capability.id | (capability.extended!.version << 16) | (next << 20)) >>> 0;
    space.place(row(`${capability.name} header`, 0, extendedHeader), at, header);
    for (const entry of capability.registers) space.place(entry, at, reset?.[entry.name] ?? 0);
    at = end;
  });
}
