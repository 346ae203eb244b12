import { bdf, type Rid, rid } from '#vmm/base/address';
import { quiet, type Trace } from '#vmm/base/events';
import type { AccessBytes, DmaPort, MmioDevice, PciFunction } from '#vmm/base/ports';
import { AddressConflict, type Bus } from '../bus.ts';
import type { ConfigValue } from './config-space.ts';
import { PciSlot } from './function.ts';
import { hostBridge } from './host-bridge.ts';
import { type DecodedBar, Routes } from './routes.ts';

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
}

/** A function on the bus as `inspect pci` and the machine see it. */
export interface PluggedFunction {
  readonly rid: Rid;
  readonly function: PciFunction;
  /** Every configuration register by ascending offset. */
  registers(): readonly ConfigValue[];
  /** BARs that decode now. */
  bars(): readonly DecodedBar[];
}

/** What a read returns that no function completes (PCI Express Base 6.0 §2.3.2: all ones towards the CPU). */
const allOnes = (bytes: AccessBytes): number | bigint => (bytes === 8 ? 0xffff_ffff_ffff_ffffn : 2 ** (8 * bytes) - 1);

/** An ECAM host with root complex integrated endpoints on bus 0, and the windows through which the CPU reaches BARs. */
export class PciHost {
  readonly #trace: Trace;
  /** By requester id, the host bridge at 00:00.0 included. */
  readonly #slots = new Map<number, PciSlot>();
  readonly #spaces: readonly PciSpace[];

  /** @throws AddressConflict where a window overlaps another region of the bus. */
  constructor({ bus, ecam, windows, trace = quiet }: PciHostOptions) {
    this.#trace = trace;
    const decoded = (space: 'memory' | 'io') => (): DecodedBar[] =>
      [...this.#slots.values()].toSorted((a, b) => a.rid - b.rid).flatMap((slot) => slot.decoded(space));
    const io = new PciSpace(decoded('io'));
    const memory = new PciSpace(decoded('memory'));
    this.#spaces = [io, memory];
    bus.attach({ name: 'pci-ecam', ...ecam, device: this.#ecam() });
    const attach = (name: string, window: AddressWindow, space: PciSpace, pciBase: number): void => {
      const device = space.window(pciBase);
      bus.attach({ name, ...window, device, nameAt: (offset) => space.nameAt(pciBase + offset) ?? name });
    };
    attach('pci-io', windows.io, io, 0);
    attach('pci-memory32', windows.memory32, memory, windows.memory32.base);
    attach('pci-memory64', windows.memory64, memory, windows.memory64.base);
    this.plug(rid(0), hostBridge(), noMemory);
  }

  /**
   * Puts a function on bus 0 at `address` (device << 3 | function) and connects it.
   * @throws AddressConflict naming both functions where one sits there already.
   * @throws RangeError for an address that is not on bus 0, or a function above 0 whose device has none at 0.
   */
  plug(address: Rid, fn: PciFunction, port: DmaPort): void {
    const there = this.#slots.get(address);
    if (there)
      throw new AddressConflict(`${fn.name} and ${there.function.name} are both at PCI address ${bdf(address)}`);
    if (address < 0 || address > 0xff) throw new RangeError(`${fn.name}: PCI address ${bdf(address)} is not on bus 0`);
    const slot = new PciSlot(address, fn, port, this.#trace, () => this.#decodeChanged());
    this.#slots.set(address, slot);
    this.#markMultiFunction(address);
    this.#decodeChanged();
  }

  /** All functions by ascending address, the host bridge first. */
  functions(): readonly PluggedFunction[] {
    return [...this.#slots.values()]
      .toSorted((a, b) => a.rid - b.rid)
      .map((slot) => ({
        rid: slot.rid,
        function: slot.function,
        registers: () => slot.config.values(),
        bars: () => [...slot.decoded('memory'), ...slot.decoded('io')],
      }));
  }

  /** Power-on state of every function. */
  reset(): void {
    for (const slot of this.#slots.values()) slot.reset();
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
      const slot = this.#slots.get(Math.floor(offset / 4096));
      if (!slot || (offset & 3) + bytes > 4) return 2 ** (8 * bytes) - 1;
      return slot.config.read(offset & 0xfff, bytes);
    };
    const writeWord = (offset: number, bytes: 1 | 2 | 4, value: number): void => {
      const slot = this.#slots.get(Math.floor(offset / 4096));
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
  readonly #decoded: () => DecodedBar[];
  readonly #routes = new Routes();
  #isStale = true;
  #first = 0;
  #end = 0;
  #bar: DecodedBar | undefined;

  constructor(decoded: () => DecodedBar[]) {
    this.#decoded = decoded;
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
        return bar ? bar.device.read(pciBase + offset - bar.address, bytes) : allOnes(bytes);
      },
      write: (offset, bytes, value) => {
        const bar = this.#find(pciBase + offset, bytes);
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
      this.#routes.set(this.#decoded());
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

/** The host bridge's own port: it issues nothing. */
const noMemory: DmaPort = {
  memory: new Uint8Array(0),
  read: () => nothing,
  write: () => nothing,
  message: () => false,
};
const nothing = { count: 0, offsets: new Float64Array(0), lengths: new Int32Array(0), faults: [] };
