/**
 * One client of the control socket. Lines of JSON in the envelope of QMP (the QEMU Machine Protocol): a greeting,
 * then `{"execute": verb, "arguments": {…}, "id": …}` answered by `{"return": …, "id": …}` or
 * `{"error": {"class": …, "desc": …}, "id": …}`, and events in between.
 */
import { type Arguments, ControlError, type ControlTarget, runVerb } from './verbs.ts';

/** A request of more than this is not looked at. */
export const longestRequest = 1 << 20;

export type ControlEvent = 'STOP' | 'RESUME' | 'RESET' | 'SHUTDOWN' | 'DEVICE_DELETED';

type Id = string | number | boolean | null | undefined;
const isId = (value: unknown): value is Id => value === null || typeof value !== 'object';

/** One document on a line; 64-bit values are strings "0x…". */
const encode = (value: unknown): string =>
  `${JSON.stringify(value, (_, item: unknown) => (typeof item === 'bigint' ? `0x${item.toString(16)}` : item))}\n`;

interface Request {
  readonly verb: string;
  readonly args: Arguments;
}

function parseRequest(document: Readonly<Record<string, unknown>>): Request {
  const { execute, arguments: args = {}, id } = document;
  if (!isId(id)) throw new ControlError('id: expected a string or a number');
  for (const key of Object.keys(document))
    if (key !== 'execute' && key !== 'arguments' && key !== 'id')
      throw new ControlError(`expected execute, arguments and id, found ${JSON.stringify(key.slice(0, 60))}`);
  if (typeof execute !== 'string') throw new ControlError('execute: expected the name of a verb');
  if (typeof args !== 'object' || args === null || Array.isArray(args))
    throw new ControlError('arguments: expected an object');
  return { verb: execute, args: args as Arguments };
}

export class ControlConnection {
  readonly #target: ControlTarget;
  readonly #send: (text: string) => void;
  #line = '';
  /** The rest of a line that is too long is thrown away. */
  #isSkipping = false;

  /** `send` gets whole lines. */
  constructor(target: ControlTarget, send: (text: string) => void) {
    this.#target = target;
    this.#send = send;
    send(encode({ QMP: { version: { iommulab: target.version }, capabilities: [] } }));
  }

  /** Text as it comes, cut anywhere. */
  receive(text: string): void {
    let from = 0;
    for (;;) {
      const end = text.indexOf('\n', from);
      const piece = text.slice(from, end < 0 ? undefined : end);
      if (!this.#isSkipping) this.#line += piece;
      if (this.#line.length > longestRequest) {
        this.#line = '';
        this.#isSkipping = true;
        this.#fail(new ControlError(`expected a request of at most ${longestRequest} characters`), undefined);
      }
      if (end < 0) return;
      const line = this.#line;
      const isWhole = !this.#isSkipping;
      this.#line = '';
      this.#isSkipping = false;
      from = end + 1;
      if (isWhole && line.trim() !== '') this.#execute(line);
    }
  }

  event(name: ControlEvent, data: Readonly<Record<string, unknown>> = {}): void {
    const { now } = this.#target.machine.clock;
    const timestamp = { seconds: Math.floor(now / 1e9), microseconds: Math.floor((now % 1e9) / 1e3) };
    this.#send(encode({ event: name, data, timestamp }));
  }

  #execute(line: string): void {
    let document: unknown;
    try {
      document = JSON.parse(line);
    } catch {
      return this.#fail(
        new ControlError('expected a JSON object on a line, found something that is not JSON'),
        undefined,
      );
    }
    if (typeof document !== 'object' || document === null || Array.isArray(document))
      return this.#fail(new ControlError('expected a JSON object'), undefined);
    const raw = (document as Readonly<Record<string, unknown>>)['id'];
    const id = isId(raw) ? raw : undefined;
    let result: unknown;
    try {
      const { verb, args } = parseRequest(document as Readonly<Record<string, unknown>>);
      result = runVerb(this.#target, verb, args);
    } catch (error) {
      // A run is not ended by a bug in answering a question about it.
      const why = error instanceof Error ? error.message : String(error);
      return this.#fail(
        error instanceof ControlError ? error : new ControlError(`this is a bug of iommulab: ${why}`),
        id,
      );
    }
    this.#send(encode({ return: result, ...(id === undefined ? {} : { id }) }));
  }

  #fail(error: ControlError, id: Id): void {
    this.#send(encode({ error: { class: error.kind, desc: error.message }, ...(id === undefined ? {} : { id }) }));
  }
}
