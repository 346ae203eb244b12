import { bdf, type Rid, rid } from '#vmm/base/address';
import { quiet, type Trace } from '#vmm/base/events';
import type { AccessBytes, DmaPort, MmioDevice, PciFunction } from '#vmm/base/ports';
import { type Data, parts, recordOf, SavedError, within } from '#vmm/base/saved';
import { AddressConflict, type Bus } from '../bus.ts';
import type { ConfigValue } from './config-space.ts';
import { type AddressSpace, PciSlot } from './function.ts';
import { hostBridge } from './host-bridge.ts';
import type { HotPlugSlot } from './hot-plug.ts';
import { type AddressChanged, noMemory, RootPort, type RootPortOptions } from './root-port.ts';
import { type DecodedBar, type Route, routeOf, Routes } from './routes.ts';

export interface AddressWindow {
  /** Guest-physical. */
  readonly base: number;
  readonly bytes: number;
}

export interface PciHostOptions {
  readonly bus: Bus;
  /** One MiB a bus number, from bus 0. */
  readonly ecam: AddressWindow;
  /** Where the CPU reaches BARs. Memory is at the same address on both sides; I/O space starts at 0 on PCI's. */
  readonly windows: { readonly io: AddressWindow; readonly memory32: AddressWindow; readonly memory64: AddressWindow };
  readonly trace?: Trace;
  /** A register of this function is about to be touched through a BAR: the VMM may act first. */
  readonly beforeAccess?: (rid: number) => void;
}

/** A capability as a walk of the list finds it, with its registers. */
export interface CapabilityView {
  readonly name: string;
  readonly id: number;
  readonly isExtended: boolean;
  /** In the configuration space. */
  readonly offset: number;
  readonly registers: readonly ConfigValue[];
}

/** A function on the bus as `inspect pci` and the machine see it. */
export interface PluggedFunction {
  /** Undefined behind a root port whose bus has no number yet. */
  readonly rid: Rid | undefined;
  /** The root port that it is behind. */
  readonly behind?: Rid;
  readonly function: PciFunction;
  /** Every configuration register by ascending offset. */
  registers(): readonly ConfigValue[];
  capabilities(): readonly CapabilityView[];
  /** BARs that decode now. */
  bars(): readonly DecodedBar[];
}

/** What a read returns that no function completes (PCI Express Base 6.0 §2.3.2: all ones towards the CPU). */
const allOnes = (bytes: AccessBytes): number | bigint => (bytes === 8 ? 0xffff_ffff_ffff_ffffn : 2 ** (8 * bytes) - 1);

/**
 * An ECAM host with root complex integrated endpoints and root ports on bus 0, and the windows through which the CPU
 * reaches BARs.
 */
export class PciHost {
  readonly #trace: Trace;
  /** By requester id, the host bridge at 00:00.0 included. */
  readonly #slots = new Map<number, PciSlot>();
  /** By requester id, in the order in which they answer for a bus number. */
  readonly #rootPorts = new Map<number, RootPort>();
  readonly #spaces: readonly PciSpace[];
  /** Of every function on bus 0, by its address; those behind a root port are the port's. */
  readonly saved = parts(
    {
      functions: {
        save: () =>
          Object.fromEntries(
            [...this.#slots].map(([address, slot]) => [bdf(address), this.#savedOf(address, slot).save()]),
          ),
        restore: (data: Data) => this.#restore(recordOf(data)),
      },
    },
    () => this.#decodeChanged(),
  );

  /** @throws AddressConflict where a window overlaps another region of the bus. */
  constructor({ bus, ecam, windows, trace = quiet, beforeAccess }: PciHostOptions) {
    this.#trace = trace;
    const io = new PciSpace(() => this.#routes('io'), beforeAccess);
    const memory = new PciSpace(() => this.#routes('memory'), beforeAccess);
    this.#spaces = [io, memory];
    bus.attach({ name: 'pci-ecam', ...ecam, device: this.#ecam() });
    const attach = (name: string, window: AddressWindow, space: PciSpace, pciBase: number): void => {
      const device = space.window(pciBase);
      bus.attach({ name, ...window, device, nameAt: (offset) => space.nameAt(pciBase + offset) ?? name });
    };
    attach('pci-io', windows.io, io, 0);
    attach('pci-memory32', windows.memory32, memory, windows.memory32.base);
    attach('pci-memory64', windows.memory64, memory, windows.memory64.base);
    const bridge = hostBridge();
    this.#add(new PciSlot({ rid: rid(0), function: bridge, type: 'hostBridge', port: noMemory, ...this.#shared }));
  }

  /**
   * Puts a function on bus 0 at `address` (device << 3 | function) and connects it.
   * @throws AddressConflict naming both functions where one sits there already.
   * @throws RangeError for an address that is not on bus 0.
   */
  plug(address: Rid, fn: PciFunction, port: DmaPort): void {
    this.#check(address, fn.name);
    const { trace, decodeChanged } = this.#shared;
    const type = 'rootComplexIntegratedEndpoint';
    this.#add(new PciSlot({ rid: address, function: fn, type, port, trace, decodeChanged }));
  }

  /** Puts a root port on bus 0, with `hotPlug` one with a hot-plug slot. @throws as `plug` does. */
  plugRootPort(address: Rid, name: string, hotPlug?: RootPortOptions['hotPlug']): void {
    this.#check(address, name);
    const rootPort = new RootPort({ rid: address, name, ...this.#shared, ...(hotPlug ? { hotPlug } : {}) });
    this.#rootPorts.set(address, rootPort);
    this.#add(rootPort.slot);
  }

  /**
   * Puts a function behind a root port. Its requester id is what the guest makes of it: `onAddress` hears of each
   * change, and of undefined when the number is gone. `isCold`: it is there when the machine is switched on.
   * @throws AddressConflict where that function number is taken.
   * @throws RangeError where there is no root port, or for a function number above 7.
   */
  plugBehind(
    rootPort: Rid,
    number: number,
    fn: PciFunction,
    port: DmaPort,
    onAddress?: AddressChanged,
    isCold = false,
  ): void {
    const parent = this.#rootPorts.get(rootPort);
    if (!parent) throw new RangeError(`${fn.name}: there is no root port at PCI address ${bdf(rootPort)}`);
    if (number < 0 || number > 7) throw new RangeError(`${fn.name}: function number ${number} is not 0 … 7`);
    const there = parent.at(number);
    if (there)
      throw new AddressConflict(
        `${fn.name} and ${there.function.name} are both function ${number} behind ${bdf(rootPort)}`,
      );
    parent.plug(number, fn, port, onAddress, isCold);
    this.#decodeChanged();
  }

  /** Takes a function away from behind a root port, whatever it does at the moment; `onAddress` hears undefined. */
  unplugBehind(rootPort: Rid, number: number): void {
    this.#rootPorts.get(rootPort)?.unplug(number);
  }

  /** The hot-plug slot of a root port, where it has one. */
  hotPlugSlot(rootPort: Rid): HotPlugSlot | undefined {
    return this.#rootPorts.get(rootPort)?.hotPlug;
  }

  /** All functions by ascending address, each root port followed by what is behind it; the host bridge first. */
  functions(): readonly PluggedFunction[] {
    return this.#sorted().flatMap((slot) => [
      view(slot, { rid: slot.rid }),
      ...(this.#rootPorts.get(slot.rid)?.children() ?? []).map(({ slot: child, address }) =>
        view(child, { rid: address, behind: slot.rid }),
      ),
    ]);
  }

  /** Power-on state of every function. */
  reset(): void {
    for (const slot of this.#slots.values()) slot.reset();
  }

  #savedOf(address: number, slot: PciSlot): PciSlot['saved'] {
    return this.#rootPorts.get(address)?.saved ?? slot.saved;
  }

  #restore(states: Readonly<Record<string, Data>>): void {
    const names = [...this.#slots.keys()].map(bdf);
    const strangers = Object.keys(states).filter((name) => !names.includes(name));
    if (strangers.length > 0) throw new SavedError(`there is no function ${strangers[0]}`);
    for (const [address, slot] of this.#slots)
      within(bdf(address), () => this.#savedOf(address, slot).restore(states[bdf(address)]));
  }

  get #shared(): { trace: Trace; decodeChanged: () => void } {
    return { trace: this.#trace, decodeChanged: () => this.#decodeChanged() };
  }

  #check(address: Rid, name: string): void {
    const there = this.#slots.get(address);
    if (there) throw new AddressConflict(`${name} and ${there.function.name} are both at PCI address ${bdf(address)}`);
    if (address < 0 || address > 0xff) throw new RangeError(`${name}: PCI address ${bdf(address)} is not on bus 0`);
  }

  #add(slot: PciSlot): void {
    this.#slots.set(slot.rid, slot);
    this.#markMultiFunction(slot.rid);
    this.#decodeChanged();
  }

  #sorted(): PciSlot[] {
    return [...this.#slots.values()].toSorted((a, b) => a.rid - b.rid);
  }

  #routes(space: AddressSpace): Route[] {
    return this.#sorted().flatMap((slot) => [
      ...slot.decoded(space).map(routeOf),
      ...(this.#rootPorts.get(slot.rid)?.routes(space) ?? []),
    ]);
  }

  /** Who answers a configuration request. */
  #find(address: number): PciSlot | undefined {
    if (address <= 0xff) return this.#slots.get(address);
    for (const rootPort of this.#rootPorts.values()) {
      const slot = rootPort.find(address);
      if (slot) return slot;
    }
    return undefined;
  }

  /** Header Type bit 7 at function 0 tells software to look at the others (§7.5.1.1.9). */
  #markMultiFunction(address: Rid): void {
    const first = address & ~7;
    const zero = this.#slots.get(first);
    const others = [1, 2, 3, 4, 5, 6, 7].some((fn) => this.#slots.has(first + fn));
    if (zero && others) zero.config.setReset('header_type', zero.config.get('header_type') | 0x80);
  }

  #decodeChanged(): void {
    for (const space of this.#spaces) space.changed();
  }

  #ecam(): MmioDevice {
    const readWord = (offset: number, bytes: 1 | 2 | 4): number => {
      const slot = this.#find(offset >>> 12);
      if (!slot || (offset & 3) + bytes > 4) return 2 ** (8 * bytes) - 1;
      return slot.config.read(offset & 0xfff, bytes);
    };
    const writeWord = (offset: number, bytes: 1 | 2 | 4, value: number): void => {
      const slot = this.#find(offset >>> 12);
      if (!slot || (offset & 3) + bytes > 4) return;
      const told = this.#trace.on
        ? ({ name, value, meaning }: ConfigValue): void =>
            this.#trace.emit('pci.config-write', { function: slot.rid, register: name, value, meaning })
        : undefined;
      slot.config.write(offset & 0xfff, bytes, value, told);
    };
    return {
      read(offset, bytes) {
        if (bytes !== 8) return readWord(offset, bytes);
        if (offset % 4 !== 0) return allOnes(8);
        return (BigInt(readWord(offset + 4, 4)) << 32n) | BigInt(readWord(offset, 4));
      },
      write(offset, bytes, value) {
        if (bytes !== 8) return writeWord(offset, bytes, Number(value));
        if (offset % 4 !== 0) return;
        const whole = BigInt.asUintN(64, BigInt(value));
        writeWord(offset, 4, Number(whole & 0xffff_ffffn));
        writeWord(offset + 4, 4, Number(whole >> 32n));
      },
      reset: () => this.reset(),
    };
  }
}

/** PCI's memory or I/O space. Routes are recomputed at the first access after a BAR or an enable bit changed. */
class PciSpace {
  readonly #wanted: () => Route[];
  readonly #beforeAccess: ((rid: number) => void) | undefined;
  readonly #routes = new Routes();
  #isStale = true;
  #first = 0;
  #end = 0;
  #bar: DecodedBar | undefined;

  constructor(wanted: () => Route[], beforeAccess: ((rid: number) => void) | undefined) {
    this.#wanted = wanted;
    this.#beforeAccess = beforeAccess;
  }

  changed(): void {
    this.#isStale = true;
    this.#first = 0;
    this.#end = 0;
  }

  /** The bus region whose offset 0 is PCI address `pciBase`. */
  window(pciBase: number): MmioDevice {
    return {
      read: (offset, bytes) => {
        const bar = this.#find(pciBase + offset, bytes);
        if (bar) this.#beforeAccess?.(bar.rid);
        return bar ? bar.device.read(pciBase + offset - bar.address, bytes) : allOnes(bytes);
      },
      write: (offset, bytes, value) => {
        const bar = this.#find(pciBase + offset, bytes);
        if (bar) this.#beforeAccess?.(bar.rid);
        bar?.device.write(pciBase + offset - bar.address, bytes, value);
      },
      reset: () => {},
    };
  }

  nameAt(address: number): string | undefined {
    return this.#find(address, 1)?.name;
  }

  #find(address: number, bytes: number): DecodedBar | undefined {
    if (address >= this.#first && address + bytes <= this.#end) return this.#bar;
    if (this.#isStale) {
      this.#routes.set(this.#wanted());
      this.#isStale = false;
    }
    const route = this.#routes.find(address, bytes);
    if (!route) return undefined;
    this.#first = route.first;
    this.#end = route.end;
    this.#bar = route.bar;
    return route.bar;
  }
}

function view(slot: PciSlot, place: { rid: Rid | undefined; behind?: Rid }): PluggedFunction {
  return {
    ...place,
    function: slot.function,
    registers: () => slot.config.values(),
    capabilities: () => {
      const values = slot.config.values();
      return slot.capabilities.map(({ capability: { name, id, bytes, extended }, offset }) => ({
        name,
        id,
        isExtended: extended !== undefined,
        offset,
        registers: values.filter((value) => value.offset >= offset && value.offset < offset + bytes),
      }));
    },
    bars: () => [...slot.decoded('memory'), ...slot.decoded('io')],
  };
}
