/** `--snapshot-at`: when a run is saved, and what becomes of it then. */
import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Machine, RunResult, Until } from '#vmm/machine/machine';
import { CommandError } from './exit.ts';
import { parseStopPoint } from './stop-point.ts';

interface SnapshotOptionValues {
  readonly snapshotAt?: string | undefined;
  readonly snapshotTo?: string | undefined;
  readonly snapshotThen?: string | undefined;
}

const thens = ['stop', 'continue'] as const;

/** The place in a run at which it is to be saved. */
export class SnapshotPoint {
  readonly label: string;
  readonly path: string;
  readonly goesOn: boolean;
  /** Undefined: at the end. */
  readonly #until: Until | undefined;
  isDone = false;

  private constructor(label: string, path: string, goesOn: boolean) {
    this.label = label;
    this.path = path;
    this.goesOn = goesOn;
    this.#until = parseStopPoint(label, '--snapshot-at');
  }

  static of({ snapshotAt, snapshotTo, snapshotThen = 'stop' }: SnapshotOptionValues): SnapshotPoint | undefined {
    if (snapshotAt === undefined && snapshotTo === undefined) return undefined;
    if (snapshotAt === undefined || snapshotTo === undefined)
      throw new CommandError('usage', 'expected --snapshot-at and --snapshot-to together, found one of them');
    if (!(thens as readonly string[]).includes(snapshotThen))
      throw new CommandError('usage', `--snapshot-then: expected ${thens.join(' or ')}, found ${JSON.stringify(snapshotThen)}`); // prettier-ignore
    // Told now rather than after a long run.
    if (!statSync(dirname(snapshotTo), { throwIfNoEntry: false })?.isDirectory())
      throw new CommandError('usage', `${snapshotTo}: expected a place for a snapshot, but its folder does not exist`);
    return new SnapshotPoint(snapshotAt, snapshotTo, snapshotThen === 'continue');
  }

  get isAtEnd(): boolean {
    return this.#until === undefined;
  }

  /** What of it a slice of the run must look for. Instructions and time are since power-on. */
  narrow(until: Until, machine: Machine): Until {
    if (this.isDone || !this.#until) return until;
    const { console, event, instructions = Infinity, virtualNs = Infinity } = this.#until;
    return {
      ...until,
      ...(console === undefined ? {} : { console }),
      ...(event === undefined ? {} : { event }),
      instructions: Math.max(0, Math.min(until.instructions ?? Infinity, instructions - machine.instructions)),
      virtualNs: Math.max(0, Math.min(until.virtualNs ?? Infinity, virtualNs - machine.clock.now)),
    };
  }

  isThere({ outcome }: RunResult, machine: Machine): boolean {
    if (this.isDone || !this.#until) return false;
    const { instructions = Infinity, virtualNs = Infinity } = this.#until;
    return outcome === 'met' || machine.instructions >= instructions || machine.clock.now >= virtualNs;
  }
}
