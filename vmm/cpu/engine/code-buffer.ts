/** Bytes of generated code, appended one after the other. */
export class CodeBuffer {
  #bytes = new Uint8Array(4096);
  #length = 0;

  get length(): number {
    return this.#length;
  }
  /** Valid until the next change. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#length);
  }
  clear(): void {
    this.#length = 0;
  }
  #room(more: number): void {
    if (this.#length + more <= this.#bytes.length) return;
    const larger = new Uint8Array(2 * (this.#length + more));
    larger.set(this.#bytes);
    this.#bytes = larger;
  }
  byte(value: number): void {
    this.#room(1);
    this.#bytes[this.#length++] = value;
  }
  two(first: number, second: number): void {
    this.#room(2);
    this.#bytes[this.#length++] = first;
    this.#bytes[this.#length++] = second;
  }
  append(bytes: ArrayLike<number>): void {
    this.#room(bytes.length);
    for (let i = 0; i < bytes.length; i++) this.#bytes[this.#length++] = bytes[i]!;
  }
  /** LEB128 of up to 32 bits. */
  unsigned(value: number): void {
    this.#room(5);
    let rest = value >>> 0;
    while (rest > 127) {
      this.#bytes[this.#length++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    this.#bytes[this.#length++] = rest;
  }
  /** LEB128 of a 32-bit integer, as constants of both widths take it. */
  signed(value: number): void {
    this.#room(5);
    let rest = value | 0;
    for (;;) {
      const low = rest & 127;
      rest >>= 7;
      if ((rest === 0 && (low & 64) === 0) || (rest === -1 && (low & 64) !== 0)) {
        this.#bytes[this.#length++] = low;
        return;
      }
      this.#bytes[this.#length++] = low | 128;
    }
  }
  /** A section or a function body: its size, then its bytes. */
  sized(content: CodeBuffer): void {
    this.unsigned(content.length);
    this.append(content.bytes);
  }
  text(name: string): void {
    this.unsigned(name.length);
    for (let i = 0; i < name.length; i++) this.byte(name.charCodeAt(i));
  }
}
