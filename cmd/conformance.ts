import { Argument, Option } from '@commander-js/extra-typings';
import { newCommand } from './command.ts';

export const reporterNames = ['pretty', 'tap', 'junit', 'json'] as const;
const hostNames = ['simulated', 'kernel'] as const;
export type HostName = (typeof hostNames)[number];
export type ReporterName = (typeof reporterNames)[number];

export const conformanceCommand = () =>
  newCommand('conformance')
    .description('replay recorded cases of the real thing and compare every answer')
    .addArgument(new Argument('<dir>', 'folder of recordings: an index.json and the files that it names'))
    .addHelpText(
      'before',
      'Examples:\n  iommulab conformance test/conformance/iommufd\n  iommulab conformance test/conformance/riscv-iommu --case "nested-*" --reporter junit\n',
    )
    .option('--case <glob>', 'only cases whose names match', '*')
    .addOption(
      new Option('--reporter <name>', 'how results are printed').choices(reporterNames).default('pretty' as const),
    )
    .addOption(
      new Option('--host <name>', 'whose answers: our kernel, or the one this machine runs (needs the package koffi)')
        .choices(hostNames)
        .default('simulated' as const),
    )
    .action(async (dir, options) => {
      const { conformance } = await import('./conformance-run.ts');
      process.exitCode = await conformance(dir, options);
    });
