import type { Machine } from '../machine/machine.ts';
import { physicalOf, ramPieces } from './guest-view.ts';

/** By the length of the instruction replaced: c.ebreak, ebreak (unprivileged ISA §2.8, §27.5). */
const instructions: Readonly<Record<number, readonly number[]>> = { 2: [0x02, 0x90], 4: [0x73, 0x00, 0x10, 0x00] };

interface Breakpoint {
  readonly address: bigint;
  readonly bytes: number;
  /** Where it was put into RAM, and what was there; undefined while nothing is mapped at its address. */
  place: { readonly physical: bigint; readonly original: Uint8Array } | undefined;
}
interface Watchpoint {
  readonly address: bigint;
  readonly bytes: number;
  readonly physical: number;
}

/** Breakpoints are instructions in guest RAM; one whose address is not mapped yet is put there as soon as it is. */
export class Breakpoints {
  readonly #machine: Machine;
  readonly #breakpoints = new Map<bigint, Breakpoint>();
  readonly #watchpoints = new Map<bigint, Watchpoint>();
  /** The watchpoint that was met last. */
  hit: { readonly hart: number; readonly address: bigint } | undefined;

  constructor(machine: Machine) {
    this.#machine = machine;
    machine.onStore = (hart, physical) => this.#stored(hart, physical);
  }

  add(address: bigint, bytes: number): boolean {
    if (!instructions[bytes]) return false;
    if (!this.#breakpoints.has(address)) this.#breakpoints.set(address, { address, bytes, place: undefined });
    this.insertPending();
    return true;
  }

  remove(address: bigint): void {
    const found = this.#breakpoints.get(address);
    if (!found) return;
    this.#breakpoints.delete(address);
    this.#takeOut(found);
    this.#fence();
  }

  /** Stores to an address that is mapped now. */
  watch(address: bigint, bytes: number): boolean {
    const physical = physicalOf(this.#machine.harts[0]!, address);
    if (physical === undefined || !this.#machine.harts[0]!.guestBytes(physical, BigInt(bytes))) return false;
    this.#watchpoints.set(address, { address, bytes, physical: Number(physical) });
    this.#machine.watchStores(Number(physical));
    return true;
  }
  unwatch(address: bigint): void {
    this.#watchpoints.delete(address);
  }

  clear(): void {
    for (const one of this.#breakpoints.values()) this.#takeOut(one);
    this.#breakpoints.clear();
    this.#fence();
    this.#watchpoints.clear();
  }

  /** Some wait for their address to be mapped. */
  get arePending(): boolean {
    for (const { place } of this.#breakpoints.values()) if (!place) return true;
    return false;
  }

  insertPending(): void {
    let isAny = false;
    for (const one of this.#breakpoints.values()) if (!one.place && this.#insert(one)) isAny = true;
    if (isAny) this.#fence();
  }

  /** One of ours is at this address. */
  isAt(virtual: bigint): boolean {
    if (this.#breakpoints.has(virtual)) return true;
    for (const hart of this.#machine.harts) {
      const physical = physicalOf(hart, virtual);
      for (const { place } of this.#breakpoints.values()) if (place && place.physical === physical) return true;
    }
    return false;
  }

  /** Lets `action` see and change RAM as it is without breakpoints. */
  aside<T>(action: () => T, changes: boolean): T {
    const inserted = [...this.#breakpoints.values()].filter(({ place }) => place);
    for (const one of inserted) this.#takeOut(one);
    try {
      return action();
    } finally {
      for (const one of inserted) this.#insert(one);
      if (changes) this.#fence();
    }
  }

  #insert(one: Breakpoint): boolean {
    for (const hart of this.#machine.harts) {
      const physical = physicalOf(hart, one.address);
      const target = physical === undefined ? undefined : ramPieces(hart, physical, one.bytes, true);
      // One that lies in two pages would need two places; compilers align what matters.
      if (!target || target.length !== 1) continue;
      one.place = { physical: physical!, original: target[0]!.slice() };
      target[0]!.set(instructions[one.bytes]!);
      return true;
    }
    return false;
  }

  #takeOut(one: Breakpoint): void {
    if (!one.place) return;
    const { physical, original } = one.place;
    ramPieces(this.#machine.harts[0]!, physical, one.bytes, true)?.[0]?.set(original);
    one.place = undefined;
  }

  #fence(): void {
    for (const hart of this.#machine.harts) hart.fenceCode();
  }

  /** A store may be up to 8 bytes long; GDB compares the value and goes on where it has not changed. */
  #stored(hart: number, physical: number): void {
    for (const { address, bytes, physical: first } of this.#watchpoints.values())
      if (physical > first - 8 && physical < first + bytes) {
        this.hit = { hart, address };
        this.#machine.interrupt();
        return;
      }
  }
}
