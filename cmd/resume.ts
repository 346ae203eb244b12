import { newCommand } from './command.ts';
import { CommandError } from './exit.ts';
import { machineOptions, type OptionValues, readMachine } from './options.ts';
import { checkFiles } from './prepare.ts';
import { runOptions, runToEnd } from './run-options.ts';
import { SnapshotPoint } from './snapshot-point.ts';
import { stopPointHelp } from './stop-point.ts';
import type { MachineConfig } from '#vmm/config/schema';

/** Keys that concern the run; all others are the saved machine's. */
const runKeys = ['realtime', 'timeout', 'max-instructions', 'capture', 'trace', 'on-finding', 'log-level'] as const;
const isRunKey = (name: string): boolean => (runKeys as readonly string[]).includes(name);

/** The saved machine with the run's keys as the command line gives them; `reboot` would need the kernel again. */
function configOf(saved: MachineConfig, options: OptionValues): MachineConfig {
  const picked = Object.fromEntries(Object.entries(readMachine(options)).filter(([name]) => isRunKey(name)));
  const kept = Object.fromEntries(Object.entries(saved).filter(([name]) => !isRunKey(name)));
  const merged = { ...kept, ...picked } as unknown as MachineConfig;
  return { ...merged, realtime: saved.realtime || merged.realtime, reboot: false };
}

/** `id=path`, in any number. */
function movedDisks(given: readonly string[]): ReadonlyMap<string, string> {
  const moved = new Map<string, string>();
  for (const text of given) {
    const at = text.indexOf('=');
    if (at <= 0 || at === text.length - 1)
      throw new CommandError('usage', `--disk: expected id=path, found ${JSON.stringify(text)}`);
    moved.set(text.slice(0, at), text.slice(at + 1));
  }
  return moved;
}

export function resumeCommand() {
  const command = newCommand('resume')
    .description('take a machine up again that run --snapshot-at has saved')
    .argument('<file>', 'what --snapshot-to wrote')
    .addHelpText(
      'before',
      'Examples:\n  iommulab run --kernel Image --initrd initrd.img --snapshot-at console:login: --snapshot-to booted\n  iommulab resume booted\n  iommulab resume booted --disk nvme0=copy.img --trace t.jsonl\n',
    )
    .addHelpText(
      'after',
      () =>
        `\n${stopPointHelp('--snapshot-at')}\n\nDisks that are files stay outside a snapshot: each must be as it was when the machine was saved. What a disk with\noverlay=on has taken up is inside, and its file is never written, so such a machine can be resumed again and again.`,
    );
  for (const option of machineOptions()) if (isRunKey(option.attributeName())) command.addOption(option);
  return runOptions(
    command.option('--disk <id=path>', 'where a disk of the machine is now (repeatable)', (text: string, before: string[] | undefined) => [...(before ?? []), text]), // prettier-ignore
  ).action(async (file, options) => {
    const point = SnapshotPoint.of(options);
    const { disk = [], ...others } = options as typeof options & { disk?: string[] };
    const { readSnapshot } = await import('./snapshot-file.ts');
    const read = readSnapshot(file, movedDisks(disk));
    const config = configOf(read.config, others);
    const disks = [...config.disks, ...read.plugged.map(({ settings }) => settings).filter((one) => 'path' in one)];
    checkFiles({ ...config, disks }, { '--trace-perfetto': options.tracePerfetto, '--snapshot-to': point?.path }, [
      file,
    ]);
    await runToEnd({ ...read, config, path: file }, options, point, read.guest.isLinux || config.kernel !== undefined);
  });
}
