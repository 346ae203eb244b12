/**
 * Completion status of NVMe 1.4 (§4.6.1, figures 126 to 130). A status travels as the 15-bit status field of a
 * completion entry: SC 7:0, SCT 10:8, CRD 12:11, M 13, DNR 14.
 */
interface StatusRow {
  /** Status code type: 0 generic, 1 command specific, 2 media and data integrity. */
  readonly sct: 0 | 1 | 2;
  readonly sc: number;
  /** True where repeating the same command can succeed, so DNR stays clear. */
  readonly retry?: true;
}

// prettier-ignore
export const statusTable = {
  SUCCESS:                      { sct: 0, sc: 0x00, retry: true },
  INVALID_OPCODE:               { sct: 0, sc: 0x01 },
  INVALID_FIELD:                { sct: 0, sc: 0x02 },
  DATA_TRANSFER_ERROR:          { sct: 0, sc: 0x04, retry: true },
  INTERNAL_ERROR:               { sct: 0, sc: 0x06, retry: true },
  ABORT_REQUESTED:              { sct: 0, sc: 0x07, retry: true },
  ABORTED_SQ_DELETION:          { sct: 0, sc: 0x08, retry: true },
  INVALID_NAMESPACE_OR_FORMAT:  { sct: 0, sc: 0x0b },
  COMMAND_SEQUENCE_ERROR:       { sct: 0, sc: 0x0c },
  INVALID_SGL_SEGMENT:          { sct: 0, sc: 0x0d },
  INVALID_SGL_COUNT:            { sct: 0, sc: 0x0e },
  DATA_SGL_LENGTH_INVALID:      { sct: 0, sc: 0x0f },
  SGL_TYPE_INVALID:             { sct: 0, sc: 0x11 },
  PRP_OFFSET_INVALID:           { sct: 0, sc: 0x13 },
  NAMESPACE_WRITE_PROTECTED:    { sct: 0, sc: 0x20 },
  LBA_OUT_OF_RANGE:             { sct: 0, sc: 0x80 },
  CAPACITY_EXCEEDED:            { sct: 0, sc: 0x81 },
  COMPLETION_QUEUE_INVALID:     { sct: 1, sc: 0x00 },
  INVALID_QUEUE_IDENTIFIER:     { sct: 1, sc: 0x01 },
  INVALID_QUEUE_SIZE:           { sct: 1, sc: 0x02 },
  AER_LIMIT_EXCEEDED:           { sct: 1, sc: 0x05 },
  INVALID_INTERRUPT_VECTOR:     { sct: 1, sc: 0x08 },
  INVALID_LOG_PAGE:             { sct: 1, sc: 0x09 },
  INVALID_FORMAT:               { sct: 1, sc: 0x0a },
  INVALID_QUEUE_DELETION:       { sct: 1, sc: 0x0c },
  FEATURE_NOT_SAVEABLE:         { sct: 1, sc: 0x0d },
  FEATURE_NOT_CHANGEABLE:       { sct: 1, sc: 0x0e },
  FEATURE_NOT_NAMESPACE_SPECIFIC: { sct: 1, sc: 0x0f },
  CONFLICTING_ATTRIBUTES:       { sct: 1, sc: 0x80 },
  WRITE_FAULT:                  { sct: 2, sc: 0x80 },
  UNRECOVERED_READ_ERROR:       { sct: 2, sc: 0x81, retry: true },
  COMPARE_FAILURE:              { sct: 2, sc: 0x85 },
} as const satisfies Record<string, StatusRow>;
export type StatusName = keyof typeof statusTable;

const rows = Object.entries(statusTable) as [StatusName, StatusRow][];
const doNotRetry = 0x4000;
/** Set in the status of a completion whose details are in the error log page. */
export const moreInLog = 0x2000;

/** The status field of each row, DNR included. */
export const status = Object.fromEntries(
  rows.map(([name, row]) => [name, (row.sct << 8) | row.sc | (row.retry ? 0 : doNotRetry)]),
) as Readonly<Record<StatusName, number>>;

const names = new Map(rows.map(([name, row]) => [(row.sct << 8) | row.sc, name]));
/** Name of a status field (CRD, M and DNR are not looked at), for traces and reports. */
export const statusName = (field: number): string => names.get(field & 0x7ff) ?? `0x${(field & 0x7ff).toString(16)}`;
