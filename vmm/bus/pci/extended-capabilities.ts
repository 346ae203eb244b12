import { register } from '#vmm/base/bits';
import type { Capability } from './capability-list.ts';
import { row } from './config-space.ts';

const spec = (section: string): string => `PCI Express Base 6.0 §${section}`;

const acsFields = (access: 'ro' | 'rw') =>
  ({
    source_validation: { bits: 0, access },
    translation_blocking: { bits: 1, access },
    p2p_request_redirect: { bits: 2, access },
    p2p_completion_redirect: { bits: 3, access },
    upstream_forwarding: { bits: 4, access },
  }) as const;

/**
 * What the other controls ask for holds here always: requests carry the true requester id, and every request goes up to
 * the IOMMU, there being no peer-to-peer path. Translation Blocking stops translated requests at the port.
 */
export const acsCapability: Capability = {
  name: 'Access Control Services',
  id: 0x000d,
  extended: { version: 1 },
  bytes: 8,
  registers: [
    row('acs_capability', 0x04, register({ width: 16, spec: spec('7.7.11.2'), fields: acsFields('ro') })),
    row('acs_control', 0x06, register({ width: 16, spec: spec('7.7.11.3'), fields: acsFields('rw') })),
  ],
};
/** All controls of `acsFields` are offered. */
/** ACS control: Translation Blocking (§7.7.11.3). */
export const translationBlocking = 1 << 1;
export const acsReset = { acs_capability: 0b11111 } as const;

const atsCapabilityRegister = register({
  width: 16,
  spec: spec('10.5.1.2'),
  fields: {
    invalidate_queue_depth: { bits: [4, 0], access: 'ro', doc: '0 means 32' },
    page_aligned_request: { bits: 5, access: 'ro' },
    global_invalidate_supported: { bits: 6, access: 'ro' },
  },
});
export const atsControl = register({
  width: 16,
  spec: spec('10.5.1.3'),
  fields: { smallest_translation_unit: { bits: [4, 0], doc: 'log2 of 4 KiB pages' }, enable: { bits: 15 } },
});
export const atsCapability: Capability = {
  name: 'Address Translation Services',
  id: 0x000f,
  extended: { version: 1 },
  bytes: 8,
  registers: [row('ats_capability', 0x04, atsCapabilityRegister), row('ats_control', 0x06, atsControl)],
};

export const priControl = register({
  width: 16,
  spec: spec('10.5.2.2'),
  fields: { enable: { bits: 0 }, reset: { bits: 1, access: 'wo' } },
});
const priStatus = register({
  width: 16,
  spec: spec('10.5.2.3'),
  fields: {
    response_failure: { bits: 0, access: 'w1c' },
    unexpected_page_request_group_index: { bits: 1, access: 'w1c' },
    stopped: { bits: 8, access: 'ro' },
    prg_response_pasid_required: { bits: 15, access: 'ro' },
  },
});
export const priStatusBits = {
  responseFailure: 1,
  unexpectedGroup: 2,
  stopped: 1 << 8,
  pasidRequired: 1 << 15,
} as const;
const priCapacity = register({
  width: 32,
  spec: spec('10.5.2.4'),
  fields: { capacity: { bits: [31, 0], access: 'ro' } },
});
const priAllocation = register({ width: 32, spec: spec('10.5.2.5'), fields: { allocation: { bits: [31, 0] } } });
export const priCapability: Capability = {
  name: 'Page Request Interface',
  id: 0x0013,
  extended: { version: 1 },
  bytes: 0x10,
  registers: [
    row('pri_control', 0x04, priControl),
    row('pri_status', 0x06, priStatus),
    row('pri_capacity', 0x08, priCapacity),
    row('pri_allocation', 0x0c, priAllocation),
  ],
};

const pasidCapabilityRegister = register({
  width: 16,
  spec: spec('7.8.9.2'),
  fields: {
    execute_permission_supported: { bits: 1, access: 'ro' },
    privileged_mode_supported: { bits: 2, access: 'ro' },
    max_pasid_width: { bits: [12, 8], access: 'ro' },
  },
});
/** §7.8.9.3: an enable bit of something that is not supported is reserved; the owner clears it. */
export const pasidControl = register({
  width: 16,
  spec: spec('7.8.9.3'),
  fields: {
    enable: { bits: 0 },
    execute_permission_enable: { bits: 1, access: 'warl' },
    privileged_mode_enable: { bits: 2, access: 'warl' },
  },
});
export const pasidCapability: Capability = {
  name: 'Process Address Space ID',
  id: 0x001b,
  extended: { version: 1 },
  bytes: 8,
  registers: [row('pasid_capability', 0x04, pasidCapabilityRegister), row('pasid_control', 0x06, pasidControl)],
};
