import { Option } from '@commander-js/extra-typings';
import { noPasid } from '#vmm/base/ports';
import { newCommand } from './command.ts';
import { CommandError } from './exit.ts';
import { guestKeys } from './guests.ts';
import { keyHelp, machineOptions, readMachine } from './options.ts';
import { printJson, stdout } from './output.ts';
import { prepare } from './prepare.ts';
import { parseStopPoint, stopPointHelp } from './stop-point.ts';

const wrong = (option: string, expected: string, found: string): CommandError =>
  new CommandError('usage', `${option}: expected ${expected}, found ${JSON.stringify(found)}`);

const readNumber = (option: string, text: string, first: number, last: number): number => {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : -1;
  if (value < first || value > last) throw wrong(option, `a number from ${first} to ${last}`, text);
  return value;
};

const readAddress = (text: string): bigint => {
  if (!/^(0x[0-9a-f]{1,16}|\d{1,20})$/i.test(text) || BigInt(text) >> 64n !== 0n)
    throw wrong('--iova', 'an address of 64 bits', text);
  return BigInt(text);
};

export function explainCommand() {
  const command = newCommand('explain')
    .description('run a guest to a point, and tell step by step how a DMA would be translated there')
    .addHelpText(
      'before',
      'Examples:\n  iommulab explain --run dma --disk disk.img --nic hub --nic hub --fault 1\n  iommulab explain --run dma --disk disk.img --nic hub --nic hub --device nvme0 --iova 0x40000000 --at console:"reading"\n',
    )
    .addHelpText('after', () => `\n${stopPointHelp()}\n\n${keyHelp()}`);
  for (const option of machineOptions()) command.addOption(option);
  return command
    .option('--run <guest>', 'name of a bundled guest (see iommulab images) or path of a kernel')
    .option('--device <name>', 'which device, by its id (nvme0, net0, …)')
    .option('--iova <address>', 'the address that it uses')
    .option('--pasid <n>', 'the PASID that it sends with it')
    .option('--write', 'a write, instead of a read')
    .option('--privileged', 'with the rights of a supervisor')
    .addOption(new Option('--at <point>', 'when').default('end'))
    .option('--fault <n>', 'instead: the nth fault of the run, as it happened')
    .option('--json', 'as one JSON document')
    .action(async (options) => {
      const { run, device, iova, pasid, fault } = options;
      const byFault = fault !== undefined;
      if (byFault === (device !== undefined || iova !== undefined) || (!byFault && !(device && iova)))
        throw new CommandError('usage', 'expected either --fault, or --device and --iova');
      // What is wrong with it is said before anything runs.
      parseStopPoint(options.at);
      const nth = byFault ? readNumber('--fault', fault, 1, 1e9) : 0;
      const asked = byFault
        ? undefined
        : {
            device: device!,
            iova: readAddress(iova!),
            pasid: pasid === undefined ? noPasid : readNumber('--pasid', pasid, 0, 2 ** 20 - 1),
            write: options.write === true,
            privileged: options.privileged === true,
          };
      const prepared = prepare(readMachine(options, run === undefined ? {} : guestKeys(run)));
      const { explainAddress, explainFault } = await import('./explain-run.ts');
      const { explanationLines } = await import('#iommufd/host/riscv/explain');
      const explanation = await (asked ? explainAddress(prepared, options.at, asked) : explainFault(prepared, nth));
      if (options.json) printJson(explanation);
      else for (const line of explanationLines(explanation)) stdout.line(line);
    });
}
