/** The schema read as a table of keys: help, `config schema`, the option grammar and suggestions derive from it. */
import * as v from 'valibot';
import { machineSchema } from './schema.ts';
import type { ValueFacts } from './values.ts';

/** One key of a group. */
export interface Key {
  readonly name: string;
  readonly doc: string;
  readonly required: boolean;
  /** As a person would write it; undefined when there is none. */
  readonly default: unknown;
  readonly shape: Shape;
}
/** A scalar, a group of keys, or a list of either. */
export type Shape =
  | { readonly kind: 'scalar'; readonly facts: ValueFacts }
  | { readonly kind: 'group'; readonly keys: readonly Key[] }
  | { readonly kind: 'list'; readonly item: Shape };

/** The parts of a valibot schema that are looked at. */
interface Node {
  readonly type: string;
  readonly wrapped?: Node;
  readonly default?: unknown;
  readonly item?: Node;
  readonly entries?: Readonly<Record<string, Node>>;
  readonly pipe?: readonly { readonly type: string; readonly metadata?: { readonly facts?: ValueFacts } }[];
}

function factsOf(node: Node): ValueFacts | undefined {
  for (const step of node.pipe ?? []) {
    const facts = step.metadata?.facts ?? (step === node ? undefined : factsOf(step as Node));
    if (facts) return facts;
  }
  return undefined;
}

function shapeOf(node: Node): Shape {
  const facts = factsOf(node);
  if (facts) return { kind: 'scalar', facts };
  if (node.item) return { kind: 'list', item: shapeOf(node.item) };
  return { kind: 'group', keys: keysOf(node.entries ?? {}) };
}

function keysOf(entries: Readonly<Record<string, Node>>): readonly Key[] {
  return Object.entries(entries).map(([name, node]) => {
    const optional = node.type === 'optional';
    const inner = optional ? node.wrapped! : node;
    return {
      name,
      doc: v.getDescription(inner as never) ?? '',
      required: !optional,
      default: node.default,
      shape: shapeOf(inner),
    };
  });
}

/** The keys of a group that has no place in the machine's schema. */
export const keysOfSchema = (schema: { readonly entries: object }): readonly Key[] =>
  keysOf(schema.entries as Readonly<Record<string, Node>>);

/** The top-level keys, in the order of the schema. */
export const machineKeys: readonly Key[] = keysOfSchema(machineSchema);

/** A value as a person would write it in the file. */
export function formatValue(shape: Shape, value: unknown): unknown {
  if (value === undefined) return undefined;
  if (shape.kind === 'scalar') return shape.facts.format(value as never);
  if (shape.kind === 'list') return (value as readonly unknown[]).map((item) => formatValue(shape.item, item));
  const group = value as Readonly<Record<string, unknown>>;
  const pairs = shape.keys.map((key) => [key.name, formatValue(key.shape, group[key.name])] as const);
  return Object.fromEntries(pairs.filter(([, item]) => item !== undefined));
}

function jsonOf(shape: Shape): Record<string, unknown> {
  if (shape.kind === 'scalar') return { ...shape.facts.json };
  if (shape.kind === 'list') return { type: 'array', items: jsonOf(shape.item) };
  const required = shape.keys.filter((key) => key.required).map((key) => key.name);
  return {
    type: 'object',
    additionalProperties: false,
    ...(required.length > 0 ? { required } : {}),
    properties: Object.fromEntries(
      shape.keys.map((key) => [
        key.name,
        {
          description: key.doc,
          ...jsonOf(key.shape),
          ...(key.default === undefined ? {} : { default: formatValue(key.shape, key.default) }),
        },
      ]),
    ),
  };
}

/** JSON Schema (2020-12) of the configuration file. */
export const jsonSchema = (): Record<string, unknown> => ({
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'iommulab machine',
  ...jsonOf({ kind: 'group', keys: machineKeys }),
});
