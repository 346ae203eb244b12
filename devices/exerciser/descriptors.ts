/** What stands in the rings, 64 bytes each, little-endian, and the names of the values in it. README.md shows it. */
import { bytes, struct, u16, u32, u64, u8 } from '#vmm/base/wire';

// prettier-ignore
export const descriptor = struct('exerciser_descriptor', {
  opcode: u8, source_mode: u8, destination_mode: u8, flags: u8,
  tag: u32,
  source: u64, destination: u64,
  length: u32,
  source_pasid: u32, destination_pasid: u32,
  group: u16, page_flags: u8, operand_bytes: u8,
  operand: u64, compare: u64,
  pages: u32, delay_ns: u32,
});
// prettier-ignore
export const completion = struct('exerciser_completion', {
  tag: u32, status: u8, phase: u8, rights: u8, opcode: u8,
  value: u64, translated: u64,
  fault_offset: u32, bytes_done: u32,
  latency_ns: u64, started_ns: u64,
  translations: u16, page_requests: u16, stale: u16, group: u16,
  index: u16, range_shift: u8, reserved: bytes(5),
});
export const descriptorBytes = descriptor.size;
export const completionBytes = completion.size;

export interface NamedValue {
  readonly value: number;
  readonly doc: string;
}

/** Bits of `source_mode`, `destination_mode` and QATTRIBUTES.MODE; bits 1:0 are the address type. */
// prettier-ignore
export const mode = {
  UNTRANSLATED: { value: 0, doc: 'address type 0: untranslated' },
  ATS: { value: 1, doc: 'address type 1: translated through the translation cache, asking the IOMMU on a miss' },
  TRANSLATED: { value: 2, doc: 'address type 2: sent as translated as it stands, true or forged' },
  PASID: { value: 4, doc: 'with the PASID beside it' },
  PRIVILEGED: { value: 8, doc: 'Privileged Mode Requested; needs PASID' },
  EXECUTE: { value: 16, doc: 'Execute Requested; needs PASID' },
  PAGE_REQUEST: { value: 32, doc: 'where ATS finds no permission, asks for the page and tries again' },
} as const satisfies Record<string, NamedValue>;
export const addressTypeMask = 3;
export const modeBits = 0x3f;

/** Bits of `flags`. */
// prettier-ignore
export const flag = {
  FENCE: { value: 1, doc: 'starts when everything before it in the ring is complete' },
  INTERRUPT: { value: 2, doc: 'raises the queue’s vector when it is complete' },
  NO_WAIT: { value: 4, doc: 'PAGE_REQUEST: without credits fails instead of waiting; with LAST does not wait for the response' },
  NO_WRITE: { value: 8, doc: 'TRANSLATE: with No Write' },
} as const satisfies Record<string, NamedValue>;
export const flagBits = 0x0f;

/** Bits of `page_flags`. */
// prettier-ignore
export const pageFlag = {
  READ: { value: 1, doc: 'asks for read permission' },
  WRITE: { value: 2, doc: 'asks for write permission' },
  LAST: { value: 4, doc: 'the last message has Last set' },
} as const satisfies Record<string, NamedValue>;
export const pageFlagBits = 0x07;

/** `status` of a completion. */
// prettier-ignore
export const statuses = {
  SUCCESS: { value: 0, doc: 'done' },
  UNSUPPORTED_REQUEST: { value: 1, doc: 'answered with Unsupported Request' },
  COMPLETER_ABORT: { value: 2, doc: 'answered with Completer Abort' },
  MISMATCH: { value: 3, doc: 'COMPARE: differs at `fault_offset`; COMPARE_SWAP: not swapped' },
  INVALID_DESCRIPTOR: { value: 4, doc: 'unknown opcode, a bit that has no meaning, a length or alignment that cannot be' },
  NOT_ENABLED: { value: 5, doc: 'ATS, PRI, PASID, or a right that comes with it, is not enabled' },
  NO_PERMISSION: { value: 6, doc: 'the translation completed without the permission' },
  PAGE_INVALID: { value: 7, doc: 'page response: Invalid Request' },
  PAGE_FAILURE: { value: 8, doc: 'page response: Response Failure; the interface is off until it is enabled again' },
  NO_CREDITS: { value: 9, doc: 'no page request may be sent, or no group index is free' },
  NOT_SUPPORTED: { value: 10, doc: 'the function’s way to memory has only plain reads and writes' },
  FORBIDDEN: { value: 11, doc: 'the queue is OWNED' },
  RETRIES: { value: 12, doc: 'gave up after 16 page responses, or 64 stale translations, for one page' },
} as const satisfies Record<string, NamedValue>;

export const statusName = (value: number): string =>
  Object.entries(statuses).find(([, row]) => row.value === value)?.[0] ?? String(value);
