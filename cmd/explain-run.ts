/** Runs a guest up to a point or a fault, and explains a translation there. */
import type { Explanation } from '#iommufd/host/riscv/explain';
import type { Machine } from '#vmm/machine/machine';
import { CommandError } from './exit.ts';
import { machineAt } from './machine-at.ts';
import type { Prepared } from './prepare.ts';
import { runSession } from './session.ts';

export interface Asked {
  readonly device: string;
  readonly iova: bigint;
  readonly pasid: number;
  readonly write: boolean;
  readonly privileged: boolean;
}

function explainNow(machine: Machine, { iova, ...asked }: Asked): Explanation {
  const { devices } = machine.host;
  if (!devices.some(({ placed }) => placed.id === asked.device)) {
    const names = devices.map(({ placed }) => placed.id).join(', ');
    throw new CommandError(
      'usage',
      `--device: expected one of ${names || 'none, for there is none'}, found "${asked.device}"`,
    );
  }
  return machine.explain({ ...asked, address: iova });
}

/** One address, at a point of the run. @throws CommandError where the point never comes */
export const explainAddress = (prepared: Prepared, at: string, asked: Asked): Promise<Explanation> =>
  machineAt(prepared, at, (machine) => explainNow(machine, asked));

/** The nth fault of the run, as it happened. @throws CommandError where there are fewer */
export async function explainFault(prepared: Prepared, nth: number): Promise<Explanation> {
  let explanation: Explanation | undefined;
  let faults = 0;
  await runSession(prepared, {
    unobserved: true,
    isDone: () => explanation !== undefined,
    console: () => {},
    started: ({ host: { silicon, devices } }) => {
      silicon.onFault = (request) => {
        if (++faults !== nth) return;
        const name = devices.find(({ hostRid }) => hostRid === request.deviceId)?.placed.id;
        explanation = silicon.explain(request, name ?? String(request.deviceId));
      };
    },
  });
  if (!explanation) throw new CommandError('failed', `the run had ${faults} faults`);
  return explanation;
}
