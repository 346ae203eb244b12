import type { GuestMemory } from './guest-memory.ts';

/**
 * The host-target interface of test programs for bare RISC-V: two doublewords in RAM, named by the symbols `tohost` and
 * `fromhost`. There is no specification; this is what riscv-tests and its environments do. A value of `tohost` is a
 * device (63:56), a command (55:48) and a payload.
 */
export interface HtifPorts {
  readonly memory: GuestMemory;
  /** Guest-physical. */
  readonly tohost: bigint;
  readonly fromhost?: bigint | undefined;
  readonly write: (bytes: Uint8Array) => void;
  readonly end: (ending: { readonly outcome: 'passed' | 'failed'; readonly code?: number }) => void;
}

interface Request {
  readonly ports: HtifPorts;
  readonly payload: bigint;
}
/** What goes back into `fromhost`, or undefined where nothing does. */
type Handler = (request: Request) => bigint | undefined;

const load64 = (memory: GuestMemory, address: bigint): bigint => {
  const bytes = new Uint8Array(8);
  memory.load(address, bytes);
  return new DataView(bytes.buffer).getBigUint64(0, true);
};
const store64 = (memory: GuestMemory, address: bigint, value: bigint): void => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, value), true);
  memory.store(address, bytes);
};

const finish = ({ end }: HtifPorts, code: bigint): void =>
  end(code === 0n ? { outcome: 'passed' } : { outcome: 'failed', code: Number(code) });

const enosys = -38n;
/** No text of a test program is longer. */
const mostText = 1n << 16n;
/** Linux system calls by number, with a0 … a2; what they return. */
const systemCalls: Readonly<Record<string, (ports: HtifPorts, args: readonly bigint[]) => bigint>> = {
  64: ({ memory, write }, [, address = 0n, length = 0n]) => {
    const text = length <= mostText ? memory.bytes(Number(address), Number(length)) : undefined;
    if (!text) return -14n;
    write(text);
    return length;
  },
  93: (ports, [code = 0n]) => {
    finish(ports, code);
    return 0n;
  },
};

/** Device and command → what they do. */
const handlers: Readonly<Record<string, Handler>> = {
  // Bit 0: the end, with a code above it. Otherwise the address of a system call: number, a0, a1, a2.
  '0/0': ({ ports, payload }) => {
    if (payload & 1n) {
      finish(ports, payload >> 1n);
      return undefined;
    }
    const [number = 0n, ...args] = [0n, 8n, 16n, 24n].map((offset) => load64(ports.memory, payload + offset));
    store64(ports.memory, payload, systemCalls[String(number)]?.(ports, args) ?? enosys);
    return 1n;
  },
  '1/1': ({ ports, payload }) => {
    ports.write(Uint8Array.of(Number(payload & 0xffn)));
    return undefined;
  },
};

/** To be called behind every store near `tohost`. What it does not know ends nothing and answers nothing. */
export const answerHtif = (ports: HtifPorts): void => {
  const { memory, tohost, fromhost } = ports;
  const value = load64(memory, tohost);
  if (value === 0n) return;
  const handler = handlers[`${value >> 56n}/${(value >> 48n) & 0xffn}`];
  const answer = handler?.({ ports, payload: value & 0xffff_ffff_ffffn });
  store64(memory, tohost, 0n);
  if (answer !== undefined && fromhost !== undefined) store64(memory, fromhost, answer);
};
