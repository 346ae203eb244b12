import { type Rid, rid } from '#vmm/base/address';
import type { Trace } from '#vmm/base/events';
import type { DmaPort, IrqLine, PciFunction } from '#vmm/base/ports';
import { type Data, listOf, part, parts, SavedError } from '#vmm/base/saved';
import { type AddressSpace, PciSlot } from './function.ts';
import { secondaryBusReset } from './header.ts';
import { HotPlugSlot } from './hot-plug.ts';
import type { Route } from './routes.ts';

/** Told when the guest numbered the bus of a function behind a root port, or took the number away. */
export type AddressChanged = (address: Rid | undefined) => void;

export interface RootPortOptions {
  readonly rid: Rid;
  readonly name: string;
  readonly trace: Trace;
  readonly decodeChanged: () => void;
  /** The port has a hot-plug slot of this number; its interrupt message leaves through `port`. */
  readonly hotPlug?: { readonly number: number; readonly port: DmaPort };
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
 * device's requests up while it masters the bus itself, and resets it on Secondary Bus Reset. With a hot-plug slot the
 * device comes and goes while the guest runs.
 */
export class RootPort {
  readonly slot: PciSlot;
  /** Where the device can come and go. */
  readonly hotPlug: HotPlugSlot | undefined;
  readonly #children = new Map<number, Child>();
  readonly #trace: Trace;
  readonly #decodeChanged: () => void;
  readonly saved = parts({
    slot: part(() => this.slot),
    hotPlug: { save: () => this.hotPlug?.saved.save(), restore: (data: Data) => this.hotPlug?.saved.restore(data) },
    children: {
      save: () => this.children().map(({ slot, address }) => [slot.saved.save(), address]),
      restore: (data: Data) => this.#restoreChildren(listOf(data)),
    },
  });

  constructor({ rid, name, trace, decodeChanged, hotPlug }: RootPortOptions) {
    this.#trace = trace;
    this.#decodeChanged = decodeChanged;
    let vectors: readonly IrqLine[] = [];
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
      ...(hotPlug ? { msi: { vectors: 1 } } : {}),
      connect: (_, lines) => void (vectors = lines),
      reset: () => this.#resetChildren(),
      busMaster: () => this.#forEach(({ slot }) => slot.applyMastering()),
    };
    this.slot = new PciSlot({
      rid,
      function: bridge,
      type: 'rootPort',
      port: hotPlug?.port ?? noMemory,
      trace,
      decodeChanged,
      ...(hotPlug ? { hotPlugSlot: hotPlug.number } : {}),
    });
    const { config } = this.slot;
    if (hotPlug)
      this.hotPlug = new HotPlugSlot(config, {
        raise: () => vectors[0]?.raise(),
        powered: (isOn) => {
          if (!isOn) this.#forEach(({ slot }) => slot.reset());
          decodeChanged();
        },
        tell: (event) => {
          if (trace.on) trace.emit('pci.slot', { function: rid, name, slot: hotPlug.number, event });
        },
      });
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

  /** `isCold`: it is there when the machine is switched on. */
  plug(number: number, fn: PciFunction, port: DmaPort, onAddress?: AddressChanged, isCold = false): void {
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
    if (isCold) this.hotPlug?.coldPlug();
    else this.hotPlug?.setPresent(true);
  }

  /** Takes the function off the bus, whatever it does at the moment. */
  unplug(number: number): void {
    const child = this.#children.get(number);
    if (!child) return;
    this.#children.delete(number);
    child.slot.remove();
    if (child.address !== undefined) child.onAddress?.(undefined);
    this.hotPlug?.setPresent(this.#children.size > 0);
    this.#decodeChanged();
  }

  /** The functions behind the port by number, with their address if the guest gave the bus a number. */
  children(): { readonly slot: PciSlot; readonly address: Rid | undefined }[] {
    return [...this.#children.values()].toSorted((a, b) => a.number - b.number);
  }

  /** Who answers a configuration request to `address`, which is not on bus 0. */
  find(address: number): PciSlot | undefined {
    if (address >>> 8 !== this.#secondaryBus || !this.slot.isOn || this.#isSilent) return undefined;
    // There is one device on a link (§7.3.1).
    return ((address >>> 3) & 31) === 0 ? this.at(address & 7) : undefined;
  }

  /** The parts of the children's BARs that the port's windows let through. */
  routes(space: AddressSpace): Route[] {
    if (!this.slot.decodes(space) || this.#isSilent) return [];
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

  /** The device is held in reset, or its slot has no power. */
  get #isSilent(): boolean {
    return (this.slot.config.get('bridge_control') & secondaryBusReset) !== 0 || this.hotPlug?.hasPower === false;
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
    this.hotPlug?.restore();
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
