import { newCommand } from './command.ts';

export const benchCommand = () =>
  newCommand('bench')
    .description('measure this machine: instructions, DMA through the IOMMU, iommufd calls')
    .addHelpText('before', 'Examples:\n  iommulab bench\n  iommulab bench --only "iommu:*" --json\n')
    .option('--json', 'as one JSON document')
    .option('--only <glob>', 'only measurements whose names match')
    .action(async (options) => {
      const { bench } = await import('./bench-cases.ts');
      await bench(options);
    });
