/** Bytes of generated code, appended one after the other. Who appends many asks for the room first. */
export class CodeBuffer {
  data = new Uint8Array(1 << 16);
  length = 0;

  /** Valid until the next change. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.data.subarray(0, this.length);
  }
  clear(): void {
    this.length = 0;
  }
  /** From now on so many bytes may be appended. */
  reserve(bytes: number): void {
    if (this.length + bytes <= this.data.length) return;
    const larger = new Uint8Array(2 * (this.length + bytes));
    larger.set(this.bytes);
    this.data = larger;
  }
  byte(value: number): void {
    this.data[this.length++] = value;
  }
  two(first: number, second: number): void {
    this.data[this.length++] = first;
    this.data[this.length++] = second;
  }
  /** LEB128 of up to 32 bits. */
  unsigned(value: number): void {
    let rest = value >>> 0;
    while (rest > 127) {
      this.data[this.length++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    this.data[this.length++] = rest;
  }
  /** LEB128 of a 32-bit integer, as constants of both widths take it. */
  signed(value: number): void {
    let rest = value | 0;
    for (;;) {
      const low = rest & 127;
      rest >>= 7;
      if ((rest === 0 && (low & 64) === 0) || (rest === -1 && (low & 64) !== 0)) {
        this.data[this.length++] = low;
        return;
      }
      this.data[this.length++] = low | 128;
    }
  }
  append(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.data.set(bytes, this.length);
    this.length += bytes.length;
  }
  /** A section or a function body: its size, then its bytes. */
  sized(content: CodeBuffer): void {
    this.reserve(8);
    this.unsigned(content.length);
    this.append(content.bytes);
  }
  text(name: string): void {
    this.reserve(name.length + 8);
    this.unsigned(name.length);
    for (let i = 0; i < name.length; i++) this.byte(name.charCodeAt(i));
  }
}
