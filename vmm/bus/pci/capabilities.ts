import { register } from '#vmm/base/bits';
import type { Capability } from './capability-list.ts';
import { type ConfigRow, row } from './config-space.ts';

const spec = (section: string): string => `PCI Express Base 6.0 §${section}`;

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

const msiControl = register({
  width: 16,
  spec: spec('7.7.1.2'),
  fields: {
    enable: { bits: 0 },
    multiple_message_capable: { bits: [3, 1], access: 'ro', doc: 'log2 vectors' },
    multiple_message_enable: { bits: [6, 4], doc: 'log2 vectors' },
    address_64: { bits: 7, access: 'ro' },
    per_vector_masking: { bits: 8, access: 'ro' },
  },
});
const msiAddress = register({ width: 32, spec: spec('7.7.1.3'), fields: { address: { bits: [31, 2] } } });
const msiAddressHigh = register({ width: 32, spec: spec('7.7.1.4'), fields: { address: { bits: [31, 0] } } });
const msiData = register({ width: 16, spec: spec('7.7.1.5'), fields: { data: { bits: [15, 0] } } });
const msiMask = register({ width: 32, spec: spec('7.7.1.7'), fields: { mask: { bits: [31, 0] } } });
const msiPending = register({
  width: 32,
  spec: spec('7.7.1.8'),
  fields: { pending: { bits: [31, 0], access: 'ro' } },
});

export const msiCapability: Capability = {
  name: 'MSI',
  id: 0x05,
  bytes: 0x18,
  registers: [
    row('msi_control', 0x02, msiControl),
    row('msi_address', 0x04, msiAddress),
    row('msi_address_high', 0x08, msiAddressHigh),
    row('msi_data', 0x0c, msiData),
    row('msi_mask', 0x10, msiMask),
    row('msi_pending', 0x14, msiPending),
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

/** Device/Port Type of the PCI Express capability. */
export const devicePortTypes = { endpoint: 0, rootPort: 4, rootComplexIntegratedEndpoint: 9 } as const;
export type DevicePortType = keyof typeof devicePortTypes;

const linkCapabilities = register({
  width: 32,
  spec: spec('7.5.3.6'),
  fields: {
    max_link_speed: { bits: [3, 0], access: 'ro', values: { 1: '2.5 GT/s' } },
    maximum_link_width: { bits: [9, 4], access: 'ro' },
    data_link_layer_active_reporting_capable: { bits: 20, access: 'ro' },
    port_number: { bits: [31, 24], access: 'ro' },
  },
});
const linkControl = register({
  width: 16,
  spec: spec('7.5.3.7'),
  fields: { aspm_control: { bits: [1, 0] }, rcb: { bits: 3 }, common_clock: { bits: 6 }, extended_synch: { bits: 7 } },
});
const linkStatus = register({
  width: 16,
  spec: spec('7.5.3.8'),
  fields: {
    current_link_speed: { bits: [3, 0], access: 'ro' },
    negotiated_link_width: { bits: [9, 4], access: 'ro' },
    data_link_layer_link_active: { bits: 13, access: 'ro' },
  },
});
const rootControl = register({
  width: 16,
  spec: spec('7.5.3.12'),
  fields: {
    system_error_on_correctable: { bits: 0 },
    system_error_on_non_fatal: { bits: 1 },
    system_error_on_fatal: { bits: 2 },
    pme_interrupt_enable: { bits: 3 },
  },
});
const linkCapabilities2 = register({
  width: 32,
  spec: spec('7.5.3.18'),
  fields: { supported_link_speeds: { bits: [7, 1], access: 'ro' } },
});

const expressRows: readonly ConfigRow[] = [
  row('pcie_capabilities', 0x02, expressCapabilities),
  row('device_capabilities', 0x04, deviceCapabilities),
  row('device_control', 0x08, deviceControl),
  row('device_status', 0x0a, deviceStatus),
  row('device_capabilities_2', 0x24, deviceCapabilities2),
  row('device_control_2', 0x28, deviceControl2),
];
const linkRows: readonly ConfigRow[] = [
  row('link_capabilities', 0x0c, linkCapabilities),
  row('link_control', 0x10, linkControl),
  row('link_status', 0x12, linkStatus),
  row('link_capabilities_2', 0x2c, linkCapabilities2),
];

const express = (...registers: ConfigRow[]): Capability => ({
  name: 'PCI Express',
  id: 0x10,
  bytes: 0x3c,
  registers,
});
/** Which registers exist depends on the type: integrated endpoints have no link, only root ports root control. */
export const expressCapability: Readonly<Record<DevicePortType, Capability>> = {
  endpoint: express(...expressRows, ...linkRows),
  rootPort: express(...expressRows, ...linkRows, row('root_control', 0x1c, rootControl)),
  rootComplexIntegratedEndpoint: express(...expressRows),
};
/** A link of one lane at 2.5 GT/s that is up; its speed limits nothing. */
export const linkReset = {
  link_capabilities: 1 | (1 << 4) | (1 << 20),
  link_status: 1 | (1 << 4) | (1 << 13),
  link_capabilities_2: 1 << 1,
} as const;
