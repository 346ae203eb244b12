/** The client of the control socket: one question, one answer. */
import { connect } from 'node:net';
import { CommandError } from './exit.ts';
import { printJson, stderr, stdout, table } from './output.ts';

const answerMs = 30_000;

/** `key=value` as arguments; a value that is JSON is taken as such. */
function parseArguments(pairs: readonly string[]): Record<string, unknown> {
  const args: Record<string, unknown> = {};
  for (const pair of pairs) {
    const [, key, text] = /^([^=]+)=([\s\S]*)$/.exec(pair) ?? [];
    if (key === undefined || text === undefined)
      throw new CommandError('usage', `expected key=value, found ${JSON.stringify(pair)}`);
    try {
      args[key] = JSON.parse(text) as unknown;
    } catch {
      args[key] = text;
    }
  }
  return args;
}

interface Answer {
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
}

/** Sends the request when the greeting has come; events on the way are not ours. */
const exchange = (path: string, request: unknown): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const socket = connect(path);
    const fail = (ending: 'usage' | 'resource', why: string): void => {
      socket.destroy();
      reject(new CommandError(ending, `${path}: ${why}`));
    };
    let rest = '';
    socket.setEncoding('utf8').setTimeout(answerMs, () => fail('resource', 'no answer'));
    socket.on('error', (error: NodeJS.ErrnoException) =>
      fail(error.code === 'ENOENT' ? 'usage' : 'resource', `expected the control socket of a run (${error.code})`),
    );
    socket.on('close', () => fail('resource', 'the run has ended without an answer'));
    socket.on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop()!;
      for (const line of lines) {
        let message: Record<string, unknown>;
        try {
          message = JSON.parse(line) as Record<string, unknown>;
        } catch {
          return fail('resource', 'expected lines of JSON');
        }
        if ('QMP' in message) socket.write(`${JSON.stringify(request)}\n`);
        else if ('return' in message || 'error' in message) {
          resolve(message as Answer);
          socket.removeAllListeners('close').end();
        }
      }
    });
  });

const cell = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));
const isTable = (value: unknown): value is readonly Record<string, unknown>[] =>
  Array.isArray(value) &&
  value.length > 0 &&
  value.every((row) => typeof row === 'object' && row !== null && !Array.isArray(row));

export async function ask(path: string, verb: string, pairs: readonly string[], json: boolean): Promise<void> {
  const answer = await exchange(path, { execute: verb, arguments: parseArguments(pairs) });
  if (answer.error) throw new CommandError('failed', answer.error.desc);
  const value = answer.return;
  if (json) return printJson(value);
  if (isTable(value)) {
    const columns = Object.keys(value[0]!);
    const heads = columns.map((name) => name.toUpperCase().replaceAll('_', ' '));
    return stdout.line(table([heads, ...value.map((row) => columns.map((name) => cell(row[name])))]));
  }
  if (Array.isArray(value) && value.every((line) => typeof line === 'string')) {
    for (const line of value) stdout.line(line);
    return;
  }
  if (typeof value === 'object' && value !== null && Object.keys(value).length === 0) return stderr.line('done');
  printJson(value);
}
