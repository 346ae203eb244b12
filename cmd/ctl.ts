import { verbs } from '#vmm/control/verbs';
import { newCommand } from './command.ts';

const verbHelp = (): string => {
  const form = ([name, sentence]: [string, string]): string =>
    name === '*'
      ? sentence === ''
        ? ''
        : 'key=value…'
      : name.endsWith('?')
        ? `[${name.slice(0, -1)}=…]`
        : `${name}=…`;
  const rows = Object.entries(verbs).map(([name, { doc, args }]) => {
    const forms = Object.entries(args)
      .map(form)
      .filter((text) => text !== '');
    return `  ${[name, ...forms].join(' ').padEnd(28)} ${doc}`;
  });
  return ['Verbs:', ...rows].join('\n');
};

export const ctlCommand = () =>
  newCommand('ctl')
    .description('ask a run that was started with --control')
    .argument('<path>', 'the socket')
    .argument('<verb>', 'what to ask')
    .argument('[key=value...]', 'arguments of the verb; values are JSON, or text')
    .addHelpText(
      'before',
      'Examples:\n  iommulab run dma --disk disk.img --control vm.sock &\n  iommulab ctl vm.sock stop\n  iommulab ctl vm.sock inspect what=queues\n  iommulab ctl vm.sock explain device=nvme0 address=0x40000000\n  iommulab ctl vm.sock inject kind=ioctl name=IOMMU_HWPT_ALLOC errno=ENOMEM\n  iommulab ctl vm.sock cont\n  iommulab ctl vm.sock device_add driver=nvme id=d path=disk.img\n  iommulab ctl vm.sock quit\n',
    )
    .addHelpText('after', () => `\n${verbHelp()}`)
    .option('--json', 'the answer as one JSON document, also where it is a table')
    .action(async (path, verb, args, options) => {
      const { ask } = await import('./ctl-client.ts');
      await ask(path, verb, args, options.json === true);
    });
