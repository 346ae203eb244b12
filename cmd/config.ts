import { configYaml } from '#vmm/config/yaml';
import { jsonSchema } from '#vmm/config/keys';
import { newCommand } from './command.ts';
import { checkDisks } from './disks.ts';
import { keyHelp, machineOptions, readMachine } from './options.ts';
import { prepare } from './prepare.ts';
import { printJson, stderr, stdout } from './output.ts';

function printCommand() {
  const command = newCommand('print')
    .description('print the whole machine, defaults filled in, as a configuration file')
    .addHelpText(
      'before',
      'Examples:\n  iommulab config print --memory 1G --nic hub > vm.yaml\n  iommulab config print --config vm.yaml --json\n',
    )
    .addHelpText('after', () => `\n${keyHelp()}`);
  for (const option of machineOptions()) command.addOption(option);
  return command.option('--json', 'as JSON instead of YAML').action((options) => {
    const config = readMachine(options);
    if (options.json) printJson(config);
    else stdout.write(configYaml(config));
  });
}

const checkCommand = () =>
  newCommand('check')
    .description('judge a configuration file: every problem with its line and column')
    .addHelpText('before', 'Examples:\n  iommulab config check vm.yaml\n')
    .argument('<file>', 'YAML or JSON')
    .action((file) => {
      const config = readMachine({ config: file });
      if (config.image === undefined && config.kernel === undefined) checkDisks(config.disks);
      else prepare(config);
      stderr.line(`${file}: good`);
    });

const schemaCommand = () =>
  newCommand('schema')
    .description('print the JSON Schema of the configuration file')
    .addHelpText('before', 'Examples:\n  iommulab config schema > iommulab.schema.json\n')
    .action(() => printJson(jsonSchema()));

export const configCommand = () =>
  newCommand('config')
    .description('print, check or describe the configuration of a machine')
    .addCommand(printCommand())
    .addCommand(checkCommand())
    .addCommand(schemaCommand());
