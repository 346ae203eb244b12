/** How the results of scenarios are printed: TAP and JUnit as for conformance, and for people and programs. */
import { formatCount, formatTime } from '#vmm/record/bytes';
import type { ScenarioFailure, ScenarioResult } from '#vmm/scenario/run';
import type { ReporterName } from './conformance.ts';
import { junit, type Print, tap } from './conformance-report.ts';
import { stdout } from './output.ts';

export interface TestResult extends ScenarioResult {
  /** The path of its file, as given. */
  readonly file: string;
  readonly name: string;
  readonly claim?: string;
}
export interface TestReporter {
  result(result: TestResult): void;
  end(): void;
}

const whereOf = (file: string, { step, line, kind }: ScenarioFailure): string =>
  `${file}${line === undefined ? '' : `:${line}`}: step ${step} (${kind})`;

/** Expected, actual, the end of the trace and of the console. */
const failureLines = ({ expected, actual, lastEvents, console }: ScenarioFailure): string[] => [
  `expected  ${expected}`,
  `actual    ${actual}`,
  'last events',
  ...(lastEvents.length === 0 ? ['  none'] : lastEvents.map((line) => `  ${line}`)),
  'console',
  ...(console.every((line) => line === '') ? ['  nothing'] : console.map((line) => `  ${line}`)),
];

function pretty(print: Print): TestReporter {
  const { colors } = stdout;
  const counts = { passed: 0, failed: 0, skipped: 0 };
  let instructions = 0;
  let virtualNs = 0;
  return {
    result: (result) => {
      const { status, name, claim, failure, file } = result;
      counts[status]++;
      instructions += result.instructions;
      virtualNs += result.virtualNs;
      const marks = { passed: colors.green('✔'), failed: colors.red('✘'), skipped: colors.yellow('–') };
      print(`${marks[status]} ${name}${claim === undefined ? '' : colors.dim(`  ${claim}`)}`);
      if (!failure) return;
      print(`  ${colors.bold(whereOf(file, failure))}`);
      for (const line of failureLines(failure)) print(`    ${line}`);
    },
    end: () => {
      const { passed, failed, skipped } = counts;
      const others = [failed > 0 ? `${failed} failed` : '', skipped > 0 ? `${skipped} skipped` : ''].filter(
        (text) => text !== '',
      );
      print(
        `${passed} of ${passed + failed + skipped} scenarios passed${others.map((text) => `, ${text}`).join('')} (${formatCount(instructions)} instructions, ${formatTime(virtualNs)} virtual)`,
      );
    },
  };
}

const asCases =
  (reporter: (print: Print) => ReturnType<typeof tap>) =>
  (print: Print): TestReporter => {
    const inner = reporter(print);
    return {
      result: ({ name, status, steps, failure, file }) =>
        inner.result({
          name,
          steps,
          isSkipped: status === 'skipped',
          difference: failure && { where: whereOf(file, failure), lines: failureLines(failure) },
        }),
      end: () => inner.end(),
    };
  };

function json(print: Print): TestReporter {
  const results: TestResult[] = [];
  const count = (status: ScenarioResult['status']): number => results.filter((one) => one.status === status).length;
  return {
    result: (result) => void results.push(result),
    end: () =>
      print(
        JSON.stringify(
          {
            scenarios: results.length,
            passed: count('passed'),
            failed: count('failed'),
            skipped: count('skipped'),
            results,
          },
          null,
          2,
        ),
      ),
  };
}

export const testReporters: Readonly<Record<ReporterName, (print: Print) => TestReporter>> = {
  pretty,
  tap: asCases(tap),
  junit: asCases((print) => junit(print, 'scenarios')),
  json,
};
