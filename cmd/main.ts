#!/usr/bin/env node
/** The command line. Only this folder touches process, argv and stdout. */
import { CommanderError } from '@commander-js/extra-typings';
import { newCommand } from './command.ts';
import { configCommand } from './config.ts';
import { demoCommand } from './demo.ts';
import { CommandError, exitCodeHelp, exitCodes } from './exit.ts';
import { imagesCommand } from './images.ts';
import { stderr } from './output.ts';
import { runCommand } from './run.ts';
import { traceCommand } from './trace.ts';
import { version } from './version.ts';

const program = newCommand('iommulab')
  .description('Boots guests whose devices do their DMA through a vIOMMU, iommufd and a host IOMMU, all simulated.')
  .version(version)
  .option('--color', 'colour, also where no terminal is')
  .option('--no-color', 'no colour (also NO_COLOR=1)')
  .addHelpText(
    'before',
    () =>
      'Examples:\n  iommulab demo dma\n  iommulab run hello --memory 64M\n  iommulab run dma --disk disk.img --nic hub --nic hub --trace dma.jsonl\n',
  )
  .addHelpText('after', () => `\n${exitCodeHelp()}`)
  .addCommand(demoCommand())
  .addCommand(runCommand())
  .addCommand(imagesCommand())
  .addCommand(configCommand())
  .addCommand(traceCommand());

const say = (message: string): void => stderr.line(`${stderr.colors.red('iommulab:')} ${message}`);

/** Says what went wrong; the exit code. */
function explain(error: unknown): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    // `(Did you mean …?)` comes on a line of its own; without arguments the help itself was the answer.
    const sentence = error.message
      .replace(/^error: /, '')
      .replace(/\n\(Did/, ' (did')
      .replaceAll('\n', ' ');
    if (error.code !== 'commander.help') say(sentence);
    return exitCodes.usage.code;
  }
  if (error instanceof CommandError) {
    for (const sentence of [error.message, ...error.more]) say(sentence);
    return exitCodes[error.ending].code;
  }
  say(`this is a bug of iommulab: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  return exitCodes.bug.code;
}

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = explain(error);
}
