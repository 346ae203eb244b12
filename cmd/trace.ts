import { catalogue, eventFilter } from '#vmm/record/catalogue';
import { newCommand } from './command.ts';
import { printJson, stdout, table } from './output.ts';

const listCommand = () =>
  newCommand('list')
    .description('list the events that a machine can tell')
    .argument('[glob...]', 'only events whose names match, such as iommufd.*')
    .option('--json', 'as one JSON document')
    .action((globs, options) => {
      const matches = eventFilter(globs.length > 0 ? globs : ['*']);
      const rows = [...catalogue].filter(([name]) => matches(name));
      if (options.json) return printJson(rows.map(([name, row]) => ({ name, level: 'debug', ...row })));
      stdout.line(
        table(rows.map(([name, row]) => [name, row.level ?? 'debug', Object.keys(row.fields).join(' '), row.doc])),
      );
    });

export const traceCommand = () => newCommand('trace').description('what can be traced').addCommand(listCommand());
