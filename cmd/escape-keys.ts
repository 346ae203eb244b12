/** What Ctrl-A and a key mean on the console. Everything else belongs to the guest. */
export const escapeKeys = {
  x: { action: 'leave', doc: 'leave' },
  h: { action: 'help', doc: 'show this' },
  a: { action: 'send', doc: 'send Ctrl-A to the guest (also Ctrl-A Ctrl-A)' },
} as const;
type Action = Exclude<(typeof escapeKeys)[keyof typeof escapeKeys]['action'], 'send'>;

export const escapeHelp = (): readonly string[] =>
  Object.entries(escapeKeys).map(([key, { doc }]) => `Ctrl-A ${key}  ${doc}`);

const ctrlA = 1;

/** Takes the escape sequences out of what is typed; a sequence may be split over any number of pieces. */
export class EscapeKeys {
  #isEscaped = false;
  readonly #act: (action: Action) => void;

  constructor(act: (action: Action) => void) {
    this.#act = act;
  }

  /** The bytes for the guest. An unknown key after Ctrl-A is dropped with it. */
  filter(typed: Uint8Array): Uint8Array {
    const out: number[] = [];
    for (const byte of typed) {
      if (!this.#isEscaped) {
        if (byte === ctrlA) this.#isEscaped = true;
        else out.push(byte);
        continue;
      }
      this.#isEscaped = false;
      const key = byte === ctrlA ? 'a' : String.fromCharCode(byte).toLowerCase();
      const row = Object.hasOwn(escapeKeys, key) ? escapeKeys[key as keyof typeof escapeKeys] : undefined;
      if (row?.action === 'send') out.push(ctrlA);
      else if (row) this.#act(row.action);
    }
    return Uint8Array.from(out);
  }
}
