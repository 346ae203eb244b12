/** A scenario under way: its machine, and what its steps wait for. */
import type { TraceEvent } from '#vmm/base/events';
import { Machine, type MachineHost, type ResumeHost, type RunResult } from '../machine/machine.ts';
import { jsonLine } from '../record/jsonl.ts';
import { LastEvents } from '../record/text.ts';
import { eventFilter } from '../record/catalogue.ts';
import { ConsoleWatch } from './console.ts';
import { EventWatch } from './event-watch.ts';
import type { Scenario } from './parse.ts';

/** Everything from outside that a scenario needs. */
export interface ScenarioHost extends Pick<MachineHost, 'image' | 'initrd' | 'openDisk' | 'openNetwork'> {
  /** The text of a golden file, undefined where there is none yet. */
  readGolden?(path: string): string | undefined;
  /** Present: goldens are written, not compared. */
  writeGolden?(path: string, text: string): void;
}

/** A step did not hold. */
export class StepFailure extends Error {
  override readonly name = 'StepFailure';
  readonly expected: string;
  readonly actual: string;
  constructor(expected: string, actual: string) {
    super(`expected ${expected}, found ${actual}`);
    this.expected = expected;
    this.actual = actual;
  }
}

const rememberedEvents = 16;
/** A scenario that gives no limit of its own ends here. */
const defaultInstructions = 4e9;
/** Traces kept for a golden file. */
const mostTraceCharacters = 64 << 20;

/** A scenario under way: what its steps work on. */
export class ScenarioRun {
  readonly scenario: Scenario;
  readonly host: ScenarioHost;
  #machine: Machine;
  readonly console = new ConsoleWatch(() => this.machine.stop());
  readonly events: EventWatch;
  readonly last = new LastEvents(rememberedEvents);
  /** JSON lines so far, where a golden file asks for them. */
  trace = '';
  #result: RunResult | undefined;
  /** Snapshots by their names, with how the guest had ended by then. */
  readonly #kept = new Map<string, { readonly bytes: Uint8Array; readonly result: RunResult | undefined }>();
  /** What closing a machine does is no part of the scenario. */
  #isDeaf = false;
  readonly #resumeHost: ResumeHost;

  constructor(scenario: Scenario, host: ScenarioHost) {
    this.scenario = scenario;
    this.host = host;
    this.events = new EventWatch(scenario.steps, () => this.machine.stop());
    const wantsTrace = scenario.steps.some(({ step }) => step.check?.golden !== undefined && step.check.of === 'trace');
    const filter = eventFilter(scenario.config.trace.events);
    const hear = (event: TraceEvent): void => {
      if (this.#isDeaf) return;
      // A guest's own words are on the console already.
      if (event.fields['region'] !== 'uart') this.last.sink(event);
      this.events.hear(event);
      if (wantsTrace && filter(event.name) && this.trace.length < mostTraceCharacters)
        this.trace += `${jsonLine(event)}\n`;
    };
    const watched = { ...host, console: (bytes: Uint8Array) => this.console.add(bytes), listeners: [hear] };
    this.#resumeHost = watched;
    this.#machine = Machine.create(scenario.config, watched);
  }

  get machine(): Machine {
    return this.#machine;
  }

  /** Keeps the machine as it is now. @throws MachineError where it cannot be */
  keep(name: string): void {
    this.#kept.set(name, { bytes: this.#machine.snapshot(), result: this.#result });
  }

  /** Puts one that was kept in the machine's place. */
  goBack(name: string): void {
    const kept = this.#kept.get(name)!;
    this.#isDeaf = true;
    this.#machine.close();
    this.#isDeaf = false;
    this.#machine = Machine.resume(kept.bytes, this.#resumeHost);
    this.#result = kept.result;
  }

  /** How the guest ended; undefined while it can still run. */
  get ended(): RunResult | undefined {
    return this.#result;
  }

  /** Runs until `isDone`, the end of the guest, or so much virtual time; true when it is done. */
  until(isDone: () => boolean, virtualNs = Infinity): boolean {
    const { machine } = this;
    const end = machine.clock.now + virtualNs;
    const most = this.scenario.config['max-instructions'] ?? defaultInstructions;
    while (!isDone()) {
      const left = most - machine.instructions;
      if (this.#result || machine.clock.now >= end || left <= 0) return false;
      this.#take(machine.run({ instructions: left, virtualNs: end - machine.clock.now }));
    }
    return true;
  }

  /** Runs on by the machine's own conditions. */
  run(until: Parameters<Machine['run']>[0]): RunResult {
    if (this.#result) return this.#result;
    const left = (this.scenario.config['max-instructions'] ?? defaultInstructions) - this.machine.instructions;
    const result = this.machine.run({ ...until, instructions: Math.min(left, until?.instructions ?? Infinity) });
    this.#take(result);
    return result;
  }

  #take(result: RunResult): void {
    if (result.outcome !== 'met' && result.outcome !== 'limit') this.#result = result;
  }

  /** The guest's end as a person would say it. */
  state(): string {
    const { ended, machine } = this;
    const at = `at ${(machine.clock.now / 1e6).toFixed(6)} ms`;
    if (!ended) return `the guest still running ${at}`;
    const trap = ended.trap ? `: ${ended.trap.name} at pc 0x${ended.trap.pc.toString(16)}` : '';
    return `the guest ${ended.outcome}${ended.code === undefined ? '' : ` with code ${ended.code}`}${trap} ${at}`;
  }
}
