import { newCommand } from './command.ts';
import { Argument } from '@commander-js/extra-typings';
import { type DemoName, demos } from './demos.ts';

const names = Object.keys(demos) as DemoName[];

export const demoCommand = () =>
  newCommand('demo')
    .description('run a bundled guest and tell what happens: guest step → vIOMMU command → iommufd calls → hardware')
    .addArgument(
      new Argument(
        '<demo>',
        Object.entries(demos)
          .map(([name, { doc }]) => `${name}: ${doc}`)
          .join('; '),
      ).choices(names),
    )
    .addHelpText(
      'before',
      'Examples:\n  iommulab demo dma\n  iommulab demo vpri --trace-perfetto vpri.json\n  iommulab demo dma --json\n  iommulab demo dma --disk disk.img --trace dma.jsonl -v\n',
    )
    .option('--disk <path>', 'use this image, made by an earlier --keep, instead of a new one')
    .option('--keep', 'keep the new disk image and say where it is')
    .option('--trace <file>', 'write every event as JSON lines')
    .option('--trace-perfetto <file>', 'write the run as a file that Perfetto opens (ui.perfetto.dev)')
    .option('--seed <n>', 'seed of the disk’s content and of everything random')
    .option('--timeout <time>', 'stop after this much wall time', '120s')
    .option('--json', 'the story, the checks and the numbers as one JSON document')
    .option('-v, --verbose', 'show every event on stderr')
    .action(async (name, options) => {
      const { runDemo } = await import('./demo-run.ts');
      process.exitCode = await runDemo(name, options);
    });
