import { catalogue, eventFilter } from '#vmm/record/catalogue';
import { newCommand } from './command.ts';
import { CommandError } from './exit.ts';
import { printJson, stdout, table } from './output.ts';

const listCommand = () =>
  newCommand('list')
    .description('list the events that a machine can tell')
    .argument('[glob...]', 'only events whose names match, such as iommufd.*')
    .addHelpText('before', 'Examples:\n  iommulab trace list\n  iommulab trace list "iommu.*" --json\n')
    .option('--json', 'as one JSON document')
    .action((globs, _, command) => {
      // trace has an option of the same name, and takes it.
      const options: { readonly json?: unknown } = command.optsWithGlobals();
      const matches = eventFilter(globs.length > 0 ? globs : ['*']);
      const rows = [...catalogue].filter(([name]) => matches(name));
      if (options.json) return printJson(rows.map(([name, row]) => ({ name, level: 'debug', ...row })));
      stdout.line(
        table(rows.map(([name, row]) => [name, row.level ?? 'debug', Object.keys(row.fields).join(' '), row.doc])),
      );
    });

export const traceCommand = () =>
  newCommand('trace')
    .description('read a trace that --trace has written, in the manner of perf trace')
    .argument('[file]', 'JSON lines; - for stdin')
    .addHelpText(
      'before',
      'Examples:\n  iommulab trace dma.jsonl\n  iommulab trace dma.jsonl -e "IOMMU_HWPT_*" -e iommu.command\n  iommulab trace dma.jsonl --errors\n  iommulab trace dma.jsonl -s\n  iommulab trace list\n',
    )
    .option('-e, --event <glob>', 'only these events or calls (repeatable)', collect)
    .option('--errors', 'only what went wrong: errno, faults, refusals, warnings')
    .option('-s, --summary', 'calls, errors and times of each kind instead of the events')
    .option('--json', 'the events as JSON lines, or the summary as one JSON document')
    .action(async (file, options) => {
      if (file === undefined) throw new CommandError('usage', 'expected a trace file, or list');
      const { readTrace } = await import('./trace-file.ts');
      readTrace(file, options);
    })
    .addCommand(listCommand());

function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}
