/**
 * The SBI 2.0 of a machine without firmware: one row a function. The VMM answers an S-mode hart's ecall itself
 * (riscv-non-isa/riscv-sbi-doc, chapters 4–12).
 */

/** Error codes (SBI §3). */
export const sbiErrors = {
  SBI_SUCCESS: 0,
  SBI_ERR_FAILED: -1,
  SBI_ERR_NOT_SUPPORTED: -2,
  SBI_ERR_INVALID_PARAM: -3,
  SBI_ERR_DENIED: -4,
  SBI_ERR_INVALID_ADDRESS: -5,
  SBI_ERR_ALREADY_AVAILABLE: -6,
  SBI_ERR_ALREADY_STARTED: -7,
  SBI_ERR_ALREADY_STOPPED: -8,
} as const;
export type SbiError = keyof typeof sbiErrors;

/** Hart states of HSM (§9). */
export const hartStates = { STARTED: 0, STOPPED: 1, START_PENDING: 2, STOP_PENDING: 3, SUSPENDED: 4 } as const;

/** What the machine does for a guest's SBI calls. Hart ids are valid ones, except where an error may be returned. */
export interface SbiHandler {
  /** How many harts there are; ids run from 0. */
  readonly hartCount: number;
  /** Console output. */
  putchar(bytes: Uint8Array): void;
  /** Console input that waits, at most `room` bytes. */
  getchar?(room: number): Uint8Array;
  /** Power off; `failure` as the guest gives the reason (system failure). */
  shutdown(failure: boolean): void;
  /** Reboot; cold, or warm. */
  reset(kind: 'cold' | 'warm'): void;
  /** Starts a stopped hart: S-mode at `pc`, a0 = its id, a1 = `opaque`. */
  hartStart(id: number, pc: bigint, opaque: bigint): SbiError;
  /** The calling hart stops and stays so until `hartStart`. */
  hartStop(id: number): void;
  hartState(id: number): number;
  /** Sets sip.SSIP of a hart and wakes it. */
  sendIpi(id: number): void;
  /** fence.i, or sfence.vma (of everything, whatever was asked), on another hart. */
  remoteFence(id: number, kind: 'code' | 'translations'): void;
}

/** The hart that calls. */
export interface SbiCaller {
  readonly id: number;
  x(index: number): bigint;
  setX(index: number, value: bigint | number): void;
  setCsr(name: string, value: bigint): boolean;
  /** Bytes of guest RAM, or undefined where a part is not RAM. */
  guestBytes(physical: bigint, length: bigint): Uint8Array | undefined;
}

interface Call {
  readonly hart: SbiCaller;
  readonly machine: SbiHandler;
  /** a0 … a5. */
  readonly a: readonly bigint[];
}
/** The value of a1, or an error. */
type Answer = bigint | number | SbiError;
interface SbiFunction {
  readonly name: string;
  readonly run: (call: Call) => Answer;
}
interface SbiExtension {
  readonly name: string;
  readonly id: number;
  readonly spec: string;
  readonly functions: Readonly<Record<number, SbiFunction>>;
}

const ok = 0;
const low32 = (value: bigint): number => Number(value & 0xffff_ffffn);

/** The harts of (mask, base), base -1 = all (§3.1); undefined where one does not exist. */
const harts = (machine: SbiHandler, mask: bigint, base: bigint): number[] | undefined => {
  const all = Array.from({ length: machine.hartCount }, (_, id) => id);
  if (base === (1n << 64n) - 1n) return all;
  const ids: number[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if (!((mask >> BigInt(bit)) & 1n)) continue;
    const id = base + BigInt(bit);
    if (id >= BigInt(machine.hartCount)) return undefined;
    ids.push(Number(id));
  }
  return ids;
};
const fence =
  (kind: 'code' | 'translations') =>
  ({ machine, a }: Call): Answer => {
    const ids = harts(machine, a[0]!, a[1]!);
    if (!ids) return 'SBI_ERR_INVALID_PARAM';
    for (const id of ids) machine.remoteFence(id, kind);
    return ok;
  };
const throughMemory =
  (run: (bytes: Uint8Array, machine: SbiHandler) => number) =>
  ({ hart, machine, a }: Call): Answer => {
    if (a[0] === 0n) return ok;
    const bytes = a[2] === 0n ? hart.guestBytes(a[1]!, a[0]!) : undefined;
    return bytes ? run(bytes, machine) : 'SBI_ERR_INVALID_PARAM';
  };
const idOf = (text: string): number => Array.from(text).reduce((id, char) => id * 256 + char.charCodeAt(0), 0);

// prettier-ignore
export const sbiExtensions: readonly SbiExtension[] = [
  { name: 'BASE', id: 0x10, spec: '§4', functions: {
    0: { name: 'sbi_get_spec_version', run: () => 2 << 24 },
    1: { name: 'sbi_get_impl_id', run: () => 0x696f6d6d },
    2: { name: 'sbi_get_impl_version', run: () => 1 },
    3: { name: 'sbi_probe_extension', run: ({ a }) => (sbiExtensions.some(({ id }) => BigInt(id) === a[0]) ? 1 : 0) },
    4: { name: 'sbi_get_mvendorid', run: () => 0 },
    5: { name: 'sbi_get_marchid', run: () => 0 },
    6: { name: 'sbi_get_mimpid', run: () => 0 },
  } },
  { name: 'TIME', id: idOf('TIME'), spec: '§6', functions: {
    0: { name: 'sbi_set_timer', run: ({ hart, a }) => (hart.setCsr('stimecmp', a[0]!), ok) },
  } },
  { name: 'IPI', id: 0x735049, spec: '§7', functions: {
    0: { name: 'sbi_send_ipi', run: ({ machine, a }) => {
      const ids = harts(machine, a[0]!, a[1]!);
      if (!ids) return 'SBI_ERR_INVALID_PARAM';
      for (const id of ids) machine.sendIpi(id);
      return ok;
    } },
  } },
  { name: 'RFENCE', id: idOf('RFNC'), spec: '§8', functions: {
    0: { name: 'sbi_remote_fence_i', run: fence('code') },
    1: { name: 'sbi_remote_sfence_vma', run: fence('translations') },
    2: { name: 'sbi_remote_sfence_vma_asid', run: fence('translations') },
  } },
  { name: 'HSM', id: idOf('HSM'), spec: '§9', functions: {
    0: { name: 'sbi_hart_start', run: ({ hart, machine, a }) => {
      if (a[0]! >= BigInt(machine.hartCount)) return 'SBI_ERR_INVALID_PARAM';
      if (a[1]! & 1n || !hart.guestBytes(a[1]!, 2n)) return 'SBI_ERR_INVALID_ADDRESS';
      return machine.hartStart(Number(a[0]), a[1]!, a[2]!);
    } },
    1: { name: 'sbi_hart_stop', run: ({ hart, machine }) => (machine.hartStop(hart.id), ok) },
    2: { name: 'sbi_hart_get_status', run: ({ machine, a }) => (a[0]! < BigInt(machine.hartCount) ? machine.hartState(Number(a[0])) : 'SBI_ERR_INVALID_PARAM') },
  } },
  { name: 'SRST', id: idOf('SRST'), spec: '§10', functions: {
    0: { name: 'sbi_system_reset', run: ({ machine, a }) => {
      const kind = low32(a[0]!);
      const reason = low32(a[1]!);
      if (kind > 2 || reason > 1) return 'SBI_ERR_INVALID_PARAM';
      if (kind === 0) machine.shutdown(reason === 1);
      else machine.reset(kind === 1 ? 'cold' : 'warm');
      return ok;
    } },
  } },
  { name: 'DBCN', id: idOf('DBCN'), spec: '§12', functions: {
    0: { name: 'sbi_debug_console_write', run: throughMemory((bytes, machine) => (machine.putchar(bytes.slice()), bytes.length)) },
    1: { name: 'sbi_debug_console_read', run: throughMemory((bytes, machine) => {
      const read = machine.getchar?.(bytes.length) ?? new Uint8Array();
      bytes.set(read.subarray(0, bytes.length));
      return Math.min(read.length, bytes.length);
    }) },
    2: { name: 'sbi_debug_console_write_byte', run: ({ machine, a }) => (machine.putchar(Uint8Array.of(low32(a[0]!) & 0xff)), ok) },
  } },
];

/** Answers the hart's environment call (§3: extension in a7, function in a6; error to a0, value to a1). */
export const answerEcall = (hart: SbiCaller, machine: SbiHandler): void => {
  const extension = sbiExtensions.find(({ id }) => BigInt(id) === hart.x(17));
  const index = hart.x(16);
  const row = extension && index < 256n ? extension.functions[Number(index)] : undefined;
  const a = [10, 11, 12, 13, 14, 15].map((register) => hart.x(register));
  const answer = row ? row.run({ hart, machine, a }) : 'SBI_ERR_NOT_SUPPORTED';
  hart.setX(10, typeof answer === 'string' ? sbiErrors[answer] : sbiErrors.SBI_SUCCESS);
  hart.setX(11, typeof answer === 'string' ? 0 : answer);
};
