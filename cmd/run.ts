import { newCommand } from './command.ts';
import { escapeHelp } from './escape-keys.ts';
import { guestKeys } from './guests.ts';
import { keyHelp, machineOptions, readMachine } from './options.ts';
import { prepare } from './prepare.ts';
import { runOptions, runToEnd } from './run-options.ts';
import { SnapshotPoint } from './snapshot-point.ts';
import { stopPointHelp } from './stop-point.ts';

export function runCommand() {
  const command = newCommand('run')
    .description('boot a bundled guest, a Linux kernel or an ELF file')
    .argument('[guest]', 'name of a bundled guest (see iommulab images) or path of a kernel')
    .addHelpText(
      'before',
      'Examples:\n  iommulab run hello\n  iommulab run dma --disk disk.img --nic hub --nic hub\n  iommulab run ./my.elf --memory 256M --timeout 10s --trace t.jsonl\n  iommulab run --kernel Image --initrd initrd.img --append "quiet" --nic hub\n  iommulab run --config vm.yaml\n  iommulab run dma --disk disk.img,overlay --snapshot-at event:nvme.ready --snapshot-to dma.snapshot\n',
    )
    .addHelpText(
      'after',
      () =>
        `\n${keyHelp()}\n\n${stopPointHelp('--snapshot-at')}\n\nOn the console of a kernel:\n  ${escapeHelp().join('\n  ')}`,
    );
  for (const option of machineOptions()) command.addOption(option);
  return runOptions(command).action(async (guest, options) => {
    const point = SnapshotPoint.of(options);
    const outputs = { '--trace-perfetto': options.tracePerfetto, '--snapshot-to': point?.path };
    const prepared = prepare(readMachine(options, guest === undefined ? {} : guestKeys(guest)), outputs);
    // The bundled guests read no console, and Ctrl-C shall end them.
    await runToEnd(prepared, options, point, prepared.config.kernel !== undefined);
  });
}
