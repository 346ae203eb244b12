import { newCommand } from './command.ts';
import { LineBuffer } from './console.ts';
import { escapeHelp } from './escape-keys.ts';
import { CommandError, exitCodes } from './exit.ts';
import type { GdbServer } from './gdb-server.ts';
import { guestKeys } from './guests.ts';
import { keyHelp, machineOptions, readMachine } from './options.ts';
import { prepare } from './prepare.ts';
import { printJson, stderr, stdout } from './output.ts';

/** Loaded only where it is wanted. */
async function openGdb(endpoint: string | undefined, isWaiting: boolean): Promise<GdbServer | undefined> {
  if (endpoint === undefined) {
    if (isWaiting) throw new CommandError('usage', '--wait: expected --gdb with it');
    return undefined;
  }
  const { GdbServer, parseGdbEndpoint } = await import('./gdb-server.ts');
  return GdbServer.open(parseGdbEndpoint(endpoint), isWaiting);
}

export function runCommand() {
  const command = newCommand('run')
    .description('boot a bundled guest, a Linux kernel or an ELF file')
    .argument('[guest]', 'name of a bundled guest (see iommulab images) or path of a kernel')
    .addHelpText(
      'before',
      'Examples:\n  iommulab run hello\n  iommulab run dma --disk disk.img --nic hub --nic hub\n  iommulab run ./my.elf --memory 256M --timeout 10s --trace t.jsonl\n  iommulab run --kernel Image --initrd initrd.img --append "quiet" --nic hub\n  iommulab run --config vm.yaml\n',
    )
    .addHelpText('after', () => `\n${keyHelp()}\n\nOn the console of a kernel:\n  ${escapeHelp().join('\n  ')}`);
  for (const option of machineOptions()) command.addOption(option);
  return command
    .option('--trace-perfetto <file>', 'write the run as a file that Perfetto opens (ui.perfetto.dev)')
    .option('--json', 'print the result as one JSON document; the console goes to stderr')
    .option('-v, --verbose', 'show every event on stderr')
    .option('--control <path>', 'make a unix socket that iommulab ctl, or a client of QMP, can ask')
    .option('--gdb <[host:]port>', 'listen for GDB (target remote :port)')
    .option('--wait', 'with --gdb: do not start the guest before GDB says so')
    .action(async (guest, options) => {
      const prepared = prepare(
        readMachine(options, guest === undefined ? {} : guestKeys(guest)),
        options.tracePerfetto,
      );
      const { runSession } = await import('./session.ts');
      const { reportEnd, resultData } = await import('./report.ts');
      const { ConsoleInput } = await import('./terminal.ts');
      const gdb = await openGdb(options.gdb, options.wait === true);
      const control =
        options.control === undefined
          ? undefined
          : await (await import('./control-server.ts')).ControlServer.open(options.control);
      const console = options.json ? stderr : stdout;
      const buffer = new LineBuffer((bytes) => console.write(bytes));
      const session = await runSession(prepared, {
        console: (bytes) => buffer.add(bytes),
        pause: () => buffer.flush(),
        // The bundled guests read no console, and Ctrl-C shall end them.
        ...(prepared.config.kernel === undefined ? {} : { input: new ConsoleInput() }),
        perfetto: options.tracePerfetto,
        verbose: options.verbose === true,
        ...(gdb ? { gdb } : {}),
        ...(control ? { control } : {}),
      });
      if (options.json) printJson(resultData(session));
      reportEnd(session);
      process.exitCode = exitCodes[session.ending].code;
    });
}
