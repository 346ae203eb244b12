/** One device that is added to a machine that runs: the keys of its list in the configuration, but for its address. */
import type { ConfigIssue } from './issues.ts';
import { keysOfSchema } from './keys.ts';
import { crossCheck, judge, type Report } from './parse.ts';
import { placeDevices } from './placement.ts';
import { type DeviceConfigs, deviceSchemas, type MachineConfig } from './schema.ts';

export type ParsedDevice<L extends keyof DeviceConfigs> =
  | { readonly ok: true; readonly device: DeviceConfigs[L][number] }
  | { readonly ok: false; readonly issues: readonly ConfigIssue[] };

/** Judges the keys of one more device of `list`, beside those that the machine has now. */
export function parseDevice<L extends keyof DeviceConfigs>(
  list: L,
  input: unknown,
  config: MachineConfig,
  present: DeviceConfigs,
): ParsedDevice<L> {
  const schema = deviceSchemas[list];
  const keys = keysOfSchema(schema).filter(({ name }) => name !== 'address');
  const { issues, report, output } = judge(schema, keys, input);
  if (issues.length > 0) return { ok: false, issues };
  // Behind a port the guest chooses the address.
  const free = <T>(devices: readonly T[]): T[] => devices.map((device) => ({ ...device, address: undefined }));
  const others = { disks: free(present.disks), nics: free(present.nics), exercisers: free(present.exercisers) };
  const all = { ...config, ...others, [list]: [...others[list], output] };
  const index = others[list].length;
  const ofThis: Report = (path, ...rest) => {
    if (path[0] === list && path[1] === index) report(path.slice(2), ...rest);
  };
  crossCheck(all, ofThis);
  if (issues.length > 0) return { ok: false, issues };
  return { ok: true, device: { ...placeDevices(all)[list].at(-1)!, address: 0 } as DeviceConfigs[L][number] };
}
