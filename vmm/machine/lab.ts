import type { EventFields, TraceEvent } from '#vmm/base/events';
import { issueText } from '../config/issues.ts';
import { parseConfig } from '../config/parse.ts';
import type { MachineConfigInput } from '../config/schema.ts';
import { Machine, type MachineHost, type RunResult, type Until } from './machine.ts';
import { MachineError } from './machine-error.ts';

/** What a test gives besides the machine's keys. */
export interface LabHost extends Omit<MachineHost, 'openDisk' | 'console'> {
  /** Needed where the machine has disks. */
  readonly openDisk?: MachineHost['openDisk'];
  readonly console?: MachineHost['console'];
  /** Events that are kept, the latest ones (default 100 000; 0: none, and the run is faster). */
  readonly keptEvents?: number;
}

const keptConsole = 16 << 20;
/** A guest that never ends does not keep a test from ending. */
const mostInstructions = 4e9;

/** A machine in a test: everything that it said and did is kept, for assertions afterwards. */
export class Lab {
  readonly machine: Machine;
  /** Trace events, oldest first. */
  readonly events: TraceEvent[] = [];
  #console = '';
  #result: RunResult | undefined;

  /** @throws MachineError with every problem of the keys, or of the guest */
  constructor(keys: MachineConfigInput, host: LabHost) {
    const parsed = parseConfig(keys);
    if (!parsed.ok) throw new MachineError(parsed.issues.map((issue) => issueText(issue)));
    const { keptEvents = 100_000, openDisk, console, listeners = [] } = host;
    const decoder = new TextDecoder();
    const keep = (event: TraceEvent): void => {
      this.events.push(event);
      // Now and then, not with every event: shift moves all of them.
      if (this.events.length > 2 * keptEvents) this.events.splice(0, this.events.length - keptEvents);
    };
    this.machine = Machine.create(parsed.config, {
      ...host,
      openDisk: (disk) => {
        if (!openDisk) throw new MachineError([`${disk.id}: expected openDisk for a machine with disks`]);
        return openDisk(disk);
      },
      console: (bytes) => {
        if (this.#console.length < keptConsole) this.#console += decoder.decode(bytes, { stream: true });
        console?.(bytes);
      },
      listeners: keptEvents > 0 ? [keep, ...listeners] : listeners,
    });
  }

  /** All that the guest wrote. */
  get console(): string {
    return this.#console.replaceAll('\r', '');
  }

  /** What the latest `run` gave. */
  get result(): RunResult | undefined {
    return this.#result;
  }

  /** As `Machine.run`; without a limit of instructions of its own it ends after 4·10⁹ of them. */
  run(until: Until = {}): RunResult {
    return (this.#result = this.machine.run({ instructions: mostInstructions, ...until }));
  }

  /** As `Machine.event`. */
  event(name: string, where: EventFields = {}): Promise<TraceEvent> {
    return this.machine.event(name, where, { instructions: mostInstructions });
  }

  close(): void {
    this.machine.close();
  }
}
