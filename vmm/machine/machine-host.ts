/** What a machine is given from outside, and what its run is asked and gives. */
import type { Clock } from '#vmm/base/clock';
import type { EventFields, Listener, Recollection, Trace, TraceSink } from '#vmm/base/events';
import type { PacketBackend, StorageBackend } from '#vmm/base/ports';
import type { DiskConfig, MachineConfig, NicConfig } from '../config/schema.ts';
import type { PlacedFunction } from './devices.ts';
import type { PluggedDevice } from './hot-plug.ts';
import type { Trap } from './trap.ts';

/** Everything from outside that a machine needs: it opens no file and reads no clock itself. */
export interface MachineHost {
  /** The guest's ELF file or Linux `Image`, not compressed. */
  readonly image: Uint8Array;
  /** The initial RAM disk of a Linux kernel. */
  readonly initrd?: Uint8Array;
  openDisk(disk: DiskConfig): StorageBackend;
  /** Needed for network cards whose backend is stream or dgram; closed by whoever opened it. */
  openNetwork?(nic: NicConfig): PacketBackend;
  /** A wire of `openNetwork` whose card was taken out. */
  closeNetwork?(wire: PacketBackend): void;
  /** Takes the bytes of the pcapng file that `capture` of the configuration names. */
  capture?(bytes: Uint8Array): void;
  /** Bytes that the guest wrote to its console; valid only during the call. */
  console(bytes: Uint8Array): void;
  /** Hear events from power-on; `trace.listen` comes too late for the calls that set the host up. */
  readonly listeners?: readonly (TraceSink | Listener)[];
  /** Keeps the last events. */
  readonly recollection?: Recollection | undefined;
  /** Devices besides those of the configuration. */
  devices?(sources: { readonly clock: Clock; readonly trace: Trace }): readonly PlacedFunction[];
  /** Told when the translation of guest code begins and ends, for who measures it. */
  readonly onTranslating?: (isBusy: boolean) => void;
}

/** The same for a machine that is taken up again; its guest is in the snapshot. */
export interface ResumeHost extends Omit<MachineHost, 'image' | 'initrd'> {
  /** Keys that concern the run, not the machine, may be others than those of the machine that was saved. */
  readonly config?: MachineConfig;
  /** `Snapshot.plugged`, where its disks are elsewhere now. */
  readonly plugged?: readonly PluggedDevice[];
}

/** What a machine needs of it once it has its guest. */
export type BuildHost = Omit<MachineHost, 'image'>;

/** When `run` comes back before the guest has ended; whichever is met first. */
export interface Until {
  /** Instructions retired by all harts, from now. */
  readonly instructions?: number;
  /** Nanoseconds of virtual time, from now. */
  readonly virtualNs?: number;
  /** Text on the console, in what comes from now on. */
  readonly console?: string;
  /** Name of a trace event. */
  readonly event?: string;
  /** With `event`: what its fields must be. */
  readonly where?: EventFields;
  /**
   * Where several harts share the machine, stop only when all have had their turn, so that the run goes on as if nobody
   * had stopped it. One hart's run does not depend on where it is stopped.
   */
  readonly undisturbed?: boolean;
  /** A pc that some hart comes to: a breakpoint. Every instruction is a step of its own then, some 10⁶ a second. */
  readonly address?: number | bigint;
}

/**
 * passed, failed: the guest said so. reset: it asked for one. crashed: a trap led nowhere. timeout: every hart waits and
 * nothing can ever wake one. breakpoint: a hart whose breakpoints are caught met one. limit: `instructions` or
 * `virtualNs` are used up. met: the text, event or address came, or somebody interrupted.
 */
export type RunOutcome = 'passed' | 'failed' | 'reset' | 'crashed' | 'timeout' | 'breakpoint' | 'limit' | 'met';
export interface RunResult {
  readonly outcome: RunOutcome;
  /** The guest's own code, where it failed with one. */
  readonly code?: number;
  readonly trap?: Trap;
  /** The hart that met a breakpoint. */
  readonly hart?: number;
  /** Since power-on. */
  readonly instructions: number;
  readonly virtualNs: number;
}
