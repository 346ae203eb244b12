/** Runs a guest up to a moment or a fault, and explains a translation there. */
import type { Explanation } from '#iommufd/host/riscv/explain';
import type { Machine } from '#vmm/machine/machine';
import { CommandError } from './exit.ts';
import type { Prepared } from './prepare.ts';
import { runSession } from './session.ts';

export interface Asked {
  readonly device: string;
  readonly iova: bigint;
  readonly pasid: number;
  readonly write: boolean;
  readonly privileged: boolean;
}
export interface ExplainOptions {
  readonly moment:
    | { readonly kind: 'console'; readonly text: string }
    | { readonly kind: 'instructions'; readonly count: number }
    | { readonly kind: 'end' };
  /** The nth fault, where `asked` is undefined. */
  readonly nth: number;
  readonly asked: Asked | undefined;
}

/** More than any line of a console. */
const keptText = 1 << 16;

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

/** @throws CommandError where the moment never comes. */
export async function explainRun(prepared: Prepared, { moment, nth, asked }: ExplainOptions): Promise<Explanation> {
  let explanation: Explanation | undefined;
  let machine: Machine | undefined;
  let faults = 0;
  let text = '';
  const decoder = new TextDecoder();
  const session = await runSession(prepared, {
    unobserved: true,
    isDone: () => explanation !== undefined,
    console: (bytes) => {
      if (moment.kind !== 'console' || !asked || !machine || explanation) return;
      text = (text + decoder.decode(bytes, { stream: true })).slice(-keptText);
      if (text.includes(moment.text)) explanation = explainNow(machine, asked);
    },
    started: (made) => {
      machine = made;
      const { silicon, devices } = made.host;
      if (!asked)
        silicon.onFault = (request) => {
          if (++faults !== nth) return;
          const name = devices.find(({ hostRid }) => hostRid === request.deviceId)?.placed.id;
          explanation = silicon.explain(request, name ?? String(request.deviceId));
        };
      else if (moment.kind === 'instructions' && !explanation) {
        made.run({ instructions: moment.count });
        if (made.instructions >= moment.count) explanation = explainNow(made, asked);
      }
    },
    ended: (made) => {
      if (moment.kind === 'end' && asked) explanation ??= explainNow(made, asked);
    },
  });
  if (explanation) return explanation;
  const why = asked ? `the run ended (${session.ending}) before the moment came` : `the run had ${faults} faults`;
  throw new CommandError('failed', why);
}
