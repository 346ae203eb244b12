/**
 * The command table (RISC-V IOMMU v1.0.1 §3.1): one row a command; decode, encode and the legality checks that every
 * back end shares derive from it. What a command does lies with the back end (silicon, or a vIOMMU's iommufd calls).
 */
import { register, type Register } from '#vmm/base/bits';
import type { Capabilities } from './registers.ts';

const func3Shift = 7;
const head = { opcode: { bits: [6, 0] }, func3: { bits: [9, func3Shift] } } as const;

// prettier-ignore
const iotinval = register({ width: 64, spec: 'RISC-V IOMMU §3.1.1', fields: {
  ...head, AV: { bits: 10 }, PSCID: { bits: [31, 12] }, PSCV: { bits: 32 }, GV: { bits: 33 }, NL: { bits: 34 },
  GSCID: { bits: [59, 44] } } });
const iotinvalHigh = register({
  width: 64,
  spec: 'RISC-V IOMMU §3.1.1',
  fields: { S: { bits: 9 }, ADDR: { bits: [61, 10] } },
});
// prettier-ignore
const iofence = register({ width: 64, spec: 'RISC-V IOMMU §3.1.2', fields: {
  ...head, AV: { bits: 10 }, WSI: { bits: 11 }, PR: { bits: 12 }, PW: { bits: 13 }, DATA: { bits: [63, 32] } } });
// ADDR[63:2] is held from bit 0 of the second doubleword up (§3.1.2).
const iofenceHigh = register({ width: 64, spec: 'RISC-V IOMMU §3.1.2', fields: { ADDR: { bits: [61, 0] } } });
const iodir = register({
  width: 64,
  spec: 'RISC-V IOMMU §3.1.3',
  fields: { ...head, PID: { bits: [31, 12] }, DV: { bits: 33 }, DID: { bits: [63, 40] } },
});
const reservedHigh = register({ width: 64, spec: 'RISC-V IOMMU §3.1.3', fields: {} });
// prettier-ignore
const ats = register({ width: 64, spec: 'RISC-V IOMMU §3.1.4', fields: {
  ...head, PID: { bits: [31, 12] }, PV: { bits: 32 }, DSV: { bits: 33 }, RID: { bits: [55, 40] }, DSEG: { bits: [63, 56] } } });
const atsHigh = register({ width: 64, spec: 'RISC-V IOMMU §3.1.4', fields: { PAYLOAD: { bits: [63, 0] } } });

/** All operands of all commands; those the command lacks are 0. ADDR of IOTINVAL is a page number, of IOFENCE.C in words. */
export interface Operands {
  readonly AV: bigint;
  readonly PSCID: bigint;
  readonly PSCV: bigint;
  readonly GV: bigint;
  readonly NL: bigint;
  readonly GSCID: bigint;
  readonly S: bigint;
  readonly ADDR: bigint;
  readonly WSI: bigint;
  readonly PR: bigint;
  readonly PW: bigint;
  readonly DATA: bigint;
  readonly PID: bigint;
  readonly DV: bigint;
  readonly DID: bigint;
  readonly PV: bigint;
  readonly DSV: bigint;
  readonly RID: bigint;
  readonly DSEG: bigint;
  readonly PAYLOAD: bigint;
}

/** What the legality of a command depends on besides its operands. */
export interface CommandContext {
  readonly features: Capabilities;
  /** fctl.WSI. */
  readonly wired: boolean;
  /** Width of a device_id under the present ddtp.iommu_mode, in bits. */
  readonly deviceIdBits: number;
}

export interface CommandRow {
  readonly opcode: number;
  readonly func3: number;
  readonly spec: string;
  readonly low: Register;
  readonly high: Register;
  /** Beyond reserved bits, which are checked for all: false makes the command illegal or unsupported. */
  readonly legal: (operands: Operands, context: CommandContext) => boolean;
}

const invalidation = (o: Operands, c: CommandContext): boolean =>
  (o.NL === 0n || c.features.NL === 1) && (o.S === 0n || c.features.S === 1);
const fitsDirectory = (o: Operands, c: CommandContext): boolean => o.DID >> BigInt(c.deviceIdBits) === 0n;
const processIdBits = (c: Capabilities): bigint => (c.PD20 ? 20n : c.PD17 ? 17n : 8n);
const withAts = (_: Operands, c: CommandContext): boolean => c.features.ATS === 1;

// prettier-ignore
export const commands = {
  'IOTINVAL.VMA':    { opcode: 1, func3: 0, spec: '§3.1.1', low: iotinval, high: iotinvalHigh, legal: invalidation },
  'IOTINVAL.GVMA':   { opcode: 1, func3: 1, spec: '§3.1.1', low: iotinval, high: iotinvalHigh,
                       legal: (o, c) => o.PSCV === 0n && invalidation(o, c) },
  'IOFENCE.C':       { opcode: 2, func3: 0, spec: '§3.1.2', low: iofence, high: iofenceHigh,
                       legal: (o, c) => o.WSI === 0n || c.wired },
  'IODIR.INVAL_DDT': { opcode: 3, func3: 0, spec: '§3.1.3', low: iodir, high: reservedHigh,
                       legal: (o, c) => o.PID === 0n && (o.DV === 0n || fitsDirectory(o, c)) },
  'IODIR.INVAL_PDT': { opcode: 3, func3: 1, spec: '§3.1.3', low: iodir, high: reservedHigh,
                       legal: (o, c) => o.DV === 1n && fitsDirectory(o, c) && o.PID >> processIdBits(c.features) === 0n },
  'ATS.INVAL':       { opcode: 4, func3: 0, spec: '§3.1.4', low: ats, high: atsHigh, legal: withAts },
  'ATS.PRGR':        { opcode: 4, func3: 1, spec: '§3.1.4', low: ats, high: atsHigh, legal: withAts },
} as const satisfies Record<string, CommandRow>;

export type CommandName = keyof typeof commands;
export interface Command {
  readonly name: CommandName;
  readonly operands: Operands;
}

// prettier-ignore
const none: Operands = { AV: 0n, PSCID: 0n, PSCV: 0n, GV: 0n, NL: 0n, GSCID: 0n, S: 0n, ADDR: 0n, WSI: 0n, PR: 0n,
  PW: 0n, DATA: 0n, PID: 0n, DV: 0n, DID: 0n, PV: 0n, DSV: 0n, RID: 0n, DSEG: 0n, PAYLOAD: 0n };

/** Where one operand lies: doubleword, mask, shift. */
interface OperandPlace {
  readonly operand: keyof Operands;
  readonly isHigh: boolean;
  readonly mask: bigint;
  readonly shift: bigint;
}
const places = (row: CommandRow): OperandPlace[] =>
  [row.low, row.high].flatMap((layout, i) =>
    [...layout.fields]
      .filter(([name]) => name in none)
      .map(([name, { mask, shift }]): OperandPlace => ({
        operand: name as keyof Operands,
        isHigh: i === 1,
        mask,
        shift,
      })),
  );
const byCode = new Map(
  Object.entries(commands).map(([name, row]) => [
    row.opcode | (row.func3 << func3Shift),
    { name: name as CommandName, row: row as CommandRow, places: places(row) },
  ]),
);

/** The command in two doublewords, or undefined where it is illegal or unsupported (§3.1: cmd_ill). */
export const decodeCommand = (low: bigint, high: bigint, context: CommandContext): Command | undefined => {
  const found = byCode.get(Number(low & 0x3ffn));
  if (!found) return undefined;
  const { name, row } = found;
  if (low & row.low.reserved || high & row.high.reserved) return undefined;
  const operands: { -readonly [K in keyof Operands]: bigint } = { ...none };
  for (const { operand, isHigh, mask, shift } of found.places) {
    const field = (isHigh ? high : low) & mask;
    // Most are 0, as they stand there already.
    if (field !== 0n) operands[operand] = field >> shift;
  }
  return row.legal(operands, context) ? { name, operands } : undefined;
};

/** The two doublewords of a command; RangeError when an operand does not fit or the command lacks it. */
export const encodeCommand = (name: CommandName, operands: Partial<Operands> = {}): [bigint, bigint] => {
  const row: CommandRow = commands[name];
  let low = BigInt(row.opcode | (row.func3 << func3Shift));
  let high = 0n;
  for (const operand in operands) {
    const value = operands[operand as keyof Operands];
    if (value === undefined) continue;
    const inLow = row.low.fields.get(operand);
    const field = inLow ?? row.high.fields.get(operand);
    if (!field) throw new RangeError(`${name} has no operand ${operand}`);
    const placed = value << field.shift;
    if (value < 0n || placed & ~field.mask) throw new RangeError(`${operand}=${value} does not fit ${name}`);
    if (inLow) low |= placed;
    else high |= placed;
  }
  return [low, high];
};
