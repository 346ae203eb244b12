/** The exerciser's registers (BAR 0): every layout once, and one table offset → register. README.md shows it. */
import { type FieldSpec, type Register, register } from '#vmm/base/bits';
import { completion } from './descriptors.ts';

/** Bytes of BAR 0: global registers, queues' registers, the MSI-X structures, one page of doorbells a queue. */
export const registerBytes = 0x20000;
export const queueCount = 16;
/** From one queue's registers to the next, and from one's doorbells to the next: a page, to be mapped to a process. */
const queueStride = 0x100;
const doorbellStride = 0x1000;

export const identification = 0x5245_5845;
export const version = 1;

/** In-place masks of a register's fields as unsigned numbers. */
export const masks = <F extends Record<string, FieldSpec>>(
  layout: Register<F>,
): { readonly [K in keyof F & string]: number } =>
  Object.fromEntries([...layout.fields.keys()].map((name) => [name, Number(layout.mask(name))])) as never;

const spec = 'devices/exerciser/README.md';
const ro = (bits: number | readonly [number, number], doc = ''): FieldSpec => ({ bits, access: 'ro', doc });
const plain = register({ width: 32, spec, fields: { VALUE: { bits: [31, 0] } } });
const readOnly = register({ width: 32, spec, fields: { VALUE: { bits: [31, 0], access: 'ro' } } });
const legalised = register({ width: 32, spec, fields: { VALUE: { bits: [31, 0], access: 'warl' } } });

// prettier-ignore
const control = register({ width: 32, spec, fields: {
  RESET: { bits: 0, access: 'wo', doc: 'as a function-level reset' },
  UNCHECKED: { bits: 1, doc: 'also sends what the ATS, PRI and PASID enables and the page request allocation forbid' },
  HOLD_INVALIDATIONS: { bits: 2, doc: 'does not complete invalidations until it is cleared' } } });
// prettier-ignore
const status = register({ width: 32, spec, fields: {
  BUSY: ro(0, 'a transaction or a ring access is under way'), BUS_MASTER: ro(1), ATS: ro(2, 'enabled'), PRI: ro(3, 'enabled'),
  PASID: ro(4, 'enabled'), TRANSACTIONS: ro(5, 'its way to memory takes more than plain reads and writes') } });
const shape = register({ width: 32, spec, fields: { QUEUES: ro([7, 0]), SLOTS: ro([23, 8], 'transactions under way at once') } }); // prettier-ignore
const atcControl = register({ width: 32, spec, fields: { FLUSH: { bits: 0, access: 'wo', doc: 'forgets every entry' } } }); // prettier-ignore
// prettier-ignore
const queueControl = register({ width: 32, spec, fields: {
  ENABLE: { bits: 0, doc: 'clearing it abandons what is under way' },
  RING_LOCAL: { bits: 1, doc: 'descriptors are in local memory' },
  COMPLETIONS_LOCAL: { bits: 2, doc: 'completions go to local memory' },
  ORDERED: { bits: 3, doc: 'completes in the order of the ring' },
  OWNED: { bits: 4, doc: 'descriptors may not choose: PASID and rights are the queue’s, translated addresses forbidden' },
  PARALLEL: { bits: [15, 8], doc: 'most transactions under way; 0 means 1' },
  SIZE: { bits: [19, 16], doc: 'log2 of descriptors, 1 … 12' },
  COMPLETION_SIZE: { bits: [23, 20], doc: 'log2 of completions, 1 … 12; 0: no ring, only LAST_COMPLETION' } } });
/** How the queue reaches its rings, and with OWNED all that its descriptors reach. */
// prettier-ignore
const queueAttributes = register({ width: 32, spec, fields: {
  PASID: { bits: [19, 0] }, MODE: { bits: [31, 24], doc: 'as in descriptors' } } });
const vector = register({ width: 32, spec, fields: { VECTOR: { bits: [3, 0] } } });
// prettier-ignore
const queueStatus = register({ width: 32, spec, fields: {
  RUNNING: ro(0),
  ERROR: { bits: [7, 4], access: 'ro', values: { 0: 'none', 1: 'configuration', 2: 'doorbell', 3: 'descriptor fetch', 4: 'completion write' }, doc: 'stops the queue until it is disabled' },
  IN_FLIGHT: ro([15, 8]), ACCESS_STATUS: ro([23, 16], 'status of the ring access that failed') } });
const ringLow = register({ width: 32, spec, fields: { BASE: { bits: [31, 6] } } });
const ringIndex = register({ width: 32, spec, fields: { INDEX: { bits: [15, 0] } } });
const ringIndexRo = register({ width: 32, spec, fields: { INDEX: ro([15, 0]) } });

export const CONTROL = masks(control);
export const STATUS = masks(status);
export const ATC_CONTROL = masks(atcControl);
export const QCONTROL = masks(queueControl);

export const queueError = { none: 0, configuration: 1, doorbell: 2, descriptorFetch: 3, completionWrite: 4 } as const;

export interface RegisterRow {
  /** Byte offset of the (first) register. */
  readonly offset: number;
  /** Length of an array of registers (one a queue), and the bytes from one to the next. Default 1. */
  readonly count?: number;
  readonly stride?: number;
  /** Consecutive words of one register. Default 1. */
  readonly words?: number;
  readonly layout: Register;
  /** Value after reset. Default 0. */
  readonly reset?: number;
  readonly doc: string;
}

const row = (layout: unknown, offset: number, doc: string, reset = 0): RegisterRow => ({
  offset,
  layout: layout as Register,
  doc,
  reset,
});
const perQueue = (layout: unknown, offset: number, doc: string, words = 1): RegisterRow => ({
  ...row(layout, 0x1000 + offset, doc),
  count: queueCount,
  stride: queueStride,
  words,
});
const doorbell = (layout: unknown, offset: number, doc: string): RegisterRow => ({
  ...row(layout, 0x1_0000 + offset, doc),
  count: queueCount,
  stride: doorbellStride,
});

/** THE table. */
// prettier-ignore
export const registers = {
  ID: row(readOnly, 0x000, '`EXER`', identification),
  VERSION: row(readOnly, 0x004, 'of this map', version),
  CONTROL: row(control, 0x008, 'Controls'),
  STATUS: row(status, 0x00c, 'State of the function'),
  SHAPE: row(shape, 0x010, 'How much there is of everything'),
  LOCAL_BYTES: row(readOnly, 0x014, 'Bytes of local memory (BAR 2)'),
  CHUNK_BYTES: row(legalised, 0x018, 'Largest memory request: a power of two, 64 … 4096', 4096),
  REQUEST_NS: row(legalised, 0x01c, 'From a memory request to its effect, ns of virtual time, 10 … 2^30', 200),
  TRANSLATION_NS: row(legalised, 0x020, 'From a translation request to its completion, 10 … 2^30', 300),
  ATC_ENTRIES: row(readOnly, 0x024, 'Capacity of the translation cache'),
  ATC_VALID: row(readOnly, 0x028, 'Entries in it'),
  ATC_CONTROL: row(atcControl, 0x02c, 'Controls of the translation cache'),
  PAGE_CREDITS: row(readOnly, 0x030, 'Page requests that may be sent now'),
  PAGE_OUTSTANDING: row(readOnly, 0x034, 'Page requests that are not answered'),
  TIME_LO: row(readOnly, 0x038, 'Virtual time, ns; reading it holds TIME_HI'),
  TIME_HI: row(readOnly, 0x03c, 'Upper half of the time that TIME_LO last showed'),
  COUNT_TRANSACTIONS: row(readOnly, 0x040, 'Transactions completed since reset'),
  COUNT_ERRORS: row(readOnly, 0x044, 'of them with a status that is not success'),
  COUNT_REQUESTS: row(readOnly, 0x048, 'Memory requests sent'),
  COUNT_TRANSLATIONS: row(readOnly, 0x04c, 'Translation requests sent'),
  COUNT_ATC_HITS: row(readOnly, 0x050, 'Translations found in the cache'),
  COUNT_STALE: row(readOnly, 0x054, 'Translations thrown away because an invalidation overtook them'),
  COUNT_INVALIDATIONS: row(readOnly, 0x058, 'Invalidate requests received'),
  COUNT_PAGE_REQUESTS: row(readOnly, 0x05c, 'Page requests sent, stop markers included'),
  COUNT_PAGE_RESPONSES: row(readOnly, 0x060, 'Page group responses received'),
  QCONTROL: perQueue(queueControl, 0x00, 'Controls of the queue; only ENABLE may change while it is set'),
  QATTRIBUTES: perQueue(queueAttributes, 0x04, 'How the queue reaches its rings'),
  QBASE_LO: perQueue(ringLow, 0x08, 'Descriptor ring: an address, or an offset in local memory; 64-byte aligned'),
  QBASE_HI: perQueue(plain, 0x0c, ''),
  QCOMPLETION_LO: perQueue(ringLow, 0x10, 'Completion ring, likewise'),
  QCOMPLETION_HI: perQueue(plain, 0x14, ''),
  QVECTOR: perQueue(vector, 0x18, 'MSI-X vector'),
  QSTATUS: perQueue(queueStatus, 0x1c, 'State of the queue'),
  QLAST_COMPLETION: perQueue(readOnly, 0x40, 'The latest completion, as it stands in the ring', completion.size / 4),
  TAIL: doorbell(ringIndex, 0x0, 'Index behind the last descriptor that software wrote'),
  COMPLETION_HEAD: doorbell(ringIndex, 0x4, 'Index of the first completion that software has not read'),
  HEAD: doorbell(ringIndexRo, 0x8, 'Index of the first descriptor that was not fetched'),
  COMPLETION_TAIL: doorbell(ringIndexRo, 0xc, 'Index behind the last completion written'),
} as const satisfies Record<string, RegisterRow>;
export type RegisterName = keyof typeof registers;
export const registerNames = Object.keys(registers) as RegisterName[];

/** Word index of the (first) register of a name. */
export const at = Object.fromEntries(registerNames.map((name) => [name, registers[name].offset >>> 2])) as {
  readonly [K in RegisterName]: number;
};
/** Words from one queue's register to the next. */
export const queueWords = queueStride >>> 2;
