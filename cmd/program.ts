/** The tree of commands, and how each error ends. */
import { CommanderError, type CommandUnknownOpts } from '@commander-js/extra-typings';
import { newCommand } from './command.ts';
import { benchCommand } from './bench.ts';
import { conformanceCommand } from './conformance.ts';
import { completionCommand } from './completion.ts';
import { configCommand } from './config.ts';
import { ctlCommand } from './ctl.ts';
import { demoCommand } from './demo.ts';
import { CommandError, exitCodeHelp, exitCodes } from './exit.ts';
import { explainCommand } from './explain.ts';
import { imagesCommand } from './images.ts';
import { inspectCommand } from './inspect.ts';
import { manCommand } from './man.ts';
import { resumeCommand } from './resume.ts';
import { runCommand } from './run.ts';
import { testCommand } from './test.ts';
import { traceCommand } from './trace.ts';
import { version } from './version.ts';

export const program = (): CommandUnknownOpts =>
  newCommand('iommulab')
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
    .addCommand(resumeCommand())
    .addCommand(testCommand())
    .addCommand(imagesCommand())
    .addCommand(configCommand())
    .addCommand(inspectCommand())
    .addCommand(explainCommand())
    .addCommand(traceCommand())
    .addCommand(ctlCommand())
    .addCommand(conformanceCommand())
    .addCommand(benchCommand())
    .addCommand(completionCommand(program))
    .addCommand(manCommand(program));

/** What to say on stderr, one sentence a line, and the exit code. */
export function explain(error: unknown): { readonly sentences: readonly string[]; readonly code: number } {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return { sentences: [], code: 0 };
    // Without arguments the help itself was the answer. `(Did you mean …?)` comes on a line of its own.
    const sentence = error.message
      .replace(/^error: /, '')
      .replace('\n(Did', ' (did')
      .replaceAll('\n', ' ');
    return { sentences: error.code === 'commander.help' ? [] : [sentence], code: exitCodes.usage.code };
  }
  if (error instanceof CommandError)
    return { sentences: [error.message, ...error.more], code: exitCodes[error.ending].code };
  const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { sentences: [`this is a bug of iommulab: ${what}`], code: exitCodes.bug.code };
}
