/** One machine several times over, which differ only in when code is translated: driven alike and compared. */
import { createHash } from 'node:crypto';
import { memoryStorage } from '#devices/backends/storage/memory';
import { makeDiskImage } from '#guest-images/disk-image';
import { stateDifferences, stateOf } from '#test/vmm/cpu/riscv/twins';
import type { MachineConfigInput } from '#vmm/config/schema';
import { parseConfig } from '#vmm/config/parse';
import { Machine, type MachineHost, type RunResult } from '#vmm/machine/machine';

/** A machine on which every bundled guest finds what it needs. */
export const everything: MachineConfigInput = {
  nics: [{}, {}],
  disks: [{ path: 'memory', 'pasid-bits': 20 }],
  exercisers: [{}],
};

/** How the machines differ; the first one is what the others are compared with. */
const tiers = {
  interpreted: { translate: false },
  'translated at once': { 'translate-after': 1 },
  'translated after 30': { 'translate-after': 30 },
} as const satisfies Record<string, MachineConfigInput['cpu']>;

const tierNames = Object.keys(tiers) as (keyof typeof tiers)[];

const plain = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value);

/** A machine with a digest of all that it traced and said. */
class Observed {
  readonly machine: Machine;
  readonly #trace = createHash('sha256');
  #events = 0;
  last = '';

  constructor(config: MachineConfigInput, cpu: MachineConfigInput['cpu'], host: Partial<MachineHost>) {
    const parsed = parseConfig({ ...config, cpu: { ...config.cpu, ...cpu } });
    if (!parsed.ok) throw new Error(parsed.issues.map(({ path, expected }) => `${path}: ${expected}`).join('; '));
    this.machine = Machine.create(parsed.config, {
      openDisk: () => {
        const disk = memoryStorage(24 << 20);
        disk.write(0, makeDiskImage(7));
        return disk;
      },
      ...host,
      console: (bytes) => this.#hear(`console ${Buffer.from(bytes).toString('latin1')}`),
      listeners: [(event) => this.#hear(JSON.stringify(event, plain))],
    } as MachineHost);
  }
  #hear(text: string): void {
    this.#events++;
    this.last = text;
    this.#trace.update(text);
  }
  get heard(): string {
    return `${this.#events} events, ${this.#trace.copy().digest('hex').slice(0, 16)}`;
  }
  get memory(): Uint8Array {
    const { bytes, guestBase, guestBytes } = this.machine.memory;
    return bytes.subarray(guestBase, guestBase + guestBytes);
  }
}

/** What differs from the first machine, by name; empty where nothing does. */
const differences = (first: Observed, other: Observed, isMemoryCompared: boolean): string[] => {
  const out = first.machine.harts.flatMap((hart, i) =>
    stateDifferences(stateOf(hart), stateOf(other.machine.harts[i]!)).map((text) => `hart ${i} ${text}`),
  );
  if (first.heard !== other.heard)
    out.push(`${first.heard}, last ${first.last.slice(0, 200)}; instead ${other.heard}, last ${other.last.slice(0, 200)}`); // prettier-ignore
  if (isMemoryCompared && Buffer.compare(first.memory, other.memory) !== 0) {
    const at = first.memory.findIndex((byte, i) => byte !== other.memory[i]);
    out.push(`memory at ${at.toString(16)}`);
  }
  return out;
};

/** xorshift. */
const randomFrom = (seed: number): ((below: number) => number) => {
  let state = seed * 2_654_435_761 + 1 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
};

interface Lockstep {
  readonly result: RunResult;
  readonly instructions: number;
  readonly stops: number;
}
interface LockstepOptions {
  readonly seed: number;
  /** Between two stops at most. */
  readonly stride: number;
  readonly mostInstructions: number;
  /** Memory is compared at one stop in so many, and at the end. */
  readonly memoryEvery?: number;
  /** All tiers unless told. */
  readonly compared?: readonly (keyof typeof tiers)[];
}

/** Runs to the end, stopping at random counts of instructions; an Error where the machines differ. */
export const lockstep = (
  config: MachineConfigInput,
  host: Partial<MachineHost>,
  { seed, stride, mostInstructions, memoryEvery = 1, compared = tierNames }: LockstepOptions,
): Lockstep => {
  const all = compared.map((name) => ({ name, one: new Observed(config, tiers[name], host) }));
  const [first, ...others] = all;
  const random = randomFrom(seed);
  let result: RunResult | undefined;
  let stops = 0;
  try {
    while (!result || (result.outcome === 'limit' && result.instructions < mostInstructions)) {
      // Few now and then: what a slice must not end in is somewhere.
      const budget = 1 + random(random(4) === 0 ? 100 : stride);
      result = first!.one.machine.run({ instructions: budget });
      stops++;
      const isEnd = result.outcome !== 'limit';
      for (const { name, one } of others) {
        const other = one.machine.run({ instructions: budget });
        const found = differences(first!.one, one, isEnd || stops % memoryEvery === 0);
        if (JSON.stringify(other, plain) !== JSON.stringify(result, plain))
          found.unshift(`${JSON.stringify(result, plain)}, ${JSON.stringify(other, plain)}`);
        if (found.length > 0)
          throw new Error(`${name}, at instruction ${result.instructions}: ${found.slice(0, 12).join('; ')}`);
      }
    }
    return { result, instructions: result.instructions, stops };
  } finally {
    for (const { one } of all) one.machine.close();
  }
};
