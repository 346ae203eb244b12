import { noPasid } from '#vmm/base/ports';
import type { Explanation } from '#iommufd/host/riscv/explain';
import type { Machine } from './machine.ts';
import { MachineError } from './machine-error.ts';

/** An access of a device, as somebody asks about it. */
export interface ExplainOptions {
  /** Id of the device: `nvme0`, `net0`, `exerciser0` … */
  readonly device: string;
  /** As the device sees memory. */
  readonly address: number | bigint;
  readonly pasid?: number;
  /** A write, instead of a read. */
  readonly write?: boolean;
  /** With a PASID: with the rights of a supervisor. */
  readonly privileged?: boolean;
}

/** How the access would be translated now, entry by entry. Nothing is cached, marked or reported by it. */
export function explainOf(machine: Machine, options: ExplainOptions): Explanation {
  const { device: id, pasid = noPasid, write = false, privileged = false } = options;
  const { devices, silicon } = machine.host;
  const device = devices.find(({ placed }) => placed.id === id);
  const ids = devices.map(({ placed }) => placed.id).join(', ') || 'none';
  if (!device) throw new MachineError([`explain: expected the id of a device (${ids}), found ${JSON.stringify(id)}`]);
  const processIdValid = pasid !== noPasid;
  return silicon.explain(
    {
      deviceId: device.hostRid,
      processIdValid,
      processId: processIdValid ? pasid : 0,
      supervisor: processIdValid && privileged,
      execute: false,
      write,
      type: 'untranslated',
      noWrite: false,
      iova: BigInt.asUintN(64, BigInt(options.address)),
    },
    id,
  );
}
