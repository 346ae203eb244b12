import type { CommandUnknownOpts } from '@commander-js/extra-typings';
import { newCommand } from './command.ts';
import { stdout } from './output.ts';

/** `root` gives the whole tree, this command included. */
export const manCommand = (root: () => CommandUnknownOpts) =>
  newCommand('man')
    .description('print the manual as a man page')
    .addHelpText(
      'before',
      'Examples:\n  iommulab man | man -l -\n  iommulab man > ~/.local/share/man/man1/iommulab.1\n',
    )
    .action(async () => {
      const { commandTree } = await import('./command-tree.ts');
      const { manPage } = await import('./man-page.ts');
      stdout.write(manPage(commandTree(root())));
    });
