import { Argument, InvalidArgumentError, Option } from '@commander-js/extra-typings';
import { newCommand } from './command.ts';
import { reporterNames } from './conformance.ts';

/** `2/5`: the second of five parts. */
export interface Shard {
  readonly index: number;
  readonly count: number;
}

function shardOf(text: string): Shard {
  const [, index, count] = /^(\d{1,6})\/(\d{1,6})$/.exec(text) ?? [];
  const shard = { index: Number(index), count: Number(count) };
  if (index === undefined || shard.index < 1 || shard.index > shard.count)
    throw new InvalidArgumentError('Expected i/n with i from 1 to n, such as 2/5.');
  return shard;
}

const numberOf =
  (min: number, max: number) =>
  (text: string): number => {
    const value = /^(?:\d{1,10}|0x[0-9a-f]{1,8})$/i.test(text) ? Number(text) : Number.NaN;
    if (!(value >= min && value <= max))
      throw new InvalidArgumentError(`Expected a whole number from ${min} to ${max}.`);
    return value;
  };

export const testCommand = () =>
  newCommand('test')
    .description('run scenario files: a machine, and what must and must not happen on it')
    .addArgument(new Argument('<path...>', 'scenario files (YAML or JSON), or folders of them'))
    .addHelpText(
      'before',
      'Examples:\n  iommulab test test/scenarios\n  iommulab test tests/ --reporter junit --output report.xml --jobs 4\n  iommulab test tests/ --shard 2/5 --seed 7\n',
    )
    .addOption(
      new Option('--reporter <name>', 'how results are printed').choices(reporterNames).default('pretty' as const),
    )
    .option('--output <file>', 'write the report there instead of to stdout')
    .addOption(new Option('--shard <i/n>', 'run only the i-th of n parts of the scenarios').argParser(shardOf))
    .addOption(
      new Option('--jobs <n>', 'scenarios at a time, each in a thread (default: one a processor)').argParser(
        numberOf(1, 256),
      ),
    )
    .addOption(
      new Option('--seed <n>', 'seed of every scenario instead of its own').argParser(numberOf(0, 0xffff_ffff)),
    )
    .option('--update-goldens', 'write the golden files instead of comparing with them')
    .action(async (paths, options) => {
      const { test } = await import('./test-run.ts');
      process.exitCode = await test(paths, options);
    });
