import { Command } from '@commander-js/extra-typings';
import { stderr, stdout } from './output.ts';

/** A command that throws instead of exiting, and leaves saying what is wrong to main. */
export function newCommand(name: string): Command {
  return new Command(name)
    .exitOverride()
    .helpCommand(false)
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: (text) => stderr.write(text),
      outputError: () => {},
      getOutHasColors: () => stdout.colors.isColorSupported,
      getErrHasColors: () => stderr.colors.isColorSupported,
    });
}
