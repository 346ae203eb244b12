import { Argument } from '@commander-js/extra-typings';
import type { CommandUnknownOpts } from '@commander-js/extra-typings';
import { newCommand } from './command.ts';
import { stdout } from './output.ts';

/** `root` gives the whole tree, this command included. */
export const completionCommand = (root: () => CommandUnknownOpts) =>
  newCommand('completion')
    .description('print the completion script of a shell')
    .addHelpText(
      'before',
      'Examples:\n  eval "$(iommulab completion bash)"\n  iommulab completion zsh > ~/.zfunc/_iommulab\n  iommulab completion fish | source\n',
    )
    .addArgument(new Argument('<shell>', 'which shell').choices(['bash', 'zsh', 'fish']))
    .action(async (shell) => {
      const { commandTree } = await import('./command-tree.ts');
      const { shells } = await import('./completion-scripts.ts');
      stdout.write(shells[shell]!(commandTree(root())));
    });
