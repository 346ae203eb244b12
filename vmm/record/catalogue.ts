/** Every event that a machine can tell, from the tables of its layers. `trace list` prints it. */
import type { EventRow, EventTable, FieldKind, FieldValue } from '#vmm/base/events';
import { bdf, hex } from '#vmm/base/address';
import { invariant } from '#vmm/base/invariant';
import { busEvents } from '#vmm/bus/events';
import { pciEvents } from '#vmm/bus/pci/events';
import { machineEvents } from '#vmm/machine/events';
import { irqEvents } from '#vmm/irq/events';
import { exerciserEvents } from '#devices/exerciser/events';
import { nicEvents } from '#devices/nic/events';
import { nvmeEvents } from '#devices/nvme/events';
import { frontEndEvents } from '#iommufd/arch/riscv/events';
import { hostEvents } from '#iommufd/host/events';
import { riscvDriverEvents } from '#iommufd/kernel/drivers/riscv/events';
import { kernelEvents } from '#iommufd/kernel/events';
import { viommuEvents } from '#viommu/riscv/events';
import { formatBytes } from './bytes.ts';

const tables: readonly EventTable[] = [
  viommuEvents,
  kernelEvents,
  frontEndEvents,
  riscvDriverEvents,
  hostEvents,
  nvmeEvents,
  nicEvents,
  exerciserEvents,
  pciEvents,
  irqEvents,
  busEvents,
  machineEvents,
];

function merge(): ReadonlyMap<string, EventRow> {
  const rows = new Map<string, EventRow>();
  for (const table of tables) {
    for (const [name, row] of Object.entries(table)) {
      invariant(!rows.has(name), `two layers declare the event ${name}`);
      rows.set(name, row);
    }
  }
  return rows;
}

/** Event name → its row, in the order of the layers. */
export const catalogue: ReadonlyMap<string, EventRow> = merge();

/** A field as text shows it: `0x80000000`, `00:01.0`, `8.0 MiB`. */
export function formatField(kind: FieldKind | undefined, value: FieldValue): string {
  if (typeof value === 'string') return value;
  if (kind === 'hex' || typeof value === 'bigint') return hex(value);
  if (kind === 'bdf') return bdf(value);
  return kind === 'bytes' ? formatBytes(value) : String(value);
}

/** Whether a name matches one of the globs (`*` any run, `?` one character). */
export function eventFilter(globs: readonly string[]): (name: string) => boolean {
  if (globs.includes('*')) return () => true;
  const source = globs.map((glob) =>
    glob.replaceAll(/[.*+?^${}()|[\]\\]/g, (c) => (c === '*' ? '.*' : c === '?' ? '.' : `\\${c}`)),
  );
  const pattern = new RegExp(`^(?:${source.join('|')})$`);
  const known = new Map<string, boolean>();
  return (name) => {
    let matches = known.get(name);
    if (matches === undefined) known.set(name, (matches = pattern.test(name)));
    return matches;
  };
}

/** Globs that match no event of the catalogue. */
export const unknownGlobs = (globs: readonly string[]): readonly string[] =>
  globs.filter((glob) => {
    const matches = eventFilter([glob]);
    return ![...catalogue.keys()].some((name) => matches(name));
  });
