/**
 * The option grammar of crosvm and cloud-hypervisor:
 *
 *   option := item (',' item)*
 *   item   := key '=' value | value (only the first: the group's first key) | key (the flag `key=on`)
 *   value  := quoted | '[' value (',' value)* ']' | plain
 *   quoted := '"' (any character, \" or \\) '"'
 *   plain  := characters without , ] " that do not begin with [
 */
import type { Key } from './keys.ts';

/** What a text says before the schema judges it. */
export type Raw = string | true | readonly Raw[];
export interface GrammarProblem {
  /** 1-based character in the option. */
  readonly column: number;
  readonly message: string;
}
export type Parsed =
  { readonly ok: true; readonly value: Readonly<Record<string, Raw>> } | ({ readonly ok: false } & GrammarProblem);

class Failure extends Error {
  readonly at: number;
  constructor(at: number, message: string) {
    super(message);
    this.at = at;
  }
}

/** A list in a list in a list … has no use, and the parser recurses. */
const maxDepth = 8;

class Reader {
  at = 0;
  readonly #text: string;
  constructor(text: string) {
    this.#text = text;
  }

  get done(): boolean {
    return this.at >= this.#text.length;
  }

  peek(): string {
    return this.#text[this.at] ?? '';
  }

  take(character: string): boolean {
    if (this.peek() !== character) return false;
    this.at++;
    return true;
  }

  /** `key=` in front of a value, if the item has one. */
  key(): string | undefined {
    const match = /^([A-Za-z][A-Za-z0-9_-]*)=/.exec(this.#text.slice(this.at, this.at + 65));
    if (match) this.at += match[0].length;
    return match?.[1];
  }

  value(depth = 0): Raw {
    if (this.peek() === '"') return this.#quoted();
    if (this.peek() === '[') return this.#list(depth);
    return this.#plain();
  }

  #plain(): string {
    const first = this.at;
    while (!this.done && !',]"'.includes(this.peek())) this.at++;
    if (this.peek() === '"') throw new Failure(this.at, 'a quote inside a value: quote the whole value');
    return this.#text.slice(first, this.at);
  }

  #quoted(): string {
    const first = this.at++;
    let out = '';
    for (;;) {
      if (this.done) throw new Failure(first, 'a quote that is not closed');
      if (this.take('"')) return out;
      if (this.take('\\') && !'"\\'.includes(this.peek()))
        throw new Failure(this.at - 1, 'after \\ only " or \\ may come');
      if (this.done) throw new Failure(first, 'a quote that is not closed');
      out += this.#text[this.at++];
    }
  }

  #list(depth: number): readonly Raw[] {
    const first = this.at++;
    if (depth >= maxDepth) throw new Failure(first, `lists nested deeper than ${maxDepth}`);
    const items: Raw[] = [];
    if (this.take(']')) return items;
    for (;;) {
      if (this.peek() === ',' || this.peek() === ']') throw new Failure(this.at, 'an empty item in a list');
      items.push(this.value(depth + 1));
      if (this.take(']')) return items;
      if (!this.take(',')) throw new Failure(first, 'a list that is not closed with ]');
    }
  }
}

/** Reads one option into raw values by key; the schema then judges names and values. */
export function parseOption(text: string, keys: readonly Key[]): Parsed {
  const values = new Map<string, Raw>();
  const reader = new Reader(text);
  try {
    for (let index = 0; ; index++) {
      const start = reader.at;
      if (reader.done || reader.peek() === ',')
        throw new Failure(start, index === 0 ? 'nothing given' : 'an empty item between commas');
      let key = reader.key();
      let value: Raw;
      if (key !== undefined) {
        value = reader.value();
      } else {
        const isWord = reader.peek() !== '"' && reader.peek() !== '[';
        value = reader.value();
        if (index === 0) key = keys[0]!.name;
        else if (isWord) [key, value] = [value as string, true];
        else throw new Failure(start, 'a value without its key');
      }
      if (values.has(key)) throw new Failure(start, `${key} given twice`);
      values.set(key, value);
      if (reader.done) return { ok: true, value: Object.fromEntries(values) };
      if (!reader.take(','))
        throw new Failure(reader.at, `${JSON.stringify(reader.peek())} where a comma was expected`);
    }
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return { ok: false, column: error.at + 1, message: error.message };
  }
}

function formatRaw(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(formatRaw).join(',')}]`;
  const text = String(value);
  return text === '' || /[,\]"]|^\[/.test(text) ? `"${text.replaceAll(/["\\]/g, String.raw`\$&`)}"` : text;
}

/** The option that `parseOption` reads back as `values`. */
export const formatOption = (values: Readonly<Record<string, unknown>>): string =>
  Object.entries(values)
    .map(([key, value], index) => (value === true ? (index === 0 ? `${key}=on` : key) : `${key}=${formatRaw(value)}`))
    .join(',');
