/** Linux says on its console that it panicked; what it does then (hang, or reset with panic=…) does not tell. */

/** kernel/panic.c: the first and the last thing printed, behind a time stamp and a caller that may be configured. */
const panicLine = /^(?:\[[ \d.]+\](?:\[[^\]]*\])? )?Kernel panic - not syncing: .*$/;
const lastLine = /^(?:\[[ \d.]+\](?:\[[^\]]*\])? )?(?:---\[ end Kernel panic - not syncing|Rebooting in \d+ seconds)/;
const shownLines = 16;
const keptBytes = 1024;

/** Watches the console of a Linux guest. */
export class KernelPanic {
  #line = '';
  readonly #last: string[] = [];
  #sentence: string | undefined;
  #isOver = false;
  readonly #decoder = new TextDecoder();

  add(bytes: Uint8Array): void {
    const lines = (this.#line + this.#decoder.decode(bytes, { stream: true })).split('\n');
    this.#line = lines.pop()!.slice(-keptBytes);
    for (const line of lines) this.#end(line.trimEnd());
  }

  #end(line: string): void {
    this.#last.push(line);
    if (this.#last.length > shownLines) this.#last.shift();
    if (lastLine.test(line)) this.#isOver = true;
    else if (panicLine.test(line)) this.#sentence ??= line.slice(line.indexOf('Kernel panic'));
  }

  /** What the kernel said, once it has panicked. */
  get sentence(): string | undefined {
    return this.#sentence;
  }

  /** Nothing more will come. */
  get isOver(): boolean {
    return this.#isOver;
  }

  get lastLines(): readonly string[] {
    return this.#last;
  }
}
