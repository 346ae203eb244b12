import { hex } from '#vmm/base/address';
import { type EventKind, type EventParts, quiet, type Trace } from '#vmm/base/events';
import type { AccessBytes, MmioDevice } from '#vmm/base/ports';

/** What a hart sees of everything that is not RAM. */
export interface PhysicalBus {
  /** Undefined where nothing answers: the hart takes an access fault. 8 bytes come as a bigint. */
  read(address: number, bytes: AccessBytes): number | bigint | undefined;
  /** False where nothing answers. */
  write(address: number, bytes: AccessBytes, value: number | bigint): boolean;
}

/** One range of guest-physical addresses. */
export interface Region {
  /** Unique; what traces, errors and `inspect memory-map` call it. */
  readonly name: string;
  /** First guest-physical address. */
  readonly base: number;
  readonly bytes: number;
  readonly device: MmioDevice;
  /** For regions that others live in (PCI windows): who answers at this offset, for traces. */
  readonly nameAt?: (offset: number) => string;
}

const fields = ({ subject, value, a, b }: EventParts) => ({ region: subject, address: a, bytes: b, value });
const readEvent: EventKind = { name: 'mmio.read', fields };
const writeEvent: EventKind = { name: 'mmio.write', fields };

/** Two things were put at one address: a configuration mistake, to be told to the user as it is. */
export class AddressConflict extends Error {
  override readonly name = 'AddressConflict';
}

/** The guest-physical address map of MMIO. Regions never overlap; an access that leaves its region has no target. */
export class Bus implements PhysicalBus {
  readonly #trace: Trace;
  /** Sorted by base. */
  readonly #regions: Region[] = [];
  #hit: Region | undefined;
  #hitBase = 0;
  #hitEnd = 0;

  constructor(trace: Trace = quiet) {
    this.#trace = trace;
  }

  /**
   * @throws AddressConflict naming both regions where they overlap.
   * @throws RangeError for a range that is empty or not of whole byte addresses below 2^53.
   */
  attach(region: Region): void {
    const { name, base, bytes } = region;
    if (!Number.isSafeInteger(base) || base < 0 || !Number.isSafeInteger(bytes) || bytes <= 0)
      throw new RangeError(`${name}: not an address range: ${base} + ${bytes}`);
    if (!Number.isSafeInteger(base + bytes)) throw new RangeError(`${name}: ends above 2^53`);
    const at = this.#indexAfter(base);
    for (const other of [this.#regions[at - 1], this.#regions[at]])
      if (other && other.base < base + bytes && base < other.base + other.bytes)
        throw new AddressConflict(`${describe(region)} overlaps ${describe(other)}`);
    this.#regions.splice(at, 0, region);
  }

  /** All regions by ascending address. */
  regions(): readonly Region[] {
    return this.#regions;
  }

  read(address: number, bytes: AccessBytes): number | bigint | undefined {
    if (address < this.#hitBase || address + bytes > this.#hitEnd) {
      if (!this.#find(address, bytes)) return undefined;
    }
    const region = this.#hit!;
    const value = region.device.read(address - region.base, bytes);
    if (this.#trace.on) this.#tell(readEvent, region, address, bytes, value);
    return value;
  }

  write(address: number, bytes: AccessBytes, value: number | bigint): boolean {
    if (address < this.#hitBase || address + bytes > this.#hitEnd) {
      if (!this.#find(address, bytes)) return false;
    }
    const region = this.#hit!;
    // Told before it acts, so that what the store causes comes after it in the trace.
    if (this.#trace.on) this.#tell(writeEvent, region, address, bytes, value);
    region.device.write(address - region.base, bytes, value);
    return true;
  }

  #tell(event: EventKind, region: Region, address: number, bytes: number, value: number | bigint): void {
    const name = region.nameAt?.(address - region.base) ?? region.name;
    this.#trace.tell(event, name, '', value, address, bytes);
  }

  #find(address: number, bytes: number): boolean {
    const region = this.#regions[this.#indexAfter(address) - 1];
    if (!region || address + bytes > region.base + region.bytes) return false;
    this.#hit = region;
    this.#hitBase = region.base;
    this.#hitEnd = region.base + region.bytes;
    return true;
  }

  /** Index of the first region that starts above `address`. */
  #indexAfter(address: number): number {
    let low = 0;
    let high = this.#regions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#regions[middle]!.base <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

const describe = (region: Region): string =>
  `${region.name} at ${hex(region.base)}–${hex(region.base + region.bytes - 1)}`;
