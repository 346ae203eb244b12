/** The NVM (§6.1): 64 words, read through EERD and written through EEWR, whose sum is 0xBABA. */
import { array, parts } from '#vmm/base/saved';
import type { HookTable } from './register-file.ts';
import { EERD, at } from './registers.ts';

const nvmWords = 64;
/** All words up to and including the checksum word add up to this (§6.1.2.12). */
const nvmSum = 0xbaba;
const checksumWord = 0x3f;

/** Words that drivers look at; what is not here is 0xffff as in an unprogrammed part. */
const words: Readonly<Record<number, number>> = {
  0x03: 0x0420, // compatibility: LOM, valid checksum
  0x04: 0xf746, // identification LED settings
  0x05: 0x2010, // version
  0x08: 0x0000, // board number
  0x09: 0x0000,
  0x0a: 0x026b, // initialization control 1
  0x0b: 0x0000, // subsystem id
  0x0c: 0x8086, // subsystem vendor id
  0x0d: 0x10d3, // device id
  0x0f: 0x8058, // initialization control 2: pause and asymmetric direction not advertised
  0x10: 0x0000,
  0x12: 0x7e7c,
  0x24: 0x0000, // initialization control 3: no wake-up
  0x37: 0xffff, // no alternate address
};

export class Nvm {
  readonly words = new Uint16Array(nvmWords).fill(0xffff);
  readonly #registers: Uint32Array;
  readonly saved = parts({ words: array(() => this.words) });

  constructor(mac: Uint8Array, registers: Uint32Array) {
    this.#registers = registers;
    for (const [word, value] of Object.entries(words)) this.words[Number(word)] = value;
    for (let i = 0; i < 3; i++) this.words[i] = mac[2 * i]! | (mac[2 * i + 1]! << 8);
    this.words[checksumWord] = 0;
    let sum = 0;
    for (const word of this.words) sum += word;
    this.words[checksumWord] = nvmSum - sum;
  }

  readonly hooks: HookTable = {
    EERD: { afterWrite: (_, value) => this.#access(value, at.EERD, false) },
    EEWR: { afterWrite: (_, value) => this.#access(value, at.EEWR, true) },
    // The grant follows the request at once: nobody else is on the bus.
    EECD: {
      afterWrite: (index, value) => {
        this.#registers[index] = (this.#registers[index]! & ~0x80) | ((value & 0x40) << 1);
      },
    },
  };

  /** Copies the address into RAL0/RAH0, as after every reset (§10.2.5.17). */
  loadAddress(): void {
    this.#registers[at.RAL] = (this.words[0]! | (this.words[1]! << 16)) >>> 0;
    this.#registers[at.RAH] = (this.words[2]! | 0x8000_0000) >>> 0;
  }

  #access(value: number, register: number, store: boolean): void {
    const word = (value & EERD.ADDR) >>> 2;
    const start = (value & EERD.START) !== 0;
    // A word beyond the part is never done, so that a driver's time-out tells.
    const done = start && word < nvmWords;
    if (done && store) this.words[word] = value >>> 16;
    const data = done ? this.words[word]! : 0;
    this.#registers[register] = ((data << 16) | (word << 2) | (done ? EERD.DONE : 0)) >>> 0;
  }
}
