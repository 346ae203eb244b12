/** Scalar kinds of scenarios and injections, which machines have no use for. */
import * as v from 'valibot';
import type { EventFields } from '#vmm/base/events';
import { scalar } from './values.ts';

/** A key's words in help and in the JSON Schema. */
export const doc = <const T extends v.GenericSchema>(words: string, schema: T) => v.pipe(schema, v.description(words));

const inWord = (value: bigint): bigint | undefined => (value >= 0n && value < 1n << 64n ? value : undefined);

/** An unsigned 64-bit value, decimal or 0x…; beyond 2^53 it has to be quoted in YAML. */
export const hex64 = () =>
  scalar<number | bigint | string, bigint>(
    {
      expected: 'a whole number from 0 to 0xffffffffffffffff (quoted from 2^53 on)',
      placeholder: 'n',
      json: {
        anyOf: [
          { type: 'integer', minimum: 0 },
          { type: 'string', pattern: '^(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})$' },
        ],
      },
    },
    (input) => {
      if (typeof input === 'bigint') return inWord(input);
      if (typeof input === 'number') return Number.isSafeInteger(input) && input >= 0 ? BigInt(input) : undefined;
      return typeof input === 'string' && /^(?:0x[0-9a-f]{1,16}|\d{1,20})$/i.test(input)
        ? inWord(BigInt(input))
        : undefined;
    },
    (value) => `0x${value.toString(16)}`,
  );

const nsOf: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9 };

/** A length of virtual time; the value is in ns. */
export function virtualTime(limits: { min: number; max: number }) {
  const inRange = (ns: number): number | undefined =>
    Number.isFinite(ns) && ns >= limits.min && ns <= limits.max ? Math.round(ns) : undefined;
  return scalar<number | string, number>(
    {
      expected: `a virtual time from ${limits.min}ns to ${limits.max / 1e9}s (suffixes ns, us, ms, s; plain numbers are ns)`,
      placeholder: 'time',
      json: {
        anyOf: [
          { type: 'number', minimum: limits.min, maximum: limits.max },
          { type: 'string', pattern: '^[0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s)?$' },
        ],
      },
    },
    (input) => {
      if (typeof input === 'number') return inRange(input);
      const match = typeof input === 'string' ? /^(\d{1,12}(?:\.\d{1,9})?)(ns|us|µs|ms|s)?$/.exec(input) : null;
      return match ? inRange(Number(match[1]) * nsOf[match[2] ?? 'ns']!) : undefined;
    },
    (value) => value,
  );
}

/** `{ pasid: 3, name: "IOMMU_*" }`: what fields of an event must be. */
export const eventFields = () =>
  scalar<EventFields, EventFields>(
    {
      expected: 'fields with a number or a glob each, such as { pasid: 3, name: "IOMMU_*" }',
      placeholder: 'fields',
      json: { type: 'object', additionalProperties: { type: ['string', 'number'] } },
    },
    (input) =>
      typeof input === 'object' &&
      input !== null &&
      !Array.isArray(input) &&
      Object.values(input).every((value) => ['string', 'number', 'bigint'].includes(typeof value))
        ? (input as EventFields)
        : undefined,
    (value) => JSON.stringify(value),
  );

/** Bytes as pairs of hex digits, at most `max` of them. */
export const hexBytes = (max: number) =>
  scalar<string | number, Uint8Array>(
    {
      expected: `up to ${max} bytes as pairs of hex digits, such as "de ad be ef"`,
      placeholder: 'hex',
      json: { type: 'string', pattern: '^([0-9a-fA-F]{2}\\s*)+$' },
    },
    (input) => {
      const digits = String(input).replaceAll(/\s/g, '');
      if (!/^(?:[0-9a-f]{2})+$/i.test(digits) || digits.length > 2 * max) return undefined;
      return Uint8Array.from(digits.match(/../g)!, (pair) => Number.parseInt(pair, 16));
    },
    (value) => Array.from(value, (byte) => byte.toString(16).padStart(2, '0')).join(' '),
  );
