import { type Rid, rid } from '#vmm/base/address';
import type { Trace } from '#vmm/base/events';
import type { DmaPort, PciFunction } from '#vmm/base/ports';
import { type Data, listOf, part, parts, SavedError } from '#vmm/base/saved';
import { type AddressSpace, PciSlot } from './function.ts';
import { secondaryBusReset } from './header.ts';
import type { Route } from './routes.ts';

/** Told when the guest numbered the bus of a function behind a root port, or took the number away. */
export type AddressChanged = (address: Rid | undefined) => void;

export interface RootPortOptions {
  readonly rid: Rid;
  readonly name: string;
  readonly trace: Trace;
  readonly decodeChanged: () => void;
}

interface Child {
  readonly slot: PciSlot;
  readonly number: number;
  readonly onAddress: AddressChanged | undefined;
  address: Rid | undefined;
}

/** The registers whose change moves what is behind the port. */
const windowRegisters = [
  'io_base',
  'io_limit',
  'memory_base',
  'memory_limit',
  'prefetchable_base',
  'prefetchable_limit',
  'prefetchable_base_upper',
  'prefetchable_limit_upper',
] as const;

/**
 * A PCI Express root port (type 1 header) with one device behind it. It forwards what its windows hold, lets the
 * device's requests up while it masters the bus itself, and resets it on Secondary Bus Reset.
 */
export class RootPort {
  readonly slot: PciSlot;
  readonly #children = new Map<number, Child>();
  readonly #trace: Trace;
  readonly #decodeChanged: () => void;
  readonly saved = parts({
    slot: part(() => this.slot),
    children: {
      save: () => this.children().map(({ slot, address }) => [slot.saved.save(), address]),
      restore: (data: Data) => this.#restoreChildren(listOf(data)),
    },
  });

  constructor({ rid, name, trace, decodeChanged }: RootPortOptions) {
    this.#trace = trace;
    this.#decodeChanged = decodeChanged;
    const bridge: PciFunction = {
      name,
      // QEMU's generic root port, which guests know.
      vendorId: 0x1b36,
      deviceId: 0x000c,
      classCode: 0x060400,
      revision: 0,
      subsystemVendorId: 0,
      subsystemId: 0,
      bars: [],
      flr: false,
      connect: () => {},
      reset: () => this.#resetChildren(),
      busMaster: () => this.#forEach(({ slot }) => slot.applyMastering()),
    };
    this.slot = new PciSlot({ rid, function: bridge, type: 'rootPort', port: noMemory, trace, decodeChanged });
    const { config } = this.slot;
    for (const register of windowRegisters) config.onWrite(register, decodeChanged);
    config.onWrite('acs_control', () => this.#forEach(({ slot }) => slot.applyMastering()));
    config.onWrite('secondary_bus', () => this.#number());
    config.onWrite('bridge_control', (now, old) => {
      if ((now & ~old & secondaryBusReset) !== 0) this.#hotReset();
    });
  }

  #restoreChildren(items: readonly Data[]): void {
    const children = [...this.#children.values()].toSorted((a, b) => a.number - b.number);
    if (items.length !== children.length) throw new SavedError(`expected ${children.length} functions behind the port`);
    for (const [i, child] of children.entries()) {
      const [state, address] = listOf(items[i]);
      child.slot.saved.restore(state);
      child.address = address === undefined ? undefined : rid(Number(address));
      child.onAddress?.(child.address);
    }
  }

  /** Undefined where nothing sits at this function number yet. */
  at(number: number): PciSlot | undefined {
    return this.#children.get(number)?.slot;
  }

  plug(number: number, fn: PciFunction, port: DmaPort, onAddress?: AddressChanged): void {
    const slot = new PciSlot({
      rid: rid(number),
      function: fn,
      type: 'endpoint',
      port,
      trace: this.#trace,
      decodeChanged: this.#decodeChanged,
      upstream: this.slot,
    });
    this.#children.set(number, { slot, number, onAddress, address: undefined });
    const first = this.#children.get(0);
    if (first && this.#children.size > 1)
      first.slot.config.setReset('header_type', first.slot.config.get('header_type') | 0x80);
    this.#number();
  }

  /** The functions behind the port by number, with their address if the guest gave the bus a number. */
  children(): { readonly slot: PciSlot; readonly address: Rid | undefined }[] {
    return [...this.#children.values()].toSorted((a, b) => a.number - b.number);
  }

  /** Who answers a configuration request to `address`, which is not on bus 0. */
  find(address: number): PciSlot | undefined {
    if (address >>> 8 !== this.#secondaryBus || !this.slot.isOn || this.#isHeldInReset) return undefined;
    // There is one device on a link (§7.3.1).
    return ((address >>> 3) & 31) === 0 ? this.at(address & 7) : undefined;
  }

  /** The parts of the children's BARs that the port's windows let through. */
  routes(space: AddressSpace): Route[] {
    if (!this.slot.decodes(space) || this.#isHeldInReset) return [];
    const windows = space === 'io' ? [this.#ioWindow()] : this.#memoryWindows();
    return this.children()
      .flatMap(({ slot }) => slot.decoded(space))
      .flatMap((bar) =>
        windows
          .map(({ first, end }) => ({
            first: Math.max(first, bar.address),
            end: Math.min(end, bar.address + bar.bytes),
            bar,
          }))
          .filter((route) => route.first < route.end),
      );
  }

  get #secondaryBus(): number {
    return this.slot.config.get('secondary_bus');
  }

  get #isHeldInReset(): boolean {
    return (this.slot.config.get('bridge_control') & secondaryBusReset) !== 0;
  }

  #forEach(act: (child: Child) => void): void {
    for (const child of this.#children.values()) act(child);
  }

  #ioWindow(): { first: number; end: number } {
    const { config } = this.slot;
    return { first: (config.get('io_base') & 0xf0) << 8, end: ((config.get('io_limit') & 0xf0) << 8) + 0x1000 };
  }

  /** Windows are of whole MiB. Where the limit is below the base nothing is forwarded. */
  #memoryWindows(): { first: number; end: number }[] {
    const { config } = this.slot;
    const low = (name: string): number => (config.get(name) & 0xfff0) * 0x1_0000;
    const high = (name: string): number => config.get(name) * 2 ** 32;
    return [
      { first: low('memory_base'), end: low('memory_limit') + 0x10_0000 },
      {
        first: high('prefetchable_base_upper') + low('prefetchable_base'),
        end: high('prefetchable_limit_upper') + low('prefetchable_limit') + 0x10_0000,
      },
    ];
  }

  #number(): void {
    const bus = this.#secondaryBus;
    this.#forEach((child) => {
      const address = bus === 0 ? undefined : rid((bus << 8) | child.number);
      if (address === child.address) return;
      child.address = address;
      child.slot.rid = address ?? rid(child.number);
      child.onAddress?.(address);
    });
  }

  #hotReset(): void {
    this.#forEach(({ slot }) => {
      slot.reset();
      if (this.#trace.on)
        this.#trace.emit('pci.reset', { function: slot.rid, name: slot.function.name, cause: 'hot reset' });
    });
    this.#decodeChanged();
  }

  #resetChildren(): void {
    this.#forEach(({ slot }) => slot.reset());
    this.#number();
  }
}

const nothing = { count: 0, offsets: new Float64Array(0), lengths: new Int32Array(0), faults: [] };
/** The port of a bridge, which issues no requests of its own. */
export const noMemory: DmaPort = {
  memory: new Uint8Array(0),
  read: () => nothing,
  write: () => nothing,
  message: () => false,
};
