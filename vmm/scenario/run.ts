/** Runs one scenario: a machine, and its steps in order. The same file, images and seed give the same result. */
import { MachineError } from '../machine/machine-error.ts';
import { textLine } from '../record/text.ts';
import type { PlacedStep, Scenario } from './parse.ts';
import { runStep } from './steps.ts';
import { type ScenarioHost, ScenarioRun, StepFailure } from './under-way.ts';

/** The first step that did not hold. */
export interface ScenarioFailure {
  /** 1-based, of all steps; 0: the machine could not be built. */
  readonly step: number;
  readonly kind: string;
  /** In the file. */
  readonly line?: number;
  readonly expected: string;
  readonly actual: string;
  /** The end of the trace. */
  readonly lastEvents: readonly string[];
  /** The end of the console. */
  readonly console: readonly string[];
}
export interface ScenarioResult {
  readonly status: 'passed' | 'failed' | 'skipped';
  /** Steps that held. */
  readonly steps: number;
  readonly failure?: ScenarioFailure;
  readonly instructions: number;
  readonly virtualNs: number;
}

const shownConsoleLines = 16;

const failureOf = (
  placed: PlacedStep | undefined,
  step: number,
  error: StepFailure | MachineError,
  run: ScenarioRun | undefined,
): ScenarioFailure => ({
  step,
  kind: placed?.kind ?? 'machine',
  ...(placed?.line === undefined ? {} : { line: placed.line }),
  expected: error instanceof StepFailure ? error.expected : 'a machine that can do this',
  actual: error instanceof StepFailure ? error.actual : error.message,
  lastEvents: run?.last.list().map(textLine) ?? [],
  console: run?.console.text.split('\n').slice(-shownConsoleLines - 1) ?? [],
});

/**
 * Runs a scenario to its first step that does not hold, or to its last.
 * @example
 * const parsed = parseScenarioYaml('image: hello\nsteps:\n  - expect-console: passed\n');
 * const result = runScenario(parsed.scenario, { image, openDisk });
 */
export function runScenario(scenario: Scenario, host: ScenarioHost): ScenarioResult {
  if (scenario.skip) return { status: 'skipped', steps: 0, instructions: 0, virtualNs: 0 };
  let run: ScenarioRun | undefined;
  let index = -1;
  try {
    run = new ScenarioRun(scenario, host);
    for (const [i, placed] of scenario.steps.entries()) {
      index = i;
      runStep(run, placed, i);
    }
  } catch (error) {
    if (!(error instanceof StepFailure) && !(error instanceof MachineError)) throw error;
    const failure = failureOf(scenario.steps[index], index + 1, error, run);
    return { status: 'failed', steps: Math.max(0, index), failure, ...spent(run) };
  } finally {
    run?.machine.close();
  }
  return { status: 'passed', steps: scenario.steps.length, ...spent(run) };
}

const spent = (run: ScenarioRun | undefined): { readonly instructions: number; readonly virtualNs: number } => ({
  instructions: run?.machine.instructions ?? 0,
  virtualNs: run?.machine.clock.now ?? 0,
});
