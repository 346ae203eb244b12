/** A machine's snapshot as a file's bytes, and those bytes as something that a machine can be made from. */
import { type Data, recordOf, SavedError } from '#vmm/base/saved';
import { parseConfig } from '../config/parse.ts';
import type { MachineConfig } from '../config/schema.ts';
import { type Packing, plainPacking, SnapshotError, SnapshotFile, writeSnapshot } from '../snapshot/container.ts';
import { parsePlugged, type PluggedDevice } from './hot-plug.ts';
import { isIntercepted } from './intercept.ts';
import { MachineError } from './machine-error.ts';
import type { Machine } from './machine.ts';
import { restoreMachine, type SavedMachine, saveMachine } from './saved-machine.ts';

export interface SnapshotOptions {
  /** How to make it small; default: not at all, but for pages of zeroes. */
  readonly packing?: Packing;
  /** Anything that whoever resumes it should know, such as which files belong to it. */
  readonly about?: Data;
}

/** Guest-physical addresses of a test program's interface to its host. */
export interface HtifAddresses {
  readonly tohost?: bigint | undefined;
  readonly fromhost?: bigint | undefined;
}

/** A snapshot that is whole and of this format. */
export class Snapshot {
  /** Of the machine that was saved. */
  readonly config: MachineConfig;
  /** The devices that were in its hot-plug ports. */
  readonly plugged: readonly PluggedDevice[];
  /** What `SnapshotOptions.about` was. */
  readonly about: Data;
  readonly instructions: number;
  readonly virtualNs: number;
  readonly htif: HtifAddresses | undefined;
  readonly file: SnapshotFile;
  readonly #packing: Packing;

  /**
   * @param packings those that the file may have been made small with
   * @throws SnapshotError for anything but a whole snapshot of this format
   */
  constructor(bytes: Uint8Array, packings: readonly Packing[] = []) {
    this.file = new SnapshotFile(bytes);
    const packing = [plainPacking, ...packings].find(({ name }) => name === this.file.packing);
    if (!packing) throw new SnapshotError(`the snapshot is packed with ${this.file.packing}, which is not known here`);
    this.#packing = packing;
    const { config, plugged, about, instructions, virtualNs, htif } = fits(() => recordOf(this.file.header));
    const parsed = parseConfig(JSON.parse(typeof config === 'string' ? config : '{}'));
    if (!parsed.ok) throw new SnapshotError('the configuration in the snapshot is not one of this program');
    this.config = parsed.config;
    this.plugged = fits(() => parsePlugged(typeof plugged === 'string' ? plugged : '[]', parsed.config));
    this.about = about;
    this.instructions = Number(instructions);
    this.virtualNs = Number(virtualNs);
    this.htif = htif as HtifAddresses | undefined;
  }

  /** Bytes of each section, as stored and unpacked. */
  get sections(): ReturnType<SnapshotFile['sizes']> {
    return this.file.sizes();
  }

  /** Into a machine of its configuration that has not run, and into whose ports `plugged` comes. @throws SnapshotError */
  restore(machine: SavedMachine, plugged: readonly PluggedDevice[] = this.plugged): void {
    fits(() => restoreMachine(machine, plugged, (name) => this.file.read(name, this.#packing)));
  }
}

const fits = <T>(run: () => T): T => {
  try {
    return run();
  } catch (error) {
    if (error instanceof SavedError) throw new SnapshotError(`the snapshot does not fit the machine: ${error.message}`);
    throw error;
  }
};

/** Why this machine cannot be saved now. */
const obstacles = (machine: Machine): string[] => {
  const { host, assignment, disks, wires, functions, config } = machine;
  const found = functions
    .filter((placed) => placed.function.saved === undefined)
    .map(({ id }) => `snapshot: ${id} is a device that cannot be saved`);
  if (config.checks.length > 0)
    found.push(`snapshot: a machine with checks (${config.checks.join(', ')}) cannot be saved`);
  const targets: (object | undefined)[] = [
    host.kernel,
    host.link,
    assignment.viommu,
    ...disks.values(),
    ...wires.values(),
  ];
  if (targets.some((target) => target && isIntercepted(target)))
    found.push('snapshot: a fault that was injected is still to come; a machine can be saved when it is over');
  return found;
};

/** The pieces of a snapshot's file, in order; the machine must not go on before the last. @throws MachineError */
export function* snapshotPieces(
  machine: Machine,
  state: SavedMachine,
  htif: HtifAddresses | undefined,
  { packing = plainPacking, about }: SnapshotOptions,
): Generator<Uint8Array> {
  const problems = obstacles(machine);
  if (problems.length > 0) throw new MachineError(problems);
  const header: Data = {
    config: JSON.stringify(machine.config),
    plugged: JSON.stringify(machine.hotPlug.plugged),
    about,
    instructions: machine.instructions,
    virtualNs: machine.clock.now,
    htif: htif && { tohost: htif.tohost, fromhost: htif.fromhost },
  };
  try {
    yield* writeSnapshot(header, saveMachine(state), packing);
  } catch (error) {
    if (error instanceof SavedError) throw new MachineError([`snapshot: ${error.message}`]);
    throw error;
  }
}
