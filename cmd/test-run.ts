/** `iommulab test`: finds the scenarios, judges all of them, and runs them over threads. */
import { readdirSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { ReporterName } from './conformance.ts';
import { CommandError, exitCodes } from './exit.ts';
import { fileError, OutputFile } from './files.ts';
import { stderr, stdout } from './output.ts';
import { Progress } from './progress.ts';
import type { Shard } from './test.ts';
import { pool } from './test-pool.ts';
import { testReporters } from './test-report.ts';
import { type Job, readScenario } from './test-worker.ts';

export interface TestOptions {
  readonly reporter: ReporterName;
  readonly output?: string | undefined;
  readonly shard?: Shard | undefined;
  readonly jobs?: number | undefined;
  readonly seed?: number | undefined;
  readonly updateGoldens?: true | undefined;
}

const isScenario = (name: string): boolean => /\.(?:ya?ml|json)$/.test(name);

/** Every scenario once, in an order that does not depend on the file system. */
function findScenarios(paths: readonly string[]): readonly string[] {
  const found = new Set<string>();
  for (const path of paths) {
    try {
      if (!statSync(path).isDirectory()) {
        found.add(path);
        continue;
      }
      const names = readdirSync(path, { recursive: true, encoding: 'utf8' }).filter(isScenario);
      if (names.length === 0)
        throw new CommandError('usage', `${path}: expected a folder with scenarios (.yaml), found none in it`);
      for (const name of names) found.add(join(path, name));
    } catch (error) {
      throw fileError(error, path, 'a scenario, or a folder of them');
    }
  }
  return [...found].toSorted((a, b) => (a < b ? -1 : 1));
}

/** Every problem of every file, at once. */
function judgeAll(paths: readonly string[], seed: number | undefined) {
  const problems: string[] = [];
  const scenarios = paths.map((path) => {
    try {
      return readScenario(path, seed);
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      problems.push(error.message, ...error.more);
      return undefined;
    }
  });
  if (problems.length > 0) throw new CommandError('usage', problems[0]!, problems.slice(1));
  return scenarios.map((scenario) => scenario!);
}

/** Runs them; the exit code: 1 when one failed. */
export async function test(paths: readonly string[], options: TestOptions): Promise<number> {
  const all = findScenarios(paths);
  const { shard = { index: 1, count: 1 }, seed } = options;
  const files = all.filter((_, i) => i % shard.count === shard.index - 1);
  const scenarios = judgeAll(files, seed);
  const output = options.output === undefined ? undefined : new OutputFile(options.output, 'a report');
  const reporter = testReporters[options.reporter]((text) => (output ? output.write(`${text}\n`) : stdout.line(text)));
  const jobs: Job[] = files.map((path, index) => ({
    index,
    path,
    seed,
    updatesGoldens: options.updateGoldens === true,
  }));
  const threads = options.jobs ?? availableParallelism();
  const running = pool(jobs, threads);
  let ending: number = exitCodes.passed.code;
  let isInterrupted = false;
  const interrupt = (): void => {
    if (isInterrupted) process.exit(exitCodes.interrupted.code);
    isInterrupted = true;
    stderr.line('stopping (Ctrl-C again: at once)');
    running.stop();
  };
  process.on('SIGINT', interrupt);
  const start = performance.now();
  let done = 0;
  const progress = new Progress('scenarios');
  const told = setInterval(() => progress.show(() => `${done} of ${files.length}, ${threads} at a time`), 100);
  try {
    await running.run(({ index, result, error }) => {
      done++;
      if (error) {
        for (const sentence of error.sentences) stderr.line(`${stderr.colors.red('iommulab:')} ${sentence}`);
        ending = Math.max(ending, error.code);
        return;
      }
      const { name = files[index]!, claim } = scenarios[index]!;
      reporter.result({ file: files[index]!, name, ...(claim === undefined ? {} : { claim }), ...result! });
      if (result!.status === 'failed') ending = Math.max(ending, exitCodes.failed.code);
    });
    reporter.end();
  } finally {
    clearInterval(told);
    progress.end();
    process.off('SIGINT', interrupt);
    output?.close();
  }
  const wall = ((performance.now() - start) / 1000).toFixed(1);
  stderr.line(
    `${done} of ${files.length} scenarios in ${wall} s, ${Math.min(threads, Math.max(1, files.length))} at a time`,
  );
  return isInterrupted ? exitCodes.interrupted.code : ending;
}
