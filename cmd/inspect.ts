import { Argument, Option } from '@commander-js/extra-typings';
import { findInspection, inspectionNames, inspections } from '#vmm/inspect/inspections';
import { newCommand } from './command.ts';
import { keyHelp, machineOptions } from './options.ts';
import { stopPointHelp } from './stop-point.ts';

const inspectionHelp = (): string =>
  ['What can be looked at:', ...inspectionNames.map((name) => `  ${name.padEnd(13)} ${inspections[name].doc}`)].join(
    '\n',
  );

export function inspectCommand() {
  const command = newCommand('inspect')
    .description('run a guest to a point and look at the machine: registers, tables, caches, objects, queues')
    .addArgument(new Argument('<what>', 'what to look at').choices(inspectionNames))
    .addHelpText(
      'before',
      'Examples:\n  iommulab inspect commands\n  iommulab inspect registers --run hello --at instructions:10000\n  iommulab inspect page-table --run dma --disk disk.img --nic hub --nic hub --at event:nvme.ready\n  iommulab inspect objects --run dma --disk disk.img --at end --json\n',
    )
    .addHelpText('after', () => `\n${inspectionHelp()}\n\n${stopPointHelp()}\n\n${keyHelp()}`);
  for (const option of machineOptions()) command.addOption(option);
  return command
    .addOption(new Option('--run <guest>', 'the guest to run: name of a bundled guest, or path of a kernel'))
    .addOption(new Option('--at <point>', 'look when this has come').default('end'))
    .option('--json', 'as one JSON document')
    .option('-v, --verbose', 'show the guest’s console on stderr')
    .action(async (what, options) => {
      const { inspect } = await import('./inspect-run.ts');
      await inspect(findInspection(what)!, options);
    });
}
