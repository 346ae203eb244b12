/** Two harts that differ in nothing but their tiers, to be driven alike and compared. */
import { HostMemory } from '#vmm/base/memory';
import { engineBytes } from '#vmm/cpu/engine/layout';
import type { TranslatorStats } from '#vmm/cpu/engine/translator';
import { csrs } from '#vmm/cpu/riscv/csr';
import { Hart, HartGroup, type PhysicalBus } from '#vmm/cpu/riscv/hart';
import type { StopReason } from '#vmm/cpu/riscv/state';
import { ramBase } from './assembler.ts';

/** All that a program can see of a hart, by name. */
export const stateOf = (hart: Hart): Map<string, bigint> => {
  const out = new Map<string, bigint>([['pc', hart.pc], ['retired', BigInt(hart.instret)], ['privilege', BigInt(hart.privilege)]]); // prettier-ignore
  for (let i = 1; i < 32; i++) out.set(`x${i}`, hart.x(i));
  for (let i = 0; i < 32; i++) out.set(`f${i}`, hart.f(i));
  for (const { name } of csrs) {
    const value = hart.csr(name);
    if (value !== undefined) out.set(name, value);
  }
  return out;
};
/** Registers and counters only: cheap enough for after every slice. */
export const registersOf = (hart: Hart): string => {
  let text = `${hart.pc} ${hart.instret} ${hart.privilege}`;
  for (let i = 1; i < 32; i++) text += ` ${hart.x(i)}`;
  return text;
};
export const stateDifferences = (a: ReadonlyMap<string, bigint>, b: ReadonlyMap<string, bigint>): string[] =>
  [...a]
    .filter(([name, value]) => b.get(name) !== value)
    .map(([name, value]) => `${name}: interpreted ${value.toString(16)}, translated ${b.get(name)?.toString(16)}`);

export interface TwinOptions {
  readonly entryMode: 's' | 'm';
  readonly guestBytes: number;
  readonly bus?: PhysicalBus;
  readonly translateAfter?: number;
}

export class Twins {
  readonly harts: readonly [Hart, Hart];
  readonly #groups: readonly HartGroup[];

  constructor({ entryMode, guestBytes, bus, translateAfter = 1 }: TwinOptions) {
    this.#groups = [0, translateAfter].map((after) => {
      const memory = new HostMemory({ engineBytes: engineBytes({ harts: 1, guestBytes }), poolBytes: 0, guestBytes });
      return new HartGroup({ memory, ramBase, harts: 1, translateAfter: after });
    });
    const nothing: PhysicalBus = { read: () => undefined, write: () => false };
    this.harts = this.#groups.map((group) => new Hart({ group, id: 0, bus: bus ?? nothing, entryMode })) as [Hart, Hart]; // prettier-ignore
  }
  get translated(): Readonly<TranslatorStats> {
    return this.#groups[1]!.translator!.stats;
  }
  #guest(group: HartGroup): Uint8Array {
    const { bytes, guestBase, guestBytes } = group.memory;
    return bytes.subarray(guestBase, guestBase + guestBytes);
  }
  /** As a device would: harts know nothing of it. */
  write(offset: number, bytes: Uint8Array): void {
    for (const group of this.#groups) this.#guest(group).set(bytes, offset);
  }
  words(offset: number, words: readonly number[]): void {
    this.write(offset, new Uint8Array(Uint32Array.from(words).buffer));
  }
  /** Memory is cleared, and `each` says how both begin. */
  reset(pc: number, each: (hart: Hart) => void = () => undefined): void {
    for (const group of this.#groups) this.#guest(group).fill(0);
    for (const hart of this.harts) {
      hart.setTimeBase(0);
      hart.reset(pc, 0, 0);
    }
    this.both(each);
  }
  both(action: (hart: Hart) => void): void {
    for (const hart of this.harts) action(hart);
  }
  /** Why both stopped; an Error where they no longer agree. `before` hears whose turn it is, on a bus that both share. */
  run(budget: number, before?: (index: 0 | 1) => void): StopReason {
    const [a, b] = this.harts;
    before?.(0);
    const one = a.run(budget);
    before?.(1);
    const other = b.run(budget);
    if (one !== other || registersOf(a) !== registersOf(b)) {
      const found = stateDifferences(stateOf(a), stateOf(b));
      throw new Error(`${one}, ${other} at instruction ${a.instret}: ${found.slice(0, 10).join('; ')}`);
    }
    return one;
  }
  /** CSRs, floating-point registers and memory as well. */
  compare(): void {
    const [a, b] = this.harts;
    const found = stateDifferences(stateOf(a), stateOf(b));
    const [x, y] = this.#groups.map((group) => this.#guest(group)) as [Uint8Array, Uint8Array];
    if (Buffer.compare(x, y) !== 0) {
      const at = x.findIndex((byte, i) => byte !== y[i]);
      found.push(`memory at ${at.toString(16)}: interpreted ${x[at]}, translated ${y[at]}`);
    }
    if (found.length > 0) throw new Error(`at instruction ${a.instret}: ${found.slice(0, 10).join('; ')}`);
  }
}
