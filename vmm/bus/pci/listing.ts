import { bdf, hex } from '#vmm/base/address';
import type { BarSpec } from '#vmm/base/ports';
import type { ConfigValue } from './config-space.ts';
import type { PluggedFunction } from './host.ts';

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;
const size = (bytes: number): string => {
  const step = Math.min(Math.floor(Math.log2(bytes) / 10), units.length - 1);
  return `${bytes / 1024 ** step} ${units[step]!}`;
};
const id = (value: number): string => value.toString(16).padStart(4, '0');

/** What a PCI host holds, as `lspci -vv` would show it to the guest: one line an entry, indented by tabs. */
export const pciListing = (functions: readonly PluggedFunction[]): string[] => functions.flatMap(describe);

function describe(plugged: PluggedFunction): string[] {
  const { rid, behind, function: fn } = plugged;
  const registers = new Map(plugged.registers().map((register) => [register.name, register]));
  const place = rid === undefined ? `not numbered yet, behind ${bdf(behind!)}` : bdf(rid);
  const classCode = fn.classCode.toString(16).padStart(6, '0');
  return [
    `${place} ${fn.name}: ${id(fn.vendorId)}:${id(fn.deviceId)} (class ${classCode}, rev ${fn.revision})`,
    `\tCommand: ${registers.get('command')!.meaning || 'all off'}`,
    ...windows(registers),
    ...fn.bars.map((spec) => `\t${bar(spec, plugged)}`),
    ...plugged.capabilities().flatMap(({ name, offset, registers }) => [
      `\tCapability [${offset.toString(16)}] ${name}`,
      // The first is the header, which the line above has already told.
      ...registers.slice(1).map((register) => `\t\t${describeRegister(register)}`),
    ]),
  ];
}

const describeRegister = ({ name, value, bytes, meaning }: ConfigValue): string =>
  `${name} ${hex(value, 2 * bytes)}${meaning ? ` ${meaning}` : ''}`;

function windows(registers: ReadonlyMap<string, ConfigValue>): string[] {
  const numbers = ['primary_bus', 'secondary_bus', 'subordinate_bus'].map((name) => registers.get(name)?.value);
  if (numbers.includes(undefined)) return [];
  const [primary, secondary, subordinate] = numbers;
  return [`\tBus: primary ${primary}, secondary ${secondary}, subordinate ${subordinate}`];
}

function bar({ index, kind, bytes, prefetchable }: BarSpec, plugged: PluggedFunction): string {
  const decoded = plugged.bars().find((candidate) => candidate.index === index);
  const what = `${kind}${prefetchable === true ? ', prefetchable' : ''}, ${size(bytes)}`;
  return `BAR ${index}: ${what}, ${decoded ? `at ${hex(decoded.address)}` : 'not decoded'}`;
}
