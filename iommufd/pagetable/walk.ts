import { addressBits, attribute, type Level, type PageTableFormat } from './format.ts';

export type WalkResult =
  | {
      readonly kind: 'leaf';
      readonly raw: bigint;
      /** Address of the entry, as `load` was asked for it. */
      readonly at: bigint;
      readonly level: number;
      /** The address translated. */
      readonly address: bigint;
      readonly shift: number;
      readonly attributes: number;
      readonly memoryType: number;
      /** The leaf, or a table on the way to it, was global. */
      readonly global: boolean;
    }
  | { readonly kind: 'non-canonical' }
  | { readonly kind: 'not-present'; readonly level: number }
  | { readonly kind: 'malformed'; readonly level: number; readonly why: string }
  /** `load` gave up. */
  | { readonly kind: 'stopped'; readonly level: number };

const mask = (bits: number): bigint => (1n << BigInt(bits)) - 1n;

/** True where the bits above those translated are what the format demands. */
export const isCanonical = (format: PageTableFormat, address: bigint): boolean => {
  const width = addressBits(format);
  if (format.upperBits === 'zero') return address >> BigInt(width) === 0n;
  const upper = BigInt.asUintN(64, address) >> BigInt(width - 1);
  return upper === 0n || upper === mask(64 - width + 1);
};

/** Address of the entry for `address` in the table at `table`. */
const entryAddress = (table: bigint, address: bigint, level: Level): bigint =>
  table + ((address >> BigInt(level.shift)) & mask(level.bits)) * 8n;

/**
 * The one loop over levels that translates. `load` is the implicit access to an entry: it may itself be a second-stage
 * walk, and returns undefined to stop.
 */
export const walk = (
  format: PageTableFormat,
  root: bigint,
  address: bigint,
  load: (at: bigint, level: number) => bigint | undefined,
): WalkResult => {
  if (!isCanonical(format, address)) return { kind: 'non-canonical' };
  let table = root;
  let global = false;
  for (let level = format.levels.length - 1; level >= 0; level--) {
    const at = entryAddress(table, address, format.levels[format.levels.length - 1 - level]!);
    const raw = load(at, level);
    if (raw === undefined) return { kind: 'stopped', level };
    const entry = format.decode(raw, level);
    if (entry.kind === 'empty') return { kind: 'not-present', level };
    if (entry.kind === 'malformed') return { kind: 'malformed', level, why: entry.why };
    if (entry.kind === 'leaf') {
      const { base, shift, attributes, memoryType } = entry;
      const offset = address & mask(shift);
      return { kind: 'leaf', raw, at, level, address: base | offset, shift, attributes, memoryType, global: global || (attributes & attribute.global) !== 0 }; // prettier-ignore
    }
    table = entry.next;
    global ||= entry.global;
  }
  return { kind: 'malformed', level: 0, why: 'a pointer at the last level' };
};
