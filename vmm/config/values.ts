/**
 * The scalar kinds of the configuration. Each takes what a library user, a YAML file or a `key=value` option would
 * write, and carries the words that errors, `--help` and the JSON schema use.
 */
import * as v from 'valibot';

/** What a key's value may be, for messages and help. */
export interface ValueFacts {
  /** Continues "expected …". */
  readonly expected: string;
  /** How help shows a value. */
  readonly placeholder: string;
  /** Words that the value may be, for "did you mean" and completion. */
  readonly words?: readonly string[];
  /** A JSON Schema fragment. */
  readonly json: Readonly<Record<string, unknown>>;
  /** The value as a person would write it. */
  readonly format: (value: never) => string | number | boolean;
}

/** A scalar kind: how it is read, and the words for it. */
export const scalar = <In, Out>(facts: Omit<ValueFacts, 'format'>, parse: (input: unknown) => Out | undefined, format: (value: Out) => string | number | boolean) =>
  v.pipe(
    v.custom<In>(() => true),
    v.rawTransform<In, Out>(({ dataset, addIssue, NEVER }) => {
      const value = parse(dataset.value);
      if (value !== undefined) return value;
      addIssue({ message: facts.expected, expected: facts.expected });
      return NEVER;
    }),
    v.metadata({ facts: { ...facts, format } }),
  ); // prettier-ignore

const suffixes: Readonly<Record<string, number>> = { '': 0, K: 1, M: 2, G: 3, T: 4 };

/** Bytes of `4096`, `64K`, `128M`, `3GiB` or a number; undefined when it is none of them. */
export function parseSize(input: unknown): number | undefined {
  if (typeof input === 'number') return Number.isSafeInteger(input) && input >= 0 ? input : undefined;
  const match = typeof input === 'string' ? /^(\d{1,15})([KMGT]?)(?:i?B)?$/i.exec(input) : null;
  if (!match) return undefined;
  const bytes = Number(match[1]) * 1024 ** suffixes[match[2]!.toUpperCase()]!;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** The shortest exact spelling: `128M`, `4097`. */
export function formatSize(bytes: number): string | number {
  for (const [suffix, power] of Object.entries(suffixes).toReversed())
    if (power > 0 && bytes > 0 && bytes % 1024 ** power === 0) return `${bytes / 1024 ** power}${suffix}`;
  return bytes;
}

const withinLimits = (value: number | undefined, min: number, max: number): number | undefined =>
  value !== undefined && value >= min && value <= max ? value : undefined;

/** A number of bytes, `multiple` a power of two. */
export function size(limits: { min: number; max: number; multiple?: number }) {
  const { min, max, multiple = 1 } = limits;
  const steps = multiple > 1 ? `, a multiple of ${formatSize(multiple)}` : '';
  return scalar<number | string, number>(
    {
      expected: `a size from ${formatSize(min)} to ${formatSize(max)}${steps} (suffixes K, M, G)`,
      placeholder: 'size',
      json: {
        anyOf: [
          { type: 'integer', minimum: min, maximum: max, multipleOf: multiple },
          { type: 'string', pattern: '^[0-9]+[KMGTkmgt]?([iI]?[bB])?$' },
        ],
      },
    },
    (input) => {
      const bytes = withinLimits(parseSize(input), min, max);
      return bytes !== undefined && bytes % multiple === 0 ? bytes : undefined;
    },
    formatSize,
  );
}

/** A whole number, decimal or 0x…; counts also take K, M, G as powers of 1000. */
export function integer(limits: { min: number; max: number; suffix?: boolean }) {
  const { min, max, suffix = false } = limits;
  return scalar<number | string, number>(
    {
      expected: `a whole number from ${min} to ${max}${suffix ? ' (suffixes K, M, G: powers of 1000)' : ''}`,
      placeholder: suffix ? 'count' : 'n',
      json: {
        anyOf: [
          { type: 'integer', minimum: min, maximum: max },
          { type: 'string', pattern: suffix ? '^[0-9]+[KMGkmg]?$' : '^([0-9]+|0x[0-9a-fA-F]+)$' },
        ],
      },
    },
    (input) => {
      if (typeof input === 'number') return Number.isInteger(input) ? withinLimits(input, min, max) : undefined;
      if (typeof input !== 'string') return undefined;
      const match = /^(\d{1,16}|0x[0-9a-f]{1,13})([KMG]?)$/i.exec(input);
      if (!match || (match[2] !== '' && !suffix)) return undefined;
      return withinLimits(Number(match[1]) * 1000 ** suffixes[match[2]!.toUpperCase()]!, min, max);
    },
    (value) => value,
  );
}

const unitSeconds: Readonly<Record<string, number>> = { ms: 0.001, '': 1, s: 1, m: 60, min: 60, h: 3600 };

/** A length of time; the value is in seconds. */
export function duration(limits: { min: number; max: number }) {
  return scalar<number | string, number>(
    {
      expected: `a time from ${limits.min * 1000}ms to ${limits.max / 3600}h (suffixes ms, s, m, h; plain numbers are seconds)`,
      placeholder: 'time',
      json: {
        anyOf: [
          { type: 'number', minimum: limits.min, maximum: limits.max },
          { type: 'string', pattern: '^[0-9]+(\\.[0-9]+)?(ms|s|m|min|h)?$' },
        ],
      },
    },
    (input) => {
      if (typeof input === 'number') return withinLimits(input, limits.min, limits.max);
      const match = typeof input === 'string' ? /^(\d{1,12}(?:\.\d{1,9})?)(ms|s|min|m|h)?$/.exec(input) : null;
      return match ? withinLimits(Number(match[1]) * unitSeconds[match[2] ?? '']!, limits.min, limits.max) : undefined;
    },
    (value) => value,
  );
}

const flagWords: Readonly<Record<string, boolean>> = {
  on: true,
  true: true,
  yes: true,
  off: false,
  false: false,
  no: false,
};

/** on or off; a bare key in an option means on. */
export const flag = () =>
  scalar<boolean | 'on' | 'off', boolean>(
    {
      expected: 'on or off',
      placeholder: 'on|off',
      words: ['on', 'off'],
      json: { enum: [true, false, 'on', 'off', 'true', 'false', 'yes', 'no'] },
    },
    (input) => (typeof input === 'boolean' ? input : typeof input === 'string' ? flagWords[input] : undefined),
    (value) => value,
  );

/** One word of a list. */
export const choice = <const W extends readonly string[]>(words: W) =>
  scalar<W[number], W[number]>(
    {
      expected: words.length === 2 ? `${words[0]} or ${words[1]}` : `one of ${words.join(', ')}`,
      placeholder: words.join('|'),
      words,
      json: { enum: words },
    },
    (input) => (typeof input === 'string' && words.includes(input) ? (input as W[number]) : undefined),
    (value) => value,
  );

/** Text of 1 … `max` characters that all match `pattern`. */
export function text(limits: { max: number; what: string; placeholder: string; pattern?: RegExp }) {
  const pattern = limits.pattern ?? /^[^\0]+$/;
  return scalar<string, string>(
    {
      expected: limits.what,
      placeholder: limits.placeholder,
      json: { type: 'string', minLength: 1, maxLength: limits.max, pattern: pattern.source },
    },
    (input) => (typeof input === 'string' && input.length <= limits.max && pattern.test(input) ? input : undefined),
    (value) => value,
  );
}

/** An Ethernet address of one station (group bit clear). */
export const mac = () =>
  scalar<string, string>(
    {
      expected: 'the address of one station such as 52:54:00:12:34:56 (first octet even)',
      placeholder: 'mac',
      json: { type: 'string', pattern: '^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$' },
    },
    (input) =>
      typeof input === 'string' && /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/i.test(input) && !/^00(:00){5}$/.test(input)
        ? input.toLowerCase()
        : undefined,
    (value) => value,
  );

/** A device number on bus 0; 0 is the host bridge's. */
export const slot = () =>
  scalar<number | string, number>(
    {
      expected: 'a PCI device number from 1 to 31, or 00:01.0 to 00:1f.0',
      placeholder: 'slot',
      json: {
        anyOf: [
          { type: 'integer', minimum: 1, maximum: 31 },
          { type: 'string', pattern: '^([0-9]+|00:[01][0-9a-f]\\.0)$' },
        ],
      },
    },
    (input) => {
      if (typeof input === 'number') return Number.isInteger(input) ? withinLimits(input, 1, 31) : undefined;
      if (typeof input !== 'string') return undefined;
      const full = /^(?:0000:)?00:([01][0-9a-f])\.0$/i.exec(input);
      if (full) return withinLimits(Number.parseInt(full[1]!, 16), 1, 31);
      return /^\d{1,2}$/.test(input) ? withinLimits(Number(input), 1, 31) : undefined;
    },
    (value) => value,
  );
