/** All that a guest wrote, up to a bound, and somebody who waits for a piece of it. */
const mostCharacters = 16 << 20;

export class ConsoleWatch {
  /** Carriage returns are left out. */
  text = '';
  /** Behind what the last wait found. */
  #cursor = 0;
  #wanted: string | RegExp | undefined;
  #tail = '';
  readonly #found: () => void;
  readonly #decoder = new TextDecoder();

  constructor(found: () => void) {
    this.#found = found;
  }

  add(bytes: Uint8Array): void {
    const piece = this.#decoder.decode(bytes, { stream: true }).replaceAll('\r', '');
    if (this.text.length < mostCharacters) this.text += piece;
    const wanted = this.#wanted;
    if (typeof wanted === 'string') {
      this.#tail = (this.#tail + piece).slice(-(wanted.length + piece.length));
      if (this.#tail.includes(wanted)) this.#found();
    } else if (wanted && piece.includes('\n') && this.#at(wanted)) this.#found();
  }

  #at(wanted: string | RegExp): { readonly end: number } | undefined {
    if (typeof wanted === 'string') {
      const at = this.text.indexOf(wanted, this.#cursor);
      return at < 0 ? undefined : { end: at + wanted.length };
    }
    const match = wanted.exec(this.text.slice(this.#cursor));
    return match ? { end: this.#cursor + match.index + match[0].length } : undefined;
  }

  /** From now on `found` is called when this has come; the result tells whether it has, and then stops waiting. */
  wait(wanted: string | RegExp): { readonly isThere: () => boolean; readonly end: () => void } {
    this.#wanted = wanted;
    this.#tail = typeof wanted === 'string' ? this.text.slice(this.#cursor).slice(-wanted.length) : '';
    return {
      isThere: () => {
        const place = this.#at(wanted);
        if (place) this.#cursor = place.end;
        return place !== undefined;
      },
      end: () => (this.#wanted = undefined),
    };
  }
}
