import { isMap, isNode, isScalar, LineCounter, parseDocument, stringify } from 'yaml';
import { formatValue, machineKeys } from './keys.ts';
import type { Locate, ParsedConfig } from './parse.ts';
import { parseConfig } from './parse.ts';
import type { MachineConfig } from './schema.ts';

export type ParsedYaml =
  { readonly ok: true; readonly value: unknown; readonly locate: Locate } | (ParsedConfig & { readonly ok: false });

/** Longer files are refused before they are read: a configuration is a page of text. */
export const maxConfigBytes = 2 ** 20;

/** Reads YAML (or JSON, its subset) without judging it; problems carry their line and column. */
export function parseYaml(text: string): ParsedYaml {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  if (document.errors.length > 0) {
    const issues = document.errors.map((error) => {
      const { line, col } = lines.linePos(error.pos[0]);
      return { path: '', expected: 'YAML', received: error.message.replaceAll('\n', ' '), line, column: col };
    });
    return { ok: false, issues };
  }
  const place = (range: readonly number[]): { line: number; column: number } => {
    const { line, col } = lines.linePos(range[0]!);
    return { line, column: col };
  };
  const locate: Locate = (path, what) => {
    // Up to the nearest thing that is written down: a missing key has no place of its own.
    for (let depth = path.length; depth > 0; depth--) {
      const parent = document.getIn(path.slice(0, depth - 1), true);
      const pair = isMap(parent)
        ? parent.items.find((item) => isScalar(item.key) && item.key.value === path[depth - 1])
        : undefined;
      const key = isScalar(pair?.key) ? pair.key.range : undefined;
      const node = document.getIn(path.slice(0, depth), true);
      const value = isNode(node) ? node.range : undefined;
      const range = what === 'key' && depth === path.length ? (key ?? value) : (value ?? key);
      if (range) return place(range);
    }
    return document.contents?.range ? place(document.contents.range) : undefined;
  };
  try {
    return { ok: true, value: document.toJS({ maxAliasCount: 100 }) ?? {}, locate };
  } catch (error) {
    // Unresolvable or explosive aliases.
    return { ok: false, issues: [{ path: '', expected: 'YAML', received: (error as Error).message }] };
  }
}

/** A configuration file's text to a machine. */
export function parseConfigYaml(text: string): ParsedConfig {
  const parsed = parseYaml(text);
  return parsed.ok ? parseConfig(parsed.value, parsed.locate) : parsed;
}

/** The configuration as a file that reads back to the same machine. */
export function configYaml(config: MachineConfig): string {
  return stringify(formatValue({ kind: 'group', keys: machineKeys }, config));
}
