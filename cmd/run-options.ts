/** What `run` and `resume` have in common: how a run is watched, and how its end is told. */
import type { Command } from '@commander-js/extra-typings';
import { LineBuffer } from './console.ts';
import { CommandError, exitCodes } from './exit.ts';
import type { GdbServer } from './gdb-server.ts';
import { printJson, stderr, stdout } from './output.ts';
import type { Prepared } from './prepare.ts';
import type { Resumed } from './session.ts';
import type { SnapshotPoint } from './snapshot-point.ts';

/** Loaded only where it is wanted. */
async function openGdb(endpoint: string | undefined, isWaiting: boolean): Promise<GdbServer | undefined> {
  if (endpoint === undefined) {
    if (isWaiting) throw new CommandError('usage', '--wait: expected --gdb with it');
    return undefined;
  }
  const { GdbServer, parseGdbEndpoint } = await import('./gdb-server.ts');
  return GdbServer.open(parseGdbEndpoint(endpoint), isWaiting);
}

export const runOptions = <A extends unknown[], O extends Record<string, unknown>>(command: Command<A, O>) =>
  command
    .option('--snapshot-at <point>', 'save the machine when the run comes there (see below)')
    .option('--snapshot-to <file>', 'where to save it; iommulab resume takes it up again')
    .option('--snapshot-then <stop|continue>', 'end the run there, or go on (default stop)')
    .option('--trace-perfetto <file>', 'write the run as a file that Perfetto opens (ui.perfetto.dev)')
    .option('--json', 'print the result as one JSON document; the console goes to stderr')
    .option('-v, --verbose', 'show every event on stderr')
    .option('--control <path>', 'make a unix socket that iommulab ctl, or a client of QMP, can ask')
    .option('--gdb <[host:]port>', 'listen for GDB (target remote :port)')
    .option('--wait', 'with --gdb: do not start the guest before GDB says so');

interface RunOptionValues {
  readonly tracePerfetto?: string | undefined;
  readonly json?: true | undefined;
  readonly verbose?: true | undefined;
  readonly control?: string | undefined;
  readonly gdb?: string | undefined;
  readonly wait?: true | undefined;
}

/** Runs, tells how it ended, and sets the exit code. */
export async function runToEnd(
  source: Prepared | Resumed,
  options: RunOptionValues,
  snapshot: SnapshotPoint | undefined,
  readsConsole: boolean,
): Promise<void> {
  if (snapshot && options.gdb !== undefined)
    throw new CommandError('usage', 'expected --snapshot-at without --gdb: a debugger decides itself when the machine runs'); // prettier-ignore
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
  const session = await runSession(source, {
    console: (bytes) => buffer.add(bytes),
    pause: () => buffer.flush(),
    ...(readsConsole ? { input: new ConsoleInput() } : {}),
    perfetto: options.tracePerfetto,
    verbose: options.verbose === true,
    snapshot,
    ...(gdb ? { gdb } : {}),
    ...(control ? { control } : {}),
  });
  if (options.json) printJson(resultData(session));
  reportEnd(session);
  process.exitCode = exitCodes[session.ending].code;
  if (!snapshot || session.saved) return;
  const sentence = `the run ended before ${snapshot.label}: no snapshot was written`;
  if (session.ending === 'passed') throw new CommandError('failed', sentence);
  stderr.line(sentence);
}
