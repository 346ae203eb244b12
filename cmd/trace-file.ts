/** `iommulab trace FILE`: a recorded run, read once from its beginning to its end. */
import { isAscii } from 'node:buffer';
import { closeSync, openSync, readSync } from 'node:fs';
import { eventFilter } from '#vmm/record/catalogue';
import { jsonLine } from '#vmm/record/jsonl';
import { PerfTrace, summaryRows } from '#vmm/record/perf-text';
import { TraceFormatError, TraceReader } from '#vmm/record/trace-reader';
import type { TraceEvent } from '#vmm/base/events';
import { formatBytes } from '#vmm/record/bytes';
import { CommandError } from './exit.ts';
import { fileError } from './files.ts';
import { printJson, stderr, stdout, table } from './output.ts';
import { Progress } from './progress.ts';

export interface TraceFileOptions {
  readonly event?: readonly string[] | undefined;
  readonly errors?: true | undefined;
  readonly summary?: true | undefined;
  readonly json?: true | undefined;
}

/** What is parsed in one go: small enough to stay in the processor's caches. */
const chunkBytes = 1 << 16;

/** Every piece of the file's text; `-` is stdin. */
export function* textPieces(path: string): Generator<string> {
  const decoder = new TextDecoder();
  const buffer = Buffer.allocUnsafe(chunkBytes);
  const progress = new Progress(path);
  let fd: number | undefined;
  let total = 0;
  try {
    fd = path === '-' ? 0 : openSync(path, 'r');
    for (;;) {
      let count: number;
      try {
        count = readSync(fd, buffer);
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code;
        if (code === 'EOF') break;
        if (code !== 'EAGAIN') throw error;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
        continue;
      }
      if (count === 0) break;
      total += count;
      progress.show(formatBytes(total));
      const piece = buffer.subarray(0, count);
      // Most traces are nothing else. A character that was cut in two does not begin a piece of ASCII.
      yield isAscii(piece) ? piece.toString('latin1') : decoder.decode(piece, { stream: true });
    }
    yield decoder.decode();
  } catch (error) {
    throw fileError(error, path, 'a trace file');
  } finally {
    progress.end();
    if (fd !== undefined && fd !== 0) closeSync(fd);
  }
}

/** Lines leave in large pieces. */
class Lines {
  #text = '';
  add(line: string): void {
    this.#text += `${line}\n`;
    if (this.#text.length >= 1 << 16) this.flush();
  }
  flush(): void {
    if (this.#text !== '') stdout.write(this.#text);
    this.#text = '';
  }
}

export function readTrace(path: string, options: TraceFileOptions): void {
  const wants = eventFilter(options.event ?? ['*']);
  const perf = new PerfTrace({ wants, errorsOnly: options.errors === true });
  const lines = new Lines();
  const see = (event: TraceEvent): void => {
    if (options.summary) return perf.add(event);
    if (options.json) {
      if (perf.matches(event)) lines.add(jsonLine(event));
      return;
    }
    const line = perf.line(event);
    if (line !== undefined) lines.add(line);
  };
  const reader = new TraceReader(see);
  try {
    for (const text of textPieces(path)) reader.push(text);
  } catch (error) {
    lines.flush();
    if (error instanceof TraceFormatError) throw new CommandError('usage', `${path}:${error.line}: ${error.message}`);
    throw error;
  }
  const isWhole = reader.finish();
  lines.flush();
  if (options.summary) {
    if (options.json) printJson(perf.summary());
    else stdout.line(table(summaryRows(perf.summary()), [2, 3, 4, 5]));
  }
  if (!isWhole) stderr.line(`${path}: the last line is not whole, as of a run that was cut off`);
  if (perf.seen === 0) stderr.line('no events match');
}
