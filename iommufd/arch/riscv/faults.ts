/**
 * Fault records (RISC-V IOMMU v1.0.1 §3.2) and THE cause table: what is reported when DTF is 1, and how a PCIe ATS
 * translation request that meets the cause is answered (§2.6).
 */
import { register } from '#vmm/base/bits';

/**
 * How a translation request is answered: none = Success with R=W=0 and no record; abort = Completer Abort and
 * unsupported = Unsupported Request, both with a record.
 */
export type AtsAnswer = 'none' | 'abort' | 'unsupported';
export interface Cause {
  readonly cause: number;
  readonly name: string;
  readonly spec: string;
  /** Reported even when DC.tc.DTF is 1 (§3.2). */
  readonly despiteDtf: boolean;
  readonly ats: AtsAnswer;
}

const row = (cause: number, name: string, spec: string, ats: AtsAnswer, despiteDtf = false): Cause => ({
  cause,
  name,
  spec,
  despiteDtf,
  ats,
});

// The four data-corruption causes of page and directory tables are in no list of §2.6: Completer Abort is our choice.
// prettier-ignore
export const causes = {
  instructionAccessFault:   row(1,   'Instruction access fault',              '§2.3', 'abort'),
  readMisaligned:           row(4,   'Read address misaligned',               '§2.3', 'abort'),
  readAccessFault:          row(5,   'Read access fault',                     '§2.3', 'abort'),
  writeMisaligned:          row(6,   'Write/AMO address misaligned',          '§2.3', 'abort'),
  writeAccessFault:         row(7,   'Write/AMO access fault',                '§2.3', 'abort'),
  instructionPageFault:     row(12,  'Instruction page fault',                '§2.3', 'none'),
  readPageFault:            row(13,  'Read page fault',                       '§2.3', 'none'),
  writePageFault:           row(15,  'Write/AMO page fault',                  '§2.3', 'none'),
  instructionGuestPageFault: row(20, 'Instruction guest page fault',          '§2.3', 'none'),
  readGuestPageFault:       row(21,  'Read guest-page fault',                 '§2.3', 'none'),
  writeGuestPageFault:      row(23,  'Write/AMO guest-page fault',            '§2.3', 'none'),
  allInboundDisallowed:     row(256, 'All inbound transactions disallowed',   '§2.3 step 1', 'unsupported', true),
  ddtAccessFault:           row(257, 'DDT entry load access fault',           '§2.3.1', 'unsupported', true),
  ddtInvalid:               row(258, 'DDT entry not valid',                   '§2.3.1', 'unsupported', true),
  ddtMisconfigured:         row(259, 'DDT entry misconfigured',               '§2.1.4', 'unsupported', true),
  transactionDisallowed:    row(260, 'Transaction type disallowed',           '§2.3 steps 2, 5, 7, 15', 'unsupported'),
  msiPteAccessFault:        row(261, 'MSI PTE load access fault',             '§2.3.3', 'abort'),
  msiPteInvalid:            row(262, 'MSI PTE not valid',                     '§2.3.3', 'none'),
  msiPteMisconfigured:      row(263, 'MSI PTE misconfigured',                 '§2.3.3', 'abort'),
  mrifAccessFault:          row(264, 'MRIF access fault',                     '§2.3.3', 'abort'),
  pdtAccessFault:           row(265, 'PDT entry load access fault',           '§2.3.2', 'abort'),
  pdtInvalid:               row(266, 'PDT entry not valid',                   '§2.3.2', 'none'),
  pdtMisconfigured:         row(267, 'PDT entry misconfigured',               '§2.2.4', 'abort'),
  ddtCorruption:            row(268, 'DDT data corruption',                   '§2.3.1', 'abort', true),
  pdtCorruption:            row(269, 'PDT data corruption',                   '§2.3.2', 'abort'),
  msiPtCorruption:          row(270, 'MSI PT data corruption',                '§2.3.3', 'abort'),
  mrifCorruption:           row(271, 'MSI MRIF data corruption',              '§2.3.3', 'abort'),
  internalDataPathError:    row(272, 'Internal data path error',              '§3.2', 'abort', true),
  msiWriteAccessFault:      row(273, 'IOMMU MSI write access fault',          '§5.29', 'abort', true),
  ptCorruption:             row(274, 'First/second-stage PT data corruption', '§2.3', 'abort'),
} as const satisfies Record<string, Cause>;

/** TTYP: what kind of transaction met the fault (§3.2). */
export const ttyp = {
  none: 0,
  untranslatedExecute: 1,
  untranslatedRead: 2,
  untranslatedWrite: 3,
  translatedExecute: 5,
  translatedRead: 6,
  translatedWrite: 7,
  atsTranslation: 8,
  message: 9,
} as const;

/** First doubleword of a fault record; iotval and iotval2 are the third and fourth. */
export const faultRecord = register({
  width: 64,
  spec: 'RISC-V IOMMU §3.2',
  // prettier-ignore
  fields: {
    CAUSE: { bits: [11, 0] }, PID: { bits: [31, 12] }, PV: { bits: 32 }, PRIV: { bits: 33 }, TTYP: { bits: [39, 34] },
    DID: { bits: [63, 40] },
  },
});
export const faultRecordBytes = 32;

/** First doubleword of a page-request record (§3.3); the message's payload is the second. */
export const pageRequestRecord = register({
  width: 64,
  spec: 'RISC-V IOMMU §3.3',
  // prettier-ignore
  fields: {
    PID: { bits: [31, 12] }, PV: { bits: 32 }, PRIV: { bits: 33 }, EXEC: { bits: 34 }, DID: { bits: [63, 40] },
  },
});
export const pageRequestRecordBytes = 16;

/** PAYLOAD of a Page Request message (§3.3). */
export const pageRequestPayload = register({
  width: 64,
  spec: 'RISC-V IOMMU §3.3',
  fields: {
    R: { bits: 0 },
    W: { bits: 1 },
    L: { bits: 2 },
    PRGI: { bits: [11, 3] },
    address: { bits: [63, 12] },
  },
});
/** PAYLOAD of a Page Request Group Response (§3.1.4). */
export const pageResponsePayload = register({
  width: 64,
  spec: 'RISC-V IOMMU §3.1.4',
  fields: { PRGI: { bits: [40, 32] }, code: { bits: [47, 44] }, destination: { bits: [63, 48] } },
});
const halves = (hi: number, lo: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
const shiftOf = (field: { readonly shift: bigint } | undefined): number => Number(field!.shift);
const recordAt = {
  PID: shiftOf(pageRequestRecord.fields.get('PID')),
  PV: shiftOf(pageRequestRecord.fields.get('PV')) - 32,
  PRIV: shiftOf(pageRequestRecord.fields.get('PRIV')) - 32,
  EXEC: shiftOf(pageRequestRecord.fields.get('EXEC')) - 32,
  DID: shiftOf(pageRequestRecord.fields.get('DID')) - 32,
};
/** `pageRequestRecord` of a request, in numbers; what a request without PASID has no place for is left out. */
export const pageRequestHead = (deviceId: number, processId: number, supervisor: boolean, execute: boolean): bigint => {
  const withProcess = (1 << recordAt.PV) | (supervisor ? 1 << recordAt.PRIV : 0) | (execute ? 1 << recordAt.EXEC : 0);
  const has = processId >= 0;
  return halves((deviceId << recordAt.DID) | (has ? withProcess : 0), has ? processId << recordAt.PID : 0);
};
const payloadAt = {
  W: shiftOf(pageRequestPayload.fields.get('W')),
  L: shiftOf(pageRequestPayload.fields.get('L')),
  PRGI: shiftOf(pageRequestPayload.fields.get('PRGI')),
};
/** `pageRequestPayload` of a request for the page around (hi, lo), in numbers. */
export const pageRequestMessage = (
  hi: number,
  lo: number,
  read: boolean,
  write: boolean,
  last: boolean,
  group: number,
): bigint =>
  halves(
    hi,
    (lo & ~0xfff) |
      (read ? 1 : 0) |
      (write ? 1 << payloadAt.W : 0) |
      (last ? 1 << payloadAt.L : 0) |
      ((group & 511) << payloadAt.PRGI),
  );
const responseAt = {
  code: shiftOf(pageResponsePayload.fields.get('code')) - 32,
  destination: shiftOf(pageResponsePayload.fields.get('destination')) - 32,
};
/** `pageResponsePayload` in numbers. */
export const pageResponseMessage = (group: number, code: number, destination: number): bigint =>
  halves((destination << responseAt.destination) | (code << responseAt.code) | group, 0);

/** PCIe response codes of a Page Request Group Response. */
export const pageResponseCode = { success: 0, invalidRequest: 1, responseFailure: 15 } as const;
/** PCIe message codes. */
export const messageCode = { invalidationRequest: 1, pageRequest: 4, pageResponse: 5 } as const;

/** One fault, before it becomes a record. */
export interface FaultReport {
  readonly cause: Cause;
  readonly ttyp: number;
  readonly deviceId: number;
  readonly processIdValid: boolean;
  readonly processId: number;
  readonly supervisor: boolean;
  readonly iotval: bigint;
  readonly iotval2: bigint;
}
