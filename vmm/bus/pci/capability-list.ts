import { register } from '#vmm/base/bits';
import { invariant } from '#vmm/base/invariant';
import { type ConfigRow, type ConfigSpace, row } from './config-space.ts';

/** One capability structure: where its registers lie, and what they hold after a reset. */
export interface Capability {
  readonly name: string;
  readonly id: number;
  /** Extended capabilities live from 0x100 on, with a version. */
  readonly extended?: { readonly version: number };
  readonly bytes: number;
  /** Offsets from the start of the capability, without its header. */
  readonly registers: readonly ConfigRow[];
}

/** A capability as one function has it. */
export interface CapabilityUse {
  readonly capability: Capability;
  /** Reset values by register name; absent = 0. */
  readonly reset?: Readonly<Record<string, number>>;
}

const spec = (section: string): string => `PCI Express Base 6.0 §${section}`;

const capabilityHeader = register({
  width: 16,
  spec: spec('7.5.3.1'),
  fields: { capability_id: { bits: [7, 0], access: 'ro' }, next: { bits: [15, 8], access: 'ro' } },
});
const extendedHeader = register({
  width: 32,
  spec: spec('7.6.3'),
  fields: {
    capability_id: { bits: [15, 0], access: 'ro' },
    version: { bits: [19, 16], access: 'ro' },
    next: { bits: [31, 20], access: 'ro' },
  },
});

/** Where a capability came to lie. */
export interface PlacedCapability {
  readonly capability: Capability;
  readonly offset: number;
}

const firstCapability = 0x40;
const firstExtended = 0x100;

/**
 * Lays the capabilities out in the order given, chained by their headers; the rows of the common header must be
 * placed already.
 */
export function placeCapabilities(space: ConfigSpace, uses: readonly CapabilityUse[]): PlacedCapability[] {
  const placed: PlacedCapability[] = [];
  const chain = (
    list: readonly CapabilityUse[],
    first: number,
    limit: number,
    header: (use: CapabilityUse, at: number, next: number) => void,
  ): void => {
    let at = first;
    list.forEach((use, index) => {
      const { capability, reset } = use;
      const end = at + Math.ceil(capability.bytes / 4) * 4;
      invariant(end <= limit, `no room for the ${capability.name} capability`);
      header(use, at, index + 1 < list.length ? end : 0);
      for (const entry of capability.registers) space.place(entry, at, reset?.[entry.name] ?? 0);
      placed.push({ capability, offset: at });
      at = end;
    });
  };
  const plain = uses.filter(({ capability }) => !capability.extended);
  chain(plain, firstCapability, firstExtended, ({ capability: { name, id } }, at, next) =>
    space.place(row(`${name} header`, 0, capabilityHeader), at, id | (next << 8)),
  );
  if (plain.length > 0) {
    space.setReset('cap_pointer', firstCapability);
    space.setReset('status', space.get('status') | (1 << 4));
  }
  const extended = uses.filter(({ capability }) => capability.extended);
  chain(extended, firstExtended, 4096, ({ capability: { name, id, extended } }, at, next) =>
    space.place(row(`${name} header`, 0, extendedHeader), at, (id | (extended!.version << 16) | (next << 20)) >>> 0),
  );
  return placed;
}
