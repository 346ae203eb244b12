/** Bytes of a guest's console, which come one at a time: kept in large pieces, and passed on in lines. */

const chunkBytes = 1 << 16;

/** Everything the guest said, up to a bound. */
export class ConsoleText {
  readonly #chunks: Buffer[] = [];
  readonly #limit: number;
  #used = chunkBytes;

  constructor(limitBytes: number) {
    this.#limit = Math.ceil(limitBytes / chunkBytes);
  }

  add(bytes: Uint8Array): void {
    for (const byte of bytes) {
      if (this.#used === chunkBytes) {
        if (this.#chunks.length >= this.#limit) return;
        this.#chunks.push(Buffer.alloc(chunkBytes));
        this.#used = 0;
      }
      this.#chunks.at(-1)![this.#used++] = byte;
    }
  }

  /** As text; what is no UTF-8 becomes U+FFFD. */
  toString(): string {
    const whole = Buffer.concat(this.#chunks);
    return whole.subarray(0, whole.length - (chunkBytes - this.#used)).toString();
  }
}

const newline = 10;

/** Passes bytes on at the end of each line, or when it is told that nothing comes for a while. */
export class LineBuffer {
  readonly #write: (bytes: Uint8Array) => void;
  readonly #buffer = Buffer.alloc(4096);
  #used = 0;

  constructor(write: (bytes: Uint8Array) => void) {
    this.#write = write;
  }

  add(bytes: Uint8Array): void {
    for (const byte of bytes) {
      this.#buffer[this.#used++] = byte;
      if (byte === newline || this.#used === this.#buffer.length) this.flush();
    }
  }

  flush(): void {
    if (this.#used > 0) this.#write(this.#buffer.subarray(0, this.#used));
    this.#used = 0;
  }
}
